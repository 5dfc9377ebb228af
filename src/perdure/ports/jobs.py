"""The seams to jobs and to their leases."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from perdure.domain.job import Enqueued, NewJob
from perdure.domain.lease import Lease
from perdure.domain.liveness import Step
from perdure.domain.settlement import Settlement
from perdure.domain.worker import WorkerId


class Place(NamedTuple):
    """Where an available job waits: enough to find its row by the primary key."""

    lane: int
    band: int
    rank: int
    job_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What settling did: the tokens it accepted, and the jobs that became available by it.

    A token that was handed in and is not among `accepted` had lost its lease; its outcome was dropped and
    the refusal recorded. `locked` are those that had to wait for somebody else's open transaction and were left as they are.
    """

    accepted: frozenset[UUID]
    released: Sequence[Place] = ()
    locked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOf:
    """A lease as the rescuer sees it."""

    lease: Lease
    worker_id: WorkerId
    process: int
    isolated: bool


class Jobs(Protocol):
    """The life of jobs: enqueue them, settle their attempts, make due ones available."""

    async def enqueue(self, jobs: Sequence[NewJob], *, on_duplicate: str = "raise") -> Sequence[Enqueued]:
        """Store the jobs, all or none, durably before the answer."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """Record where attempts leave their jobs, each only while its token stands: all in one transaction, or none.

        Successes go by themselves, and all other endings by themselves: each takes the locks of concurrency keys last and then waits
        for nobody. In one transaction the second would wait for what a user's open transaction has locked while the first keeps all
        claims of its keys waiting.
        Raises ValueError when both are mixed, and InvalidInput when a value can never be stored, so that repeating the call is useless.
        """
        ...

    async def settle_unlocked(self, settlements: Sequence[Settlement]) -> Settled:
        """As `settle`, for attempts that others have given up: each that waits for somebody's open transaction is left out.

        What is left out holds its lease as before, and can be settled once that transaction has ended.
        """
        ...

    async def refuse(self, settlements: Sequence[Settlement], worker_id: UUID) -> frozenset[UUID]:
        """Record outcomes whose lease was gone and give the tokens of those that no earlier try had settled."""
        ...

    async def stage(self, *, limit: int) -> Sequence[Place]:
        """Make up to `limit` scheduled or retryable jobs whose time has come available."""
        ...

    async def resolve(self, *, limit: int) -> Sequence[Place]:
        """Look once more at dependencies that were written while a parent ended, and release what may start."""
        ...

    async def unpark(self) -> Sequence[Place]:
        """Make jobs available that wait for a slot of their concurrency key while slots are free."""
        ...


class Leases(Protocol):
    """The leases as their guardians see them."""

    async def of_process(self, worker_id: WorkerId, process: int, *, limit: int) -> Sequence[LeaseOf]:
        """The leases held by one process of a worker."""
        ...

    async def of_dead(self, *, limit: int) -> Sequence[LeaseOf]:
        """The leases held by workers that are dead or stopped, or have no row."""
        ...

    async def overdue(
        self, *, observer: WorkerId, fresh_within: timedelta, steps: Sequence[Step], limit: int
    ) -> Sequence[LeaseOf]:
        """The leases past their deadline, while the observer's own heartbeat is fresh by the same clock.

        What was claimed before a step of the clock has as much more time, or less.
        """
        ...
