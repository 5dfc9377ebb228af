"""What has happened over time: jobs enqueued and attempts ended in each minute, and what was done by whom."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from perdure.domain.views import EventView


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """One minute: jobs enqueued in it, attempts that completed, failed (or timed out, or crashed) or ended otherwise."""

    at: datetime
    enqueued: int = 0
    completed: int = 0
    failed: int = 0
    other: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputView:
    """The minutes asked for, the oldest first, empty ones included; the last one has just begun.

    `complete` is false when the time budget did not suffice: `note` says which part is missing.
    """

    minutes: tuple[Minute, ...]
    complete: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRate:
    """How many jobs a queue got, and how many attempts ended in it, in a second, over the last minute."""

    queue: str
    arriving: float
    finishing: float
    failing: float


BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)
"""Upper bounds, in seconds, of the buckets in which waits and runs are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredAttempts:
    """Attempts of one kind that ended in one way; `wait_bucket` and `run_bucket` count the bounds that they passed."""

    queue: str
    kind: str
    outcome: str
    state: str
    wait_bucket: int | None
    run_bucket: int | None
    attempts: int
    wait_s: float
    run_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredJobs:
    """Jobs of one queue that ended for good; `bucket` counts the bounds that the time since their enqueue passed."""

    queue: str
    bucket: int
    jobs: int
    whole_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """All that happened in a span of time: attempts that ended, jobs enqueued by queue and kind, events by name, jobs that ended for good.

    `notifications` are tries to send the messages that got through, by channel and result; `claims` are of all workers: a bucket of
    their time, how many, and how long they took altogether in seconds.
    """

    attempts: tuple[MeteredAttempts, ...]
    enqueued: Mapping[tuple[str, str], int]
    events: Mapping[str, int]
    finished: tuple[MeteredJobs, ...] = ()
    notifications: Mapping[tuple[str, str], int] = field(default_factory=dict)
    claims: tuple[tuple[int, int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events, the newest first; ask on with `cursor` as long as there is one."""

    events: tuple[EventView, ...]
    cursor: str | None = None
    complete: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventChoice:
    """Which events are meant; in `event` a `*` stands for any text."""

    event: str | None = None
    actor: str | None = None
    queue: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSubject:
    """What an event is about."""

    job_id: UUID | None = None
    worker_id: UUID | None = None
    queue: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


def time_to_drain(depth: int, arriving: float, finishing: float) -> timedelta | None:
    """How long a queue needs to be empty at the present pace (rates in jobs per second); None: it does not drain.

    depth / (finishing - arriving): what is enqueued meanwhile has to be done, too.
    """
    if depth == 0:
        return timedelta(0)
    net = finishing - arriving
    if net <= 0:
        return None
    seconds = depth / net
    return timedelta(seconds=seconds) if seconds < timedelta(days=365).total_seconds() else None
