"""A job, its states and the law of its transitions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from uuid import UUID

import msgspec

JobId = NewType("JobId", UUID)
LeaseToken = NewType("LeaseToken", UUID)

PRIORITIES = range(1, 6)
DEFAULT_PRIORITY = 3
DEFAULT_RETRIES = 3
DEFAULT_TIMEOUT = timedelta(minutes=5)
MAX_DEPTH = 500


class JobState(StrEnum):
    """Where a job stands; each live state is a table that holds the job's row."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    RUNNING = "running"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


WAITING = frozenset({JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE, JobState.RETRYABLE})
LIVE = WAITING | {JobState.RUNNING}
TERMINAL = frozenset({JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED})
RETRIED = frozenset({JobState.SCHEDULED, JobState.RETRYABLE, JobState.DISCARDED, JobState.CANCELLED})
"""The states from which a job can be retried by hand."""

# The only law of transitions. Statements that move a row name theirs in a comment, which a test
# compares with this table; `None` is the moment before the job exists. Only restores open a job again that has
# completed, and end one that waits in another way than cancelled.
TRANSITIONS: Mapping[JobState | None, frozenset[JobState]] = {
    None: frozenset({JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE}),
    JobState.PENDING: frozenset({JobState.SCHEDULED, JobState.AVAILABLE}) | TERMINAL,
    JobState.SCHEDULED: frozenset({JobState.AVAILABLE}) | TERMINAL,
    JobState.AVAILABLE: frozenset({JobState.RUNNING}) | TERMINAL,
    JobState.RUNNING: frozenset(
        {
            JobState.COMPLETED,
            JobState.RETRYABLE,
            JobState.SCHEDULED,
            JobState.AVAILABLE,
            JobState.CANCELLED,
            JobState.DISCARDED,
        }
    ),
    JobState.RETRYABLE: frozenset({JobState.AVAILABLE}) | TERMINAL,
    JobState.COMPLETED: frozenset({JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE}),
    JobState.CANCELLED: frozenset({JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE}),
    JobState.DISCARDED: frozenset(
        {JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE, JobState.CANCELLED}
    ),
}


class OnParentFailure(StrEnum):
    """What a child does when a parent ends without success."""

    HOLD = "hold"
    CANCEL = "cancel"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """One edge: the child waits for `parent_id`."""

    parent_id: JobId
    on_failure: OnParentFailure = OnParentFailure.HOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueRule:
    """At most one job holds `key` while it is in one of `states`, and no longer than `period` after its enqueue."""

    key: str
    states: frozenset[JobState] = LIVE
    period: timedelta | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True, gc=False, cache_hash=True):
    """What the jobs of one kind and one set of options have in common; its producer makes it once, and looks up by it where they go."""

    queue: str
    kind: str
    priority: int = DEFAULT_PRIORITY
    max_attempts: int = DEFAULT_RETRIES + 1
    timeout: timedelta | None = DEFAULT_TIMEOUT
    labels: tuple[str, ...] = ()
    crash_limit: int | None = None


class NewJob(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job as a producer hands it in: what it shares with others, and what is its own. The body never changes afterwards.

    `args` is a JSON object as text. `run_at` is a moment, `delay` counts from the database's clock at
    enqueue; at most one of them is set. A msgspec struct, for one is built for every enqueue.
    """

    id: JobId
    shape: Shape
    args: str = "{}"
    run_at: datetime | None = None
    delay: timedelta | None = None
    depends_on: tuple[Dependency, ...] = ()
    inherit_priority: bool = True
    unique: UniqueRule | None = None
    concurrency_key: str | None = None
    concurrency_limit: int = 1
    metadata: Mapping[str, object] = {}

    @property
    def is_plain(self) -> bool:
        """Whether it may start at once and is tied to no other job: it has nothing but its arguments."""
        return not (
            self.depends_on
            or self.unique
            or self.concurrency_key
            or self.metadata
            or self.run_at
            or self.delay is not None
        )


class Disposition(StrEnum):
    """What became of one job of an enqueue call."""

    CREATED = "created"
    EXISTS = "exists"
    DUPLICATE = "duplicate"


class Enqueued(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer for one job: created, already there under this id, or refused for `holder`'s unique key."""

    job_id: JobId
    disposition: Disposition
    holder: JobId | None = None
