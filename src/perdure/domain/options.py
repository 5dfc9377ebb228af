"""Options given at one enqueue, and the new job that they and its kind make together."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from msgspec import UNSET, UnsetType, structs

from perdure.domain.bounds import CHECKS, Key, OnDuplicate, checked_moment, checked_name
from perdure.domain.durations import Duration, parse_duration
from perdure.domain.errors import DependencyCycle, InvalidArguments, InvalidOption
from perdure.domain.job import LIVE, Dependency, JobId, JobState, NewJob, OnParentFailure, Shape, UniqueRule
from perdure.domain.kind import Kind, KindOptions
from perdure.domain.payload import check_plain, encode_plain

T = TypeVar("T")

NOBODY = JobId(UUID(int=0))


class HasId(Protocol):
    """A job as a handle knows it."""

    @property
    def id(self) -> UUID: ...


Parent = UUID | HasId | Dependency
"""A job to wait for: by its id, by its handle, or as an edge with a policy of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueOptions:
    """What one enqueue wants other than its kind; what is not given is the kind's."""

    queue: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    retries: int | UnsetType = UNSET
    timeout: Duration | UnsetType | None = UNSET
    labels: Iterable[str] | UnsetType = UNSET
    concurrency_key: Key | UnsetType | None = UNSET
    concurrency_limit: int | UnsetType = UNSET
    unique_key: Key | UnsetType | None = UNSET
    unique_for: Duration | UnsetType | None = UNSET
    unique_states: Iterable[JobState | str] | UnsetType | None = UNSET
    on_duplicate: OnDuplicate | UnsetType = UNSET
    on_parent_failure: OnParentFailure | str | UnsetType = UNSET
    inherit_priority: bool | UnsetType = UNSET
    crash_limit: int | UnsetType | None = UNSET
    delay: Duration | None = None
    run_at: datetime | None = None
    depends_on: Parent | Iterable[Parent] = ()
    id: UUID | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _OVERRIDES:
            value = getattr(self, name)
            if value is not UNSET:
                object.__setattr__(self, name, CHECKS[name](value, name))
        for name, check in _OWN_CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(value, name))
        if self.delay is not None and self.run_at is not None:
            raise InvalidOption(
                "run_at", "cannot be given together with delay", next_step="drop one of the two"
            )


def effective(kind: KindOptions, options: EnqueueOptions) -> KindOptions:
    """The kind's options with those of the enqueue in their place."""
    given = ((name, getattr(options, name)) for name in _OVERRIDES)
    overrides: dict[str, Any] = {name: value for name, value in given if value is not UNSET}
    return replace(kind, **overrides) if overrides else kind


def new_job(kind: Kind[..., Any], options: EnqueueOptions, args: str, id: JobId) -> NewJob:
    """The job that an enqueue stores: `args` is the payload's JSON text, `id` counts unless the options have one."""
    return Mould(kind, options).job(args, id)


class Mould:
    """The jobs that enqueues of one kind with the same options store; what they have in common is worked out once."""

    def __init__(self, kind: Kind[..., Any], options: EnqueueOptions) -> None:
        merged = effective(kind.options, options)
        self._kind = kind
        self._merged = merged
        self._options = options
        keys = (merged.unique_key, merged.unique_for, merged.unique_states, merged.concurrency_key)
        self._is_tied = options.depends_on != () or keys != (None,) * len(keys)
        self._blank = NewJob(
            id=NOBODY,
            shape=Shape(
                queue=merged.queue,
                kind=kind.name,
                priority=merged.priority,
                max_attempts=merged.retries + 1,
                timeout=merged.timeout,
                labels=merged.labels,
                crash_limit=merged.crash_limit,
            ),
            run_at=options.run_at,
            delay=None if options.delay is None else parse_duration(options.delay, "delay"),
            inherit_priority=merged.inherit_priority,
            concurrency_limit=merged.concurrency_limit,
            metadata=options.metadata,
        )

        is_bare = self._blank == NewJob(id=NOBODY, shape=self._blank.shape)
        is_as_given = not self._is_tied and options.id is None and not merged.encrypted
        self.shape = self._blank.shape if is_bare and is_as_given else None
        """Of jobs that have nothing but the arguments they are given, so that many can be stored without making each."""

    @property
    def on_duplicate(self) -> OnDuplicate:
        """What happens when another job holds the unique key."""
        return self._merged.on_duplicate

    def job(self, args: str, id: JobId) -> NewJob:
        """The job for these arguments, the payload's JSON text; `id` counts unless the options have one."""
        job_id = id if self._options.id is None else JobId(self._options.id)
        if not self._is_tied:
            return structs.replace(self._blank, id=job_id, args=args)
        return structs.replace(
            self._blank,
            id=job_id,
            args=args,
            depends_on=_edges(self._options.depends_on, self._merged.on_parent_failure, job_id),
            unique=_unique_rule(self._kind, self._merged, args),
            concurrency_key=_key(self._kind, self._merged.concurrency_key, args, "concurrency_key"),
        )


