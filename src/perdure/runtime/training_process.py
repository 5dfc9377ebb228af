"""Has a process look after the trained models, now and then, while this supervisor leads."""

from datetime import timedelta
from importlib.util import find_spec
from typing import Protocol

import structlog

from perdure.runtime.settings import Settings
from perdure.runtime.side_process import SideProcess

log = structlog.get_logger("perdure.models")


class Turns(Protocol):
    """Whose turn it is to look after the models."""

    async def look(self, *, every: timedelta) -> bool:
        """Take the turn; false when somebody had it within that time."""
        ...


class TrainingProcess:
    """Starts the process when it is due, one at a time in the whole system, and ends it with the term."""

    def __init__(self, settings: Settings, turns: Turns) -> None:
        self._process = SideProcess("perdure.runtime.look_after_models", settings)
        self._turns = turns
        self._every = timedelta(seconds=settings.model_look_s)
        self._wanted = settings.model_training and find_spec("numpy") is not None

    async def keep(self, *, leading: bool) -> None:
        """One look: a process is started if it is due."""
        if not leading or not self._wanted:
            await self.end()
            return
        if self._process.runs:
            return
        if code := self._process.ended():
            log.warning("looking after the models failed", code=code)
        if await self._turns.look(every=self._every):
            await self._process.start()

    async def end(self) -> None:
        """End the process, if one runs; what it had not finished is done by the next."""
        await self._process.end()
