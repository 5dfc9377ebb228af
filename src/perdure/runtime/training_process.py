"""Has a process look after the trained models, now and then, while this supervisor leads."""

import asyncio
import os
import sys
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from typing import Protocol

import msgspec
import structlog

from perdure.runtime.plain_settings import plain
from perdure.runtime.settings import Settings

END_WITHIN_S = 5.0

log = structlog.get_logger("perdure.models")


class Turns(Protocol):
    """Whose turn it is to look after the models."""

    async def look(self, *, every: timedelta) -> bool:
        """Take the turn; false when somebody had it within that time."""
        ...


class TrainingProcess:
    """Starts the process when it is due, one at a time in the whole system, and ends it with the term."""

    def __init__(self, settings: Settings, turns: Turns) -> None:
        self._settings = settings
        self._turns = turns
        self._every = timedelta(seconds=settings.model_look_s)
        self._wanted = settings.model_training and find_spec("numpy") is not None
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self, *, leading: bool) -> None:
        """One look: a process is started if it is due."""
        if not leading or not self._wanted:
            await self.end()
            return
        if self._process is not None:
            if self._process.returncode is None:
                return
            if self._process.returncode:
                log.warning("looking after the models failed", code=self._process.returncode)
            self._process = None
        if await self._turns.look(every=self._every):
            await self._start()

    async def end(self) -> None:
        """End the process, if one runs; what it had not finished is done by the next."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_WITHIN_S)

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "perdure.runtime.look_after_models",
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if self._process.stdin is not None:
            orders = {"settings": plain(self._settings), "parent": os.getpid()}
            self._process.stdin.write(msgspec.json.encode(orders))
            self._process.stdin.close()