def _unique_rule(kind: Kind[..., Any], merged: KindOptions, args: str) -> UniqueRule | None:
    """A key holds while its job lives, or for the period in whatever state the job is.

    A period without a key makes the key of the kind and its arguments.
    """
    key = _key(kind, merged.unique_key, args, "unique_key")
    if key is None and merged.unique_for is None:
        if merged.unique_states is not None:
            raise InvalidOption(
                "unique_states", "says when a key counts, but there is no unique_key and no unique_for"
            )
        return None
    if key is None:
        digest = hashlib.blake2b(kind.arguments.canonical(args), digest_size=16).hexdigest()
        key = f"{kind.name}:{digest}"
    always = LIVE if merged.unique_for is None else frozenset(JobState)
    return UniqueRule(key=key, states=merged.unique_states or always, period=merged.unique_for)


def _key(kind: Kind[..., Any], key: Key | None, args: str, field: str) -> str | None:
    if key is None or isinstance(key, str):
        return key
    return checked_name(key(**kind.arguments.named(args)), field)


def _edges(parents: Any, on_failure: OnParentFailure, child: JobId) -> tuple[Dependency, ...]:
    if not parents:
        return ()
    edges = (
        parent if isinstance(parent, Dependency) else Dependency(parent_id=parent, on_failure=on_failure)
        for parent in parents
    )
    by_parent = {edge.parent_id: edge for edge in edges}
    if child in by_parent:
        raise DependencyCycle([child, child])
    return tuple(by_parent.values())


def _checked_parents(value: Any, field: str) -> tuple[JobId | Dependency, ...]:
    several = isinstance(value, Iterable) and not isinstance(value, str | UUID | Dependency)
    return tuple(_checked_parent(parent, field) for parent in (value if several else (value,)))


def _checked_parent(value: Any, field: str) -> JobId | Dependency:
    if isinstance(value, Dependency):
        return value
    job_id = value if isinstance(value, UUID) else getattr(value, "id", None)
    if not isinstance(job_id, UUID):
        raise InvalidOption(field, f"{value!r} is neither a job's id nor something that has one")
    return JobId(job_id)


def _checked_id(value: Any, field: str) -> JobId:
    if not isinstance(value, UUID) or value.version != 7:
        why = f"{value!r} is not a UUID of version 7"
        raise InvalidOption(field, why, next_step="leave the option out, or make the id with JobIds")
    return JobId(value)


def _checked_metadata(value: Any, field: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidOption(field, f"{value!r} is not a mapping")
    kept = dict(value)
    try:
        check_plain(kept, field)
        encode_plain(kept, field)
    except InvalidArguments as error:
        raise InvalidOption(field, error.why) from error
    return kept


_OWN_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    "delay": parse_duration,
    "run_at": checked_moment,
    "depends_on": _checked_parents,
    "id": _checked_id,
    "metadata": _checked_metadata,
}
_OVERRIDES = tuple(option.name for option in fields(EnqueueOptions) if option.name in CHECKS)
