"""The seams: what the services need from the technologies, each a small protocol with its law."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from perdure.domain.criteria import Criteria
from perdure.domain.explain import Facts
from perdure.domain.job import Enqueued, JobId, JobState, NewJob
from perdure.domain.lease import Lease
from perdure.domain.liveness import Heartbeat
from perdure.domain.rank import Band
from perdure.domain.settlement import Settlement
from perdure.domain.views import (
    Acted,
    CountView,
    DeadLetterPage,
    GroupView,
    JobDetail,
    JobPage,
    QueueView,
    ResultView,
    StatusView,
    WorkerView,
)
from perdure.domain.worker import Beat, NewWorker, WorkerId


class Clock(Protocol):
    """Time as the system sees it; tests bring their own."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


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
    the refusal recorded.
    """

    accepted: frozenset[UUID]
    released: Sequence[Place] = ()


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
        """Record where attempts leave their jobs, each only while its token stands; all in one transaction.

        Raises InvalidInput when a value can never be stored, so that repeating the call is useless.
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
        """The leases held by workers that are dead or stopped."""
        ...

    async def overdue(self, *, limit: int) -> Sequence[LeaseOf]:
        """The leases past their deadline."""
        ...


class Workers(Protocol):
    """The rows of the workers."""

    async def register(self, worker: NewWorker) -> None:
        """Write the row of a worker that starts."""
        ...

    async def beat(
        self, worker_id: WorkerId, *, kinds: Sequence[str], processes: int, deaf: int = 0
    ) -> Beat | None:
        """Say that the worker lives; None when its row says otherwise, so that it must stop and register anew.

        `deaf` is the number of its processes that hear no notifications.
        """
        ...

    async def heartbeats(self) -> Sequence[Heartbeat]:
        """The last heartbeats of all workers that live."""
        ...

    async def declare_dead(
        self, silent: Mapping[WorkerId, datetime], *, observer: WorkerId, fresh_within: timedelta
    ) -> Sequence[WorkerId]:
        """Mark workers dead whose last heartbeat is still this one, while the observer's own is fresh; tells which."""
        ...

    async def stop(self, worker_id: WorkerId, *, cause: str) -> None:
        """Say that the worker has ended by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a claimer may take: its queues, kinds and labels."""

    queues: tuple[str, ...]
    kinds: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimer:
    """Who claims: a process of a worker. An isolated one takes suspects alone."""

    worker_id: WorkerId
    process: int
    isolated: bool = False


class Dispatch(Protocol):
    """Answers what a worker may start next; never decides how a job ends."""

    async def announce(self, places: Sequence[Place]) -> None:
        """Make committed, available jobs known to waiting workers; a hint that may be lost or repeated."""
        ...

    async def claim(self, claimer: Claimer, scope: Scope, *, limit: int) -> Sequence[Lease]:
        """Lease up to `limit` jobs of the scope, best rank first, each to one claimer only; may give none.

        Raises WorkerGone unless the worker's row says that it lives; one that drains gets none.
        """
        ...

    async def wait(self, timeout: timedelta) -> bool:
        """Sleep until a doorbell rings or the time is up; true when it rang."""
        ...

    async def release(self, worker_id: WorkerId) -> None:
        """Forget what dispatch keeps about a worker that has ended."""
        ...

    async def depths(self) -> Mapping[Band, int]:
        """Count the jobs waiting in each band; may lag behind the truth."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of violation of one promise: how often it was found, with up to ten examples in words."""

    promise: str
    clause: str
    violations: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a look at the whole history found, all of one moment.

    `looked` is how many rows each promise was judged by, `live` how many jobs have not ended, by state.
    """

    taken_at: datetime
    looked: Mapping[str, int]
    found: Sequence[Finding]
    live: Mapping[JobState, int]


class History(Protocol):
    """The history and the present, read whole to see whether the promises hold."""

    async def findings(self, *, crash_limit: int, interruption_limit: int, drained: bool = False) -> Findings:
        """Look for every known violation, on one consistent snapshot; the limits are for jobs without their own.

        With `drained`, whatever is live and not held back is a violation too (L1).
        """
        ...

    async def live(self) -> Mapping[JobState, int]:
        """How many jobs have not ended, by state."""
        ...


class Insights(Protocol):
    """Reads for faces; changes nothing, and stops within the budget given.

    Pages come back partial with a note when the budget is used up; other questions raise DatabaseUnavailable.
    """

    async def jobs(self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta) -> JobPage:
        """The jobs that match, the newest first, from the cursor on. Raises InvalidOption for a bad cursor."""
        ...

    async def job(self, job_id: UUID, *, budget: timedelta) -> JobDetail | None:
        """One job in full."""
        ...

    async def facts(self, job_id: UUID, *, budget: timedelta) -> Facts | None:
        """What decides whether one job may start."""
        ...

    async def result_of(self, job_id: UUID) -> ResultView | None:
        """Where one job stands, with its result or its error, in one cheap query."""
        ...

    async def counts(self, *, budget: timedelta) -> Sequence[CountView]:
        """How many jobs are in each state."""
        ...

    async def queues(self, name: str | None, *, budget: timedelta) -> Sequence[QueueView]:
        """All queues, or the one of that name."""
        ...

    async def workers(
        self, *, alive_only: bool, key: str | None = None, budget: timedelta
    ) -> Sequence[WorkerView]:
        """The workers, the newest first; with `key` those of that id or name."""
        ...

    async def groups(self, criteria: Criteria, *, limit: int, budget: timedelta) -> Sequence[GroupView]:
        """The dead letters by cause, the largest group first."""
        ...

    async def letters(
        self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta
    ) -> DeadLetterPage:
        """The dead letters that match, the newest first, from the cursor on."""
        ...

    async def status(self, *, budget: timedelta) -> StatusView:
        """The system on one screen; parts that do not come in time are left out and named."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who acts, and why: both stay in the events."""

    actor: str
    reason: str = ""


