"""How a handler's context reaches the database from the worker's own process."""

import asyncio
from datetime import timedelta
from time import monotonic
from typing import Protocol

from perdure.domain.errors import Unavailable
from perdure.domain.lease import Lease
from perdure.domain.settlement import Ending, ErrorReport, Failed
from perdure.stores.postgres.callers import complete, complete_sync

PROGRESS_EVERY_S = 0.5


class Reports(Protocol):
    """What a line needs of the store."""

    async def report_progress(self, lease: Lease, fraction: float, note: str) -> None:
        """Keep the newest report of an attempt that still holds its lease."""

    async def holds(self, lease: Lease) -> bool:
        """Whether the lease still stands."""


class AttemptLine:
    """The line of one attempt that runs on the loop or in a thread."""

    __slots__ = ("_last", "_lease", "_loop", "_reports", "_schema", "cancelled", "completed")

    def __init__(self, lease: Lease, reports: Reports, schema: str) -> None:
        self._lease = lease
        self._reports = reports
        self._schema = schema
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self.cancelled = False
        self.completed = False

    def is_cancelled(self) -> bool:
        return self.cancelled

    async def progress(self, fraction: float, note: str) -> None:
        """At most two reports a second are written, and always the one that says 1."""
        now = monotonic()
        if now - self._last < PROGRESS_EVERY_S and fraction < 1:
            return
        self._last = now
        try:
            await self._reports.report_progress(self._lease, fraction, note)
        except Unavailable:
            return

    def progress_sync(self, fraction: float, note: str) -> None:
        asyncio.run_coroutine_threadsafe(self.progress(fraction, note), self._loop)

    async def complete(self, conn: object, result: object) -> None:
        await complete(conn, self._lease.job_id, self._lease.token, result, schema=self._schema)
        self.completed = True

    def complete_sync(self, conn: object, result: object) -> None:
        complete_sync(conn, self._lease.job_id, self._lease.token, result, schema=self._schema)
        self.completed = True

    async def after_complete(self) -> Ending | None:
        """None when the handler's own transaction settled the job; a failure when it was rolled back."""
        while True:
            try:
                if not await self._reports.holds(self._lease):
                    return None
                break
            except Unavailable:
                await asyncio.sleep(PROGRESS_EVERY_S)
        message = "the handler called complete, but its transaction did not commit"
        report = ErrorReport(type="perdure.RolledBack", message=message, fingerprint="rolled-back")
        return Failed(error=report, retry_in=timedelta(seconds=1), cause=message)
