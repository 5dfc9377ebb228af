"""What the reading and the acting services answer: the types that every face renders, as JSON by msgspec.

JSON of the user (arguments, results, metadata) stays the database's text, as `msgspec.Raw`, so that no number is
rounded on its way.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from msgspec import Raw

from perdure.domain.job import JobState, OnParentFailure
from perdure.domain.serving import Unserved
from perdure.domain.settlement import ErrorReport, Outcome
from perdure.domain.worker import Worker

EMPTY = Raw(b"{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as a list shows it; `since` is when it came into its state, `attempt` counts the attempts begun."""

    id: UUID
    kind: str
    queue: str
    state: JobState
    priority: int
    run: int
    attempt: int
    max_attempts: int
    enqueued_at: datetime
    since: datetime
    labels: tuple[str, ...] = ()
    args: Raw = field(default_factory=lambda: EMPTY)
    run_at: datetime | None = None
    worker_id: UUID | None = None
    worker: str = ""
    unique_key: str | None = None
    concurrency_key: str | None = None
    error: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Jobs, the newest first; ask on with `cursor` as long as there is one.

    `complete` is false when the time budget ended the search early: `note` says so, and the cursor goes on from there.
    """

    jobs: tuple[JobView, ...]
    cursor: str | None = None
    complete: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One row of a job's history: an attempt that ended, or a cancellation while it waited (no token, no worker)."""

    run: int
    attempt: int
    outcome: Outcome
    state: JobState
    settled_at: datetime
    available_at: datetime | None = None
    claimed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retry_at: datetime | None = None
    worker_id: UUID | None = None
    worker: str = ""
    process: int | None = None
    isolated: bool = False
    token: UUID | None = None
    cause: str = ""
    error: ErrorReport | None = None
    result: Raw | None = None


