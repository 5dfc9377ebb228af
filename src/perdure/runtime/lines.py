"""How a handler's context reaches the database from the worker's own process."""

import asyncio
from datetime import timedelta
from time import monotonic
from typing import Protocol

import structlog

from perdure.domain.errors import Unavailable
from perdure.domain.failure import storable
from perdure.domain.lease import Lease
from perdure.domain.settlement import Ending, ErrorReport, Failed
from perdure.services.execution import Attempt
from perdure.stores.postgres.callers import Encode, complete, complete_sync, encoded

PROGRESS_EVERY_S = 0.5

log = structlog.get_logger("perdure.lines")


class Reports(Protocol):
    """What a line needs of the store."""

    async def report_progress(self, lease: Lease, fraction: float, note: str) -> None:
        """Keep the newest report of an attempt that still holds its lease."""
        ...

    async def holds(self, lease: Lease) -> bool:
        """Whether the lease still stands."""
        ...


class Pace:
    """Lets two reports a second through, and always the one that says 1."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = -PROGRESS_EVERY_S

    def admits(self, fraction: float) -> bool:
        now = monotonic()
        if now - self._last < PROGRESS_EVERY_S and fraction < 1:
            return False
        self._last = now
        return True


class AttemptLine:
    """The line of one attempt that runs on the loop or in a thread."""

    __slots__ = ("_attempt", "_encode", "_loop", "_pace", "_reports", "_schema", "completed", "heeded")

    def __init__(self, attempt: Attempt, reports: Reports, schema: str, *, encode: Encode = encoded) -> None:
        self._attempt = attempt
        self._reports = reports
        self._schema = schema
        self._encode = encode
        self._loop = asyncio.get_running_loop()
        self._pace = Pace()
        self.completed = False
        self.heeded = False
        """Whether the handler has looked, and was told to stop."""

    def is_cancelled(self) -> bool:
        stopped = self._attempt.stop_reason is not None
        self.heeded |= stopped
        return stopped

    async def progress(self, fraction: float, note: str) -> None:
        if self._pace.admits(fraction):
            await self._report(fraction, note)

    def progress_sync(self, fraction: float, note: str) -> None:
        if self._pace.admits(fraction):
            asyncio.run_coroutine_threadsafe(self._report(fraction, note), self._loop)

    async def complete(self, conn: object, result: object) -> None:
        lease, started = self._attempt.lease, self._attempt.started
        await complete(conn, lease, result, started=started, schema=self._schema, encode=self._encode)
        self.completed = True

    def complete_sync(self, conn: object, result: object) -> None:
        lease, started = self._attempt.lease, self._attempt.started
        complete_sync(conn, lease, result, started=started, schema=self._schema, encode=self._encode)
        self.completed = True

    async def after_complete(self, otherwise: Ending | None = None) -> Ending | None:
        """None when the handler's own transaction settled the job.

        When it was rolled back the attempt ends as `otherwise`, or, where the handler noticed nothing, as a failure.
        """
        while True:
            try:
                if not await self._reports.holds(self._attempt.lease):
                    return None
                break
            except Unavailable:
                await asyncio.sleep(PROGRESS_EVERY_S)
        if otherwise is not None:
            return otherwise
        message = "the handler called complete, but its transaction did not commit"
        report = ErrorReport(type="perdure.RolledBack", message=message, fingerprint="rolled-back")
        return Failed(error=report, retry_in=timedelta(seconds=1), cause=message)

    async def _report(self, fraction: float, note: str) -> None:
        """A report is a courtesy: one that cannot be kept fails no handler."""
        try:
            await self._reports.report_progress(self._attempt.lease, fraction, storable(note))
        except Unavailable:
            return
        except Exception:
            # Such as the time limit of the role's statements.
            log.warning("progress could not be kept", job=str(self._attempt.lease.job_id), exc_info=True)
