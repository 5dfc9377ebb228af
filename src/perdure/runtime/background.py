"""An event loop in a thread, for the blocking twins of async calls."""

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from perdure.domain.errors import PerdureError

T = TypeVar("T")

LAST_WORDS_S = 2.0


class BackgroundLoop:
    """Runs coroutines for threads that have no event loop; started at first use, anew after a fork.

    The loop ends with this object or with the interpreter, and what is open on it is closed then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None

    @property
    def started(self) -> bool:
        """Whether there is a loop on which something may be open."""
        return self._running is not None and self._running.pid == os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for `coroutine` and give its result. Raises PerdureError when called on an event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            answer = asyncio.run_coroutine_threadsafe(coroutine, self._started().loop)
            try:
                return answer.result()
            except BaseException:
                answer.cancel()  # Ctrl-C ends the wait, so it must end what is waited for
                raise
        coroutine.close()
        raise PerdureError(
            "a blocking call was made on an event loop, which it would stop",
            next_step="await the method without _sync",
        )

    def _started(self) -> "_Running":
        running = self._running
        if running is not None and running.pid == os.getpid():
            return running
        if running is not None:
            self._lock = threading.Lock()  # another thread may have held it when this process was forked
        with self._lock:
            running = self._running
            if running is None or running.pid != os.getpid():
                running = self._running = _start()
                weakref.finalize(self, _end, running)
            return running


@dataclass(frozen=True, slots=True)
class _Running:
    loop: asyncio.AbstractEventLoop
    enough: asyncio.Event
    thread: threading.Thread
    pid: int


def _start() -> _Running:
    born: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=asyncio.run, args=(_serve(born),), daemon=True, name="perdure-blocking")
    thread.start()
    loop, enough = born.result()
    return _Running(loop, enough, thread, os.getpid())


async def _serve(born: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
    enough = asyncio.Event()
    born.set_result((asyncio.get_running_loop(), enough))
    await enough.wait()


def _end(running: _Running) -> None:
    if running.pid != os.getpid() or running.loop.is_closed():
        return
    running.loop.call_soon_threadsafe(running.enough.set)
    if threading.current_thread() is not running.thread:
        running.thread.join(LAST_WORDS_S)
