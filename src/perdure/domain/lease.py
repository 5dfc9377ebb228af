"""The lease: one worker's exclusive right to run and settle one attempt of one job."""

from datetime import datetime
from uuid import UUID

import msgspec


class Lease(msgspec.Struct, frozen=True):
    """A claimed job with all that is needed to run it and to settle it.

    A msgspec struct and not a dataclass: one is built for every job that is claimed, positionally from a
    database row, and a frozen dataclass of this size costs ten times as much.

    `attempt` is the attempt that this lease runs, from 1; it counts failures only. `crashes` counts
    crashes while running alone, `interruptions` releases of a started attempt, `suspicion` how strongly
    the job is suspected of killing its process (`perdure.domain.settlement`).
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
    available_at: datetime
    claimed_at: datetime
    metadata: str | None = None
    queue: str = ""
    kind: str = ""
