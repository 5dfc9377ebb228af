"""Views of jobs and of what belongs to one: attempts, edges, lease, place, progress, events, dead letter."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from msgspec import Raw

from perdure.domain.job import JobState, OnParentFailure
from perdure.domain.settlement import ErrorReport, Outcome

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
class ResultView:
    """Where a job stands, with its result as JSON text once it has completed, or what it failed with."""

    state: JobState
    result: str | None = None
    error: ErrorReport | None = None
    cause: str = ""
