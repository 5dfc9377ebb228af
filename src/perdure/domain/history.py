"""The history and the present as plain records: what the promises are judged by, wherever it was written down."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from perdure.domain.job import LIVE, JobState, OnParentFailure
from perdure.domain.settlement import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A job as it was enqueued; `unique_states` are those in which its unique key counts."""

    job_id: UUID
    enqueued_at: datetime
    max_attempts: int = 4
    crash_limit: int | None = None
    unique_key: str | None = None
    unique_states: frozenset[JobState] = LIVE
    unique_until: datetime | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One place at which a job stands and waits: `place` is `blocked`, `scheduled`, `available` or `parked`.

    `attempt` counts failures. A blocked job tells for how many parents it waits, and whether that is certain.
    """

    job_id: UUID
    place: str
    state: JobState
    run: int
    attempt: int = 0
    crashes: int = 0
    interruptions: int = 0
    run_at: datetime | None = None
    waiting: int = 0
    verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease, from the transaction that claimed it to the one that settled it; without an outcome while it stands.

    A job that was cancelled while it waited has a record without a token. `attempt` is the number of the attempt,
    `crashes` and `interruptions` are the counts as they stood after it.
    """

    job_id: UUID
    token: UUID | None
    run: int
    attempt: int
    crashes: int = 0
    interruptions: int = 0
    claim_xid: int | None = None
    settle_xid: int | None = None
    outcome: Outcome | None = None
    state: JobState | None = None
    slot: int | None = None
    concurrency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A child and a parent; `state` is `waiting`, `satisfied` or `cancelled`."""

    child_id: UUID
    parent_id: UUID
    on_failure: OnParentFailure = OnParentFailure.HOLD
    state: str = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueKey:
    """A unique key in force and the job that holds it."""

    key: str
    job_id: UUID
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that was done to a job by somebody's will; `run` is the run that it opened."""

    event: str
    job_id: UUID
    run: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter."""

    job_id: UUID
    run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Everything of one moment, `taken_at`: bodies, where jobs stand, all leases that ever were, and what ties jobs together.

    `since` is the moment from which the history is complete, `days` are those whose bodies are kept; None: all.
    `named` are further rows that name a job, each with what it is.
    """

    taken_at: datetime
    bodies: Sequence[Body] = ()
    standing: Sequence[Standing] = ()
    held: Sequence[Held] = ()
    edges: Sequence[Edge] = ()
    keys: Sequence[UniqueKey] = ()
    letters: Sequence[Letter] = ()
    events: Sequence[Event] = ()
    named: Sequence[tuple[UUID, str]] = ()
    since: datetime | None = None
    days: frozenset[date] | None = None
    running: Sequence[Held] = field(init=False, default=())
    ended: Sequence[Held] = field(init=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "running", [one for one in self.held if one.outcome is None])
        object.__setattr__(self, "ended", [one for one in self.held if one.outcome is not None])
