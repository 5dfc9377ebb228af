"""Has one process remember executions while this supervisor leads and there is a Qdrant."""

import asyncio
import os
import sys
from contextlib import suppress
from time import monotonic

import msgspec
import structlog

from perdure.runtime.memory import place_of
from perdure.runtime.plain_settings import plain
from perdure.runtime.settings import Settings

PAUSE_S = 60.0
END_WITHIN_S = 5.0

log = structlog.get_logger("perdure.memory")


class RememberingProcess:
    """Starts the process, starts it anew when it has ended, at most once a minute, and ends it with the term."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._started_at: float | None = None

    async def keep(self, *, leading: bool) -> None:
        """One look: the process runs if and only if it should."""
        if not leading or place_of(self._settings) is None:
            await self.end()
            return
        if self._process is not None and self._process.returncode is None:
            return
        if self._process is not None:
            log.warning("the process that remembers executions ended", code=self._process.returncode)
            self._process = None
        if self._started_at is None or monotonic() - self._started_at > PAUSE_S:
            self._started_at = monotonic()
            await self._start()

    async def end(self) -> None:
        """End the process, if one runs; the next leader's goes on where it was."""
        process, self._process = self._process, None
        self._started_at = None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_WITHIN_S)

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "perdure.runtime.remember_executions",
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if self._process.stdin is not None:
            orders = {"settings": plain(self._settings), "parent": os.getpid()}
            self._process.stdin.write(msgspec.json.encode(orders))
            self._process.stdin.close()
