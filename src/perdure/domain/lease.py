"""The lease: one worker's exclusive right to run and settle one attempt of one job."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Lease(msgspec.Struct, frozen=True):
    """A claimed job with all that is needed to run it and to settle it.

    A msgspec struct and not a dataclass: one is built for every job that is claimed, positionally from a
    database row, and a frozen dataclass of this size costs ten times as much.

    `attempt` is the attempt that this lease runs, from 1; it counts failures only. `crashes` counts
    crashes while running alone, `interruptions` releases of a started attempt, `suspicion` how strongly
    the job is suspected of killing its process (`perdure.domain.settlement`). Times are microseconds since
    1970: hardly any job asks for them, and making a `datetime` of each would cost a tenth of claiming it.
    """

    job_id: UUID
    token: UUID
    lane: int
    run: int
    attempt: int
    crashes: int
    interruptions: int
    suspicion: int
    args: str
    priority: int
    max_attempts: int
    timeout_ms: int | None
    crash_limit: int | None
    available_us: int
    claimed_us: int
    metadata: str | None = None
    queue: str = ""
    kind: str = ""

    @property
    def available_at(self) -> datetime:
        """Since when the job has waited for this attempt."""
        return EPOCH + timedelta(microseconds=self.available_us)

    @property
    def claimed_at(self) -> datetime:
        """When this lease was given."""
        return EPOCH + timedelta(microseconds=self.claimed_us)


def microseconds(moment: datetime) -> int:
    """A moment as leases carry it."""
    return (moment - EPOCH) // timedelta(microseconds=1)