class Control(Protocol):
    """Changes by somebody's will; each answers for every job that it was given, and leaves an event for each change.

    A job that moves while it is acted on is looked for again, a bounded number of times.
    """

    async def cancel(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        """End waiting jobs as cancelled, and ask the workers of running ones to stop."""
        ...

    async def retry(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        """Make retryable and scheduled jobs available in their run, discarded and cancelled ones in a new run."""
        ...

    async def replay(self, delays: Mapping[UUID, timedelta], by: By) -> Sequence[Acted]:
        """Open a new run of dead letters, each after its delay."""
        ...

    async def drop(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        """Take dead letters out of their queue; their jobs stay discarded."""
        ...

    async def pause(self, queue: str, by: By) -> bool:
        """Leave a queue out of all claims; false when it was already. Raises NotFound."""
        ...

    async def resume(self, queue: str, by: By) -> bool:
        """Let a queue be claimed from again; false when it could be already. Raises NotFound."""
        ...

    async def drain(self, worker_id: UUID, by: By) -> bool:
        """Ask a worker to take nothing new; false when it was asked already. Raises NotFound unless it lives."""
        ...

    async def sweep_cancel_requests(self, *, limit: int) -> int:
        """Forget requests whose lease has ended, and carry those on whose jobs have not: a duty of the leader."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionChanges:
    """Which day partitions were made or dropped; by name, why others were kept on purpose or could not be changed yet."""

    done: Sequence[str]
    kept: Mapping[str, str] = field(default_factory=dict)
    postponed: Mapping[str, str] = field(default_factory=dict)


class Keeping(Protocol):
    """The upkeep of the tables; harmless while all others work, and when two do it at once.

    A sweep deletes up to `limit` rows that nobody needs and gives their number; fewer than that, and none is left.
    """

    async def make_partitions(self, *, ahead_days: int) -> PartitionChanges:
        """Make the day partitions of the next days, and move to them what had to go elsewhere for want of them."""
        ...

    async def drop_partitions(self, *, older_than: timedelta) -> PartitionChanges:
        """Drop days of bodies and of history whose jobs have all ended longer ago and that nothing needs any more."""
        ...

    async def sweep_edges(self, *, limit: int) -> int:
        """Edges whose child or parent has no body any more."""
        ...

    async def sweep_unique_keys(self, *, limit: int) -> int:
        """Unique keys that have run out, or whose job has left the states that they count."""
        ...

    async def sweep_cancel_requests(self, *, limit: int) -> int:
        """Requests to cancel jobs that have ended."""
        ...

    async def sweep_progress(self, *, limit: int) -> int:
        """Reports of progress of jobs that do not run any more."""
        ...

    async def forget_workers(self, *, older_than: timedelta) -> int:
        """Delete the rows of workers that ended longer ago and hold nothing."""
        ...

    async def vacuum(self) -> Sequence[str]:
        """Clear small hot tables of dead rows where these prevail, and name them."""
        ...


__all__ = [
    "Beat",
    "By",
    "Claimer",
    "Clock",
    "Control",
    "Dispatch",
    "Finding",
    "Findings",
    "History",
    "Insights",
    "JobId",
    "Jobs",
    "Keeping",
    "LeaseOf",
    "Leases",
    "PartitionChanges",
    "Place",
    "Scope",
    "Settled",
    "Workers",
]
