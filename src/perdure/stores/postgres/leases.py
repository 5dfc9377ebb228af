"""The leases as their guardians see them."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import accumulate
from math import ceil
from time import monotonic
from typing import Any
from uuid import UUID

from perdure.domain.lease import Lease, microseconds
from perdure.domain.liveness import Step
from perdure.domain.worker import WorkerId
from perdure.ports import LeaseOf
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.resting import Rest
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)
LATE_S = 1.0
"""How much later a look may come to the database than the last one did."""


class PostgresLeases:
    """The port `Leases` on PostgreSQL."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("leases", schema)
        self._strangers, self._all_overdue = Rest(), Rest()
        self._looked_back_to = 0.0
        self._stepped: list[timedelta] | None = None

    async def of_process(self, worker_id: WorkerId, process: int, *, limit: int) -> Sequence[LeaseOf]:
        return [
            held(row)
            for row in await self._database.fetch(self._sql["of_process"], worker_id, process, limit)
        ]

    async def of_dead(self, *, limit: int) -> Sequence[LeaseOf]:
        """Those of workers without a row are looked for with each call that finds fewer, but for a hundredth of the time at most."""
        rows = await self._database.fetch(self._sql["of_dead"], limit)
        if len(rows) < limit and self._strangers.over(began := monotonic()):
            rows += (strangers := await self._database.fetch(self._sql["of_strangers"], limit - len(rows)))
            if not strangers:
                self._strangers.looked(began, monotonic())
        return [held(row) for row in rows]

    async def overdue(
        self, *, observer: WorkerId, fresh_within: timedelta, steps: Sequence[Step], limit: int
    ) -> Sequence[LeaseOf]:
        """All that are overdue are looked for with each call, but for a hundredth of the time at most; else those since the last look.

        Once the database's clock has stepped all are looked for, whatever that takes.
        """
        began, stepped = monotonic(), [step.by for step in steps]
        everything = self._all_overdue.over(began) or stepped != self._stepped
        # Whose deadline has passed may have more time yet, as much as the clock stepped forward since the claim.
        excused_s = max(accumulate((by.total_seconds() for by in reversed(stepped)), initial=0.0))
        within_s = began - self._looked_back_to + excused_s + LATE_S
        try:
            rows = await self._database.fetch(
                self._sql["overdue"],
                observer, fresh_within // MILLISECOND,
                [step.by // MILLISECOND for step in steps], [step.ago // MILLISECOND for step in steps],
                None if everything else ceil(1000 * within_s), limit,
            )  # fmt: skip
        finally:
            ended = monotonic()
            if everything:
                self._all_overdue.looked(began, ended)
        found = [row for row in rows if row["job_id"] is not None]
        # A look that waited for its turn has not reached back to the last one, and the next one must.
        if rows and len(found) < limit and (everything or ended - began <= LATE_S):
            # What is found is looked for again: it may not have been ended.
            self._looked_back_to = began - max((row["late_s"] for row in found), default=0.0)
            self._stepped = stepped
        return [held(row) for row in found]

    async def of_job(self, job_id: UUID, token: UUID) -> Lease | None:
        """The lease of that token, while it stands."""
        rows = await self._database.fetch(self._sql["of_job"], job_id, token)
        return held(rows[0]).lease if rows else None

    async def report_progress(self, lease: Lease, fraction: float, note: str) -> None:
        """Keep the newest report of an attempt that still holds its lease."""
        await self._database.fetch(self._sql["report_progress"], lease.job_id, lease.token, fraction, note)

    async def holds(self, lease: Lease) -> bool:
        """Whether the lease still stands."""
        rows = await self._database.fetch(self._sql["holds"], lease.job_id, lease.token)
        return bool(rows[0]["held"])


def held(row: Any) -> LeaseOf:
    """A row of `leases` with what settling needs of its job."""
    lease = Lease(
        job_id=row["job_id"],
        token=row["token"],
        lane=row["lane"],
        run=row["run"],
        attempt=row["attempt"],
        crashes=row["crashes"],
        interruptions=row["interruptions"],
        suspicion=row["suspicion"],
        args="",
        priority=row["priority"],
        max_attempts=row["max_attempts"],
        timeout_ms=row["timeout_ms"],
        crash_limit=row["crash_limit"],
        available_us=microseconds(row["available_at"]),
        claimed_us=microseconds(row["claimed_at"]),
    )
    return LeaseOf(
        lease=lease, worker_id=WorkerId(row["worker_id"]), process=row["process"], isolated=row["isolated"]
    )
