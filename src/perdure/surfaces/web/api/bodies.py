"""What requests of the API carry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta

from perdure.domain.job import DEFAULT_PRIORITY, DEFAULT_RETRIES

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Reason = Annotated[str, Meta(max_length=2_000)]
Filter = Annotated[str, Meta(max_length=2_000)]
Span = Annotated[str, Meta(max_length=50)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]


@dataclass(frozen=True, kw_only=True)
class Acting:
    """Why something is done, and whether really; who does it is known from the request."""

    reason: Reason = ""
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class ActingOnMany(Acting):
    """Something done to all jobs that match a filter, at most `most` of them."""

    filter: Annotated[str, Meta(min_length=1, max_length=2_000)]
    most: Count | None = None


@dataclass(frozen=True, kw_only=True)
class ActingOnQueue(Acting):
    """Something done to a queue."""

    queue: Name


@dataclass(frozen=True, kw_only=True)
class Replaying(Acting):
    """Dead letters that get a new run: one by its job's id, or those that match; `rate` starts so many per second."""

    job_id: UUID | None = None
    filter: Filter | None = None
    sample: Count | None = None
    rate: Annotated[float, Meta(gt=0, le=10_000)] | None = None


@dataclass(frozen=True, kw_only=True)
class Discarding:
    """Dead letters that are acknowledged and leave the queue."""

    reason: Annotated[str, Meta(min_length=1, max_length=2_000)]
    job_id: UUID | None = None
    filter: Filter | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class Enqueueing:
    """A new job. A repeated call with the same `id` (a UUID of version 7) enqueues once."""

    kind: Name
    args: Mapping[str, Any] = field(default_factory=dict)
    id: UUID | None = None
    queue: Name = "default"
    priority: Annotated[int, Meta(ge=1, le=5)] = DEFAULT_PRIORITY
    retries: Annotated[int, Meta(ge=0, le=10_000)] = DEFAULT_RETRIES
    timeout: Span | None = "5m"
    labels: list[Name] = field(default_factory=list)
    delay: Span | None = None
    run_at: datetime | None = None
    depends_on: list[UUID] = field(default_factory=list)
    on_parent_failure: Literal["hold", "cancel", "run"] = "hold"
    unique_key: Name | None = None
    unique_for: Span | None = None
    on_duplicate: Literal["raise", "return"] = "raise"
    concurrency_key: Name | None = None
    concurrency_limit: Annotated[int, Meta(ge=1, le=32_767)] = 1
    metadata: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class Completing:
    """An attempt that ended well, by the token of its lease."""

    token: UUID
    result: Any = None


@dataclass(frozen=True, kw_only=True)
class Failing:
    """An attempt that failed; without `retry_in` the specification's back-off decides when the next one comes."""

    token: UUID
    error: Annotated[str, Meta(min_length=1, max_length=10_000)]
    retry_in: Span | None = None
    give_up: bool = False


@dataclass(frozen=True, kw_only=True)
class Registering:
    """A worker loop outside of Perdure; it must send a heartbeat more often than `dead_after_s`."""

    kinds: Annotated[list[Name], Meta(min_length=1, max_length=1_000)]
    queues: Annotated[list[Name], Meta(min_length=1, max_length=1_000)] = field(
        default_factory=lambda: ["default"]
    )
    labels: Annotated[list[Name], Meta(max_length=100)] = field(default_factory=list)
    capacity: Annotated[int, Meta(ge=1, le=100_000)] = 1
    name: Annotated[str, Meta(max_length=200)] = ""


@dataclass(frozen=True, kw_only=True)
class Acquiring:
    """How many jobs at most, and how long to wait for the first (`wait` up to 30 s)."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1
    wait: Annotated[float, Meta(ge=0, le=30)] = 0


@dataclass(frozen=True, kw_only=True)
class PuttingEntry:
    """An entry of the shared memory. With `expected` it is written only over this version, with `absent` only where none is.

    `ttl` is a duration, null for ever, or `default`: as long as entries of the namespace usually stay.
    """

    namespace: Name
    key: Name
    value: Any
    ttl: Span | None = "default"
    expected: UUID | None = None
    absent: bool = False


@dataclass(frozen=True, kw_only=True)
class DeletingEntry:
    """An entry of the shared memory that is to go; with `expected` only in this version."""

    namespace: Name
    key: Name
    expected: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Quieting:
    """Alerts of which nothing is to be said: of a rule (`*`: of any), about one target or all of them, for a while."""

    rule: Name
    lasts: Span
    reason: Annotated[str, Meta(min_length=1, max_length=2_000)]
    target: Annotated[str, Meta(max_length=200)] = ""


@dataclass(frozen=True, kw_only=True)
class Unquieting:
    """A silence that is to end."""

    id: UUID


@dataclass(frozen=True, kw_only=True)
class Evacuating(Acting):
    """A worker that is to be emptied: the time that its running jobs have, and how many may be evacuated at once."""

    grace: Span = "30s"
    at_once: Annotated[int, Meta(ge=1, le=1_000)] = 1


@dataclass(frozen=True, kw_only=True)
class Planning:
    """What jobs are to be again: as at a time, or as in a snapshot; which, and what is done where something has happened since."""

    at: datetime | None = None
    snapshot: Name | None = None
    queues: tuple[Name, ...] = ()
    kinds: tuple[Name, ...] = ()
    graph: UUID | None = None
    policy: Literal["merge", "skip", "overwrite"] = "merge"
    choices: Mapping[str, str] = field(default_factory=dict)
    rerun: tuple[Name, ...] = ()
    reason: Reason = ""


@dataclass(frozen=True, kw_only=True)
class Applying(Acting):
    """The plan that was looked at, by its digest; how long running jobs have to end, and how many jobs may have moved on since."""

    digest: Annotated[str, Meta(min_length=1, max_length=200)]
    drain: Span = "5m"
    tolerance: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
