"""Has one process remember executions while this supervisor leads and there is a Qdrant."""

from time import monotonic

import structlog

from perdure.runtime.memory import place_of
from perdure.runtime.settings import Settings
from perdure.runtime.side_process import SideProcess

PAUSE_S = 60.0

log = structlog.get_logger("perdure.memory")


class RememberingProcess:
    """Starts the process, starts it anew when it has ended, at most once a minute, and ends it with the term."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = SideProcess("perdure.runtime.remember_executions", settings)
        self._started_at: float | None = None

    async def keep(self, *, leading: bool) -> None:
        """One look: the process runs if and only if it should."""
        if not leading or place_of(self._settings) is None:
            await self.end()
            return
        if self._process.runs:
            return
        if (code := self._process.ended()) is not None:
            log.warning("the process that remembers executions ended", code=code)
        if self._started_at is None or monotonic() - self._started_at > PAUSE_S:
            self._started_at = monotonic()
            await self._process.start()

    async def end(self) -> None:
        """End the process, if one runs; the next leader's goes on where it was."""
        self._started_at = None
        await self._process.end()
