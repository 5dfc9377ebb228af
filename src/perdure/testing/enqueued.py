"""Which jobs were enqueued: in the database, or with `inline`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from perdure.domain.errors import InvalidOption
from perdure.domain.filters import Filter, Operator, Term, Value
from perdure.domain.job import JobState
from perdure.domain.kind import Kind
from perdure.domain.sealing import Keyring
from perdure.domain.views import JobView
from perdure.runtime.app import Perdure
from perdure.runtime.sealing import ARGUMENTS
from perdure.services.read import Read
from perdure.stores.postgres.insights import PostgresInsights
from perdure.stores.postgres.past import PostgresPast
from perdure.testing.inline import Entry, Inline

PAGE = 1_000
NEAR_MISSES = 3
MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedJob:
    """A job that was enqueued: `arguments` by parameter name, defaults included."""

    id: UUID
    kind: str
    arguments: Mapping[str, object]
    state: JobState
    queue: str
    priority: int
    retries: int
    labels: tuple[str, ...]
    run_at: datetime | None
    unique_key: str | None
    concurrency_key: str | None


OPTIONS = tuple(field.name for field in fields(EnqueuedJob) if field.name not in {"id", "kind", "arguments"})


async def enqueued(app: Perdure, kind: Kind[..., Any]) -> Sequence[EnqueuedJob]:
    """The jobs of a kind, the oldest first, whatever has become of them."""
    keyring = app.settings.keyring
    if isinstance(app.producer, Inline):
        return [
            _from_record(kind, entry, keyring)
            for entry in app.producer.entries
            if entry.job.shape.kind == kind.name
        ]
    return [_from_view(kind, view, keyring) for view in await _views(app, _of_kind(kind.name))]


def enqueued_sync(app: Perdure, kind: Kind[..., Any]) -> Sequence[EnqueuedJob]:
    """As `enqueued`, for tests that are not async."""
    return app.run_sync(enqueued(app, kind))


async def assert_enqueued(
    app: Perdure,
    kind: Kind[..., Any],
    /,
    *,
    having: Mapping[str, object] | None = None,
    **arguments: object,
) -> EnqueuedJob:
    """Fail unless a job of the kind was enqueued with these arguments, among others, and `having` these options.

    Gives the newest such job.
    """
    wanted = dict(having or {})
    for name in wanted.keys() - set(OPTIONS):
        raise InvalidOption(name, "cannot be asked for", next_step=f"ask for {', '.join(OPTIONS)}")
    jobs = await enqueued(app, kind)
    faults = [_faults(job, arguments, wanted) for job in jobs]
    for job, found in zip(reversed(jobs), reversed(faults), strict=True):
        if not found:
            return job
    raise AssertionError(await _message(app, kind, {**arguments, **wanted}, jobs, faults))


def assert_enqueued_sync(
    app: Perdure,
    kind: Kind[..., Any],
    /,
    *,
    having: Mapping[str, object] | None = None,
    **arguments: object,
) -> EnqueuedJob:
    """As `assert_enqueued`, for tests that are not async."""
    return app.run_sync(assert_enqueued(app, kind, having=having, **arguments))


def _faults(job: EnqueuedJob, arguments: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """What keeps a job from being the one that is looked for, in words."""
    pairs = [(name, job.arguments.get(name, MISSING), value) for name, value in arguments.items()]
    pairs += [(name, getattr(job, name), value) for name, value in wanted.items()]
    return [
        f"{name} is not there" if found is MISSING else f"{name} is {found!r}, not {value!r}"
        for name, found, value in pairs
        if found is MISSING or found != value
    ]


async def _message(
    app: Perdure,
    kind: Kind[..., Any],
    wanted: Mapping[str, object],
    jobs: Sequence[EnqueuedJob],
    faults: Sequence[Sequence[str]],
) -> str:
    asked = f" with {', '.join(f'{name}={value!r}' for name, value in wanted.items())}" if wanted else ""
    lines = [f"no job of {kind.name} was enqueued{asked}"]
    if not jobs:
        others = await _other_kinds(app)
        return f"{lines[0]}; " + (f"there are jobs of {', '.join(others)}" if others else "there is no job")
    nearest = sorted(zip(faults, jobs, strict=True), key=lambda miss: len(miss[0]))[:NEAR_MISSES]
    lines += [f"  job {job.id}: {'; '.join(found)}" for found, job in nearest]
    if len(jobs) > len(nearest):
        lines.append(f"  and {len(jobs) - len(nearest)} more that are no nearer")
    return "\n".join(lines)


async def _other_kinds(app: Perdure) -> list[str]:
    if isinstance(app.producer, Inline):
        return sorted({entry.job.shape.kind for entry in app.producer.entries})
    page = await (await app.stores()).read.jobs(limit=PAGE)
    return sorted({view.kind for view in page.jobs})


async def _views(app: Perdure, filter: Filter) -> list[JobView]:
    # As they are stored: what no face shows can be asked for in a test.
    database, schema = (await app.stores()).database, app.settings.schema
    read = Read(PostgresInsights(database, schema=schema), PostgresPast(database, schema=schema))
    views: list[JobView] = []
    cursor: str | None = None
    while True:
        page = await read.jobs(filter, limit=PAGE, cursor=cursor)
        views += page.jobs
        cursor = page.cursor
        if cursor is None:
            return views[::-1]


def _of_kind(name: str) -> Filter:
    value = Value(text=name, quoted=True)
    return Filter(terms=(Term(field="kind", operator=Operator.IS, values=(value,)),))


def _from_view(kind: Kind[..., Any], view: JobView, keyring: Keyring) -> EnqueuedJob:
    return EnqueuedJob(
        id=view.id,
        kind=view.kind,
        arguments=kind.arguments.named(keyring.opened(bytes(view.args).decode(), view.id, ARGUMENTS)),
        state=view.state,
        queue=view.queue,
        priority=view.priority,
        retries=view.max_attempts - 1,
        labels=view.labels,
        run_at=view.run_at,
        unique_key=view.unique_key,
        concurrency_key=view.concurrency_key,
    )


def _from_record(kind: Kind[..., Any], entry: Entry, keyring: Keyring) -> EnqueuedJob:
    job = entry.job
    return EnqueuedJob(
        id=job.id,
        kind=job.shape.kind,
        arguments=kind.arguments.named(keyring.opened(job.args, job.id, ARGUMENTS)),
        state=entry.view.state,
        queue=job.shape.queue,
        priority=job.shape.priority,
        retries=job.shape.max_attempts - 1,
        labels=job.shape.labels,
        run_at=entry.run_at,
        unique_key=None if job.unique is None else job.unique.key,
        concurrency_key=job.concurrency_key,
    )