class EdgeState(StrEnum):
    """What has become of a dependency: still awaited, fulfilled, or the reason why the child was cancelled."""

    WAITING = "waiting"
    SATISFIED = "satisfied"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeView:
    """A parent or a child of a job; `state` is null when that job has been pruned."""

    job_id: UUID
    kind: str
    state: JobState | None
    edge: EdgeState
    on_failure: OnParentFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """Who runs the job now; `cancel_requested_at` is set once somebody has asked for it to stop."""

    token: UUID
    worker_id: UUID
    worker: str
    process: int
    isolated: bool
    attempt: int
    claimed_at: datetime
    deadline: datetime | None
    cancel_requested_at: datetime | None = None
    cancel_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceView:
    """Where an available job waits and why there: `rank` is `ready_at` less the head start of its band.

    `ahead` counts the jobs of its lane that start before it, at most 10,000; then `approximate` is true.
    """

    lane: int
    band: str
    rank: int
    ready_at: datetime
    head_start: timedelta
    ahead: int
    approximate: bool = False
    parked_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressView:
    """How far a job says that it has come, from 0 to 1."""

    fraction: float | None
    note: str
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """Something that was done to a job, a worker or a queue, by whom and why."""

    at: datetime
    event: str
    actor: str
    reason: str = ""
    job_id: UUID | None = None
    worker_id: UUID | None = None
    queue: str | None = None
    detail: Raw | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterView:
    """A job that gave up and waits for somebody to look at it."""

    job_id: UUID
    kind: str
    queue: str
    dead_at: datetime
    run: int
    attempt: int
    crashes: int
    interruptions: int
    outcome: Outcome
    fingerprint: str
    cause: str
    error: ErrorReport | None = None
    args: Raw = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterPage:
    """Dead letters, the newest first; see `JobPage` for cursor, complete and note."""

    letters: tuple[DeadLetterView, ...]
    cursor: str | None = None
    complete: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """The dead letters of one cause."""

    fingerprint: str
    count: int
    kinds: tuple[str, ...]
    queues: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    sample_job_id: UUID
    cause: str
    error: ErrorReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    """One job in full; `attempts` and `events` begin with the newest and hold at most 100 each."""

    job: JobView
    depth: int
    timeout: timedelta | None
    crash_limit: int | None
    crashes: int
    interruptions: int
    suspicion: int
    concurrency_limit: int | None
    metadata: Raw | None
    result: Raw | None
    error: ErrorReport | None
    attempts: tuple[AttemptView, ...] = ()
    parents: tuple[EdgeView, ...] = ()
    children: tuple[EdgeView, ...] = ()
    events: tuple[EventView, ...] = ()
    lease: LeaseView | None = None
    place: PlaceView | None = None
    progress: ProgressView | None = None
    dead_letter: DeadLetterView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """How many jobs are in one state; above 100,000 an estimate."""

    state: JobState
    count: int
    approximate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """What waits of one kind with one set of labels; `workers` counts the active ones that serve it."""

    lane: int
    kind: str
    labels: tuple[str, ...]
    available: int
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A queue: its depths, who serves it, and what nobody serves (`unserved`: kinds with jobs that wait for nobody).

    With `approximate` a depth is at least what it says.
    """

    name: str
    paused_at: datetime | None
    paused_by: str
    depths: dict[JobState, int]
    oldest_available_at: datetime | None
    oldest_available_s: float | None
    lanes: tuple[LaneView, ...]
    kinds: tuple[str, ...]
    unserved: tuple[str, ...]
    workers: int
    approximate: bool = False

    @property
    def paused(self) -> bool:
        """Whether claims leave it out."""
        return self.paused_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker and how long it has been silent, by the database's clock; `deaf` processes hear no notifications."""

    worker: Worker
    load: float
    silent_s: float
    suspect: bool
    deaf: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderView:
    """Who leads the duties, in which term."""

    holder: UUID
    worker: str
    term: int
    elected_at: datetime
    expires_at: datetime
    leads: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RateView:
    """How many attempts ended in this way during the last minute."""

    outcome: Outcome
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    """The system on one screen. A part that did not come within the time budget is null, and `notes` names it."""

    at: datetime | None
    counts: tuple[CountView, ...] | None
    last_minute: tuple[RateView, ...] | None
    oldest_available_s: float | None
    workers_active: int | None
    workers_draining: int | None
    workers_suspect: int | None
    workers_deaf: int | None = 0
    leader: LeaderView | None
    dead_letters: int | None
    dead_letters_approximate: bool
    queues_paused: tuple[str, ...] | None
    unserved: tuple[Unserved, ...] | None = ()
    oldest_transaction_s: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultView:
    """Where a job stands, with its result as JSON text once it has completed, or what it failed with."""

    state: JobState
    result: str | None = None
    error: ErrorReport | None = None
    cause: str = ""


class ActOutcome(StrEnum):
    """What an act did to one job; DONE is for queues and workers."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    AVAILABLE = "available"
    SCHEDULED = "scheduled"
    DROPPED = "dropped"
    DONE = "done"
    UNCHANGED = "unchanged"
    ILLEGAL = "illegal"
    DUPLICATE = "duplicate"
    BLOCKED = "blocked"
    MISSING = "missing"
    MOVING = "moving"


CHANGES = frozenset(ActOutcome) - {
    ActOutcome.UNCHANGED,
    ActOutcome.ILLEGAL,
    ActOutcome.DUPLICATE,
    ActOutcome.BLOCKED,
    ActOutcome.MISSING,
    ActOutcome.MOVING,
}
"""The outcomes that changed something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What an act did to one job, and the state in which it found it.

    DUPLICATE: `holder` has its unique key. BLOCKED: it waits for parents that have not completed. MOVING: it changed
    its state faster than the act could follow; to be asked again.
    """

    job_id: UUID
    outcome: ActOutcome
    state: JobState | None = None
    holder: UUID | None = None
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActReport:
    """What a command did, or with `dry_run` would do: `matched` jobs by outcome, and some of them as a sample.

    `complete` is false when a limit ended it early; `finishes_in` is how long a replay with a rate goes on by itself.
    """

    verb: str
    actor: str
    reason: str
    dry_run: bool
    matched: int
    outcomes: dict[ActOutcome, int] = field(default_factory=dict)
    sample: tuple[JobView, ...] = ()
    acted: tuple[Acted, ...] = ()
    complete: bool = True
    note: str = ""
    finishes_in: timedelta | None = None

    @property
    def changed(self) -> int:
        """How many jobs were changed."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in CHANGES)
