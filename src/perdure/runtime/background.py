"""An event loop in a thread, for the blocking twins of async calls."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from perdure.domain.errors import PerdureError

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for threads that have no event loop; started at first use, anew after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for `coroutine` and give its result. Raises PerdureError when called on an event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(coroutine, self._started()).result()
        coroutine.close()
        raise PerdureError(
            "a blocking call was made on an event loop, which it would stop",
            next_step="await the method without _sync",
        )

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop = asyncio.new_event_loop()
                self._pid = os.getpid()
                threading.Thread(target=self._loop.run_forever, daemon=True, name="perdure-blocking").start()
            return self._loop
