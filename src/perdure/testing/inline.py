"""Jobs that run the moment they are enqueued, in this process and against no database: for unit tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID, uuid4

from perdure.domain.errors import DependencyCycle, DuplicateJob, IllegalTransition, NotFound, UnknownParent
from perdure.domain.job import (
    RETRIED,
    TERMINAL,
    Disposition,
    Enqueued,
    JobId,
    JobState,
    NewJob,
    OnParentFailure,
)
from perdure.domain.kind import Kind
from perdure.domain.lease import Lease, microseconds
from perdure.domain.payload import encode_plain
from perdure.domain.settlement import Completed, Ending, settle
from perdure.domain.views import ActOutcome, ResultView
from perdure.runtime.app import Perdure, Prepared
from perdure.runtime.lines import AttemptLine
from perdure.runtime.sealing import opened
from perdure.services.execution import Attempt
from perdure.testing.attempts import attempt

_RUNS_AT_ONCE = (
    "here a job runs within its enqueue; test what happens to running jobs with perdure.testing.drain"
)


@dataclass(slots=True)
class Entry:
    """A job on the record, and what has become of it."""

    job: NewJob
    kind: Kind[..., Any]
    run_at: datetime | None = None
    view: ResultView = field(default_factory=lambda: ResultView(state=JobState.PENDING))


class Inline:
    """Takes the jobs of an application in place of the database.

    A job runs before its `enqueue` returns, with its arguments encoded and decoded, its context and its time limit
    as in a worker; its result or error is behind its handle. It has one attempt. What is delayed or snoozed waits
    for `run_scheduled`, what depends on others for these. `conn` is left alone, and `Context.complete` only notes
    that it was called.
    """

    def __init__(self, app: Perdure) -> None:
        self._app = app
        self._entries: dict[UUID, Entry] = {}

    @property
    def entries(self) -> Sequence[Entry]:
        """Every job that was enqueued, the oldest first."""
        return list(self._entries.values())

    async def enqueue(self, jobs: Sequence[Prepared[Any]], *, conn: object) -> Sequence[Enqueued]:
        return await self._taken([(one.job, one.kind, one.on_duplicate) for one in jobs])

    async def enqueue_one(self, job: NewJob, kind: Kind[..., Any], on_duplicate: str) -> Enqueued:
        return (await self._taken([(job, kind, on_duplicate)]))[0]

    async def _taken(self, jobs: Sequence[tuple[NewJob, Kind[..., Any], str]]) -> Sequence[Enqueued]:
        fresh: dict[UUID, Entry] = {}
        answers = [self._answer(*one, fresh) for one in jobs]
        self._check_parents(fresh)
        self._entries |= fresh
        await self._run_ready()
        return answers

    def enqueue_sync(self, jobs: Sequence[Prepared[Any]], *, conn: object) -> Sequence[Enqueued]:
        return self._app.run_sync(self.enqueue(jobs, conn=conn))

    async def look(self, job_id: UUID) -> ResultView | None:
        entry = self._entries.get(job_id)
        return None if entry is None else opened(entry.view, job_id, self._app.settings.keyring)

    async def cancel(self, job_id: UUID, *, actor: str, reason: str) -> ActOutcome:
        entry = self._entry(job_id)
        if entry.view.state is JobState.RUNNING or entry.view.state in TERMINAL:
            raise IllegalTransition(job_id, entry.view.state, "cancelled", next_step=_RUNS_AT_ONCE)
        cause = f"cancelled by {actor}: {reason}" if reason else f"cancelled by {actor}"
        entry.view = ResultView(state=JobState.CANCELLED, cause=cause)
        await self._run_ready()
        return ActOutcome.CANCELLED

    async def retry(self, job_id: UUID, *, actor: str, reason: str) -> ActOutcome:
        entry = self._entry(job_id)
        if entry.view.state not in RETRIED:
            raise IllegalTransition(job_id, entry.view.state, "retried", next_step=_RUNS_AT_ONCE)
        await self._run(entry)
        await self._run_ready()
        return ActOutcome.AVAILABLE

    def _entry(self, job_id: UUID) -> Entry:
        entry = self._entries.get(job_id)
        if entry is None:
            raise NotFound("job", job_id)
        return entry

    async def run_scheduled(self) -> int:
        """Run what is delayed or snoozed now, and what depends on it; gives the number of delayed jobs."""
        due = [entry for entry in self._entries.values() if entry.view.state is JobState.SCHEDULED]
        for entry in due:
            await self._run(entry)
        await self._run_ready()
        return len(due)

    def run_scheduled_sync(self) -> int:
        """As `run_scheduled`, for tests that are not async."""
        return self._app.run_sync(self.run_scheduled())

    def _answer(
        self, job: NewJob, kind: Kind[..., Any], on_duplicate: str, fresh: dict[UUID, Entry]
    ) -> Enqueued:
        known = self._entries | fresh
        if job.id in known:
            return Enqueued(job_id=job.id, disposition=Disposition.EXISTS)
        holder = _holder(job, known)
        if job.unique is not None and holder is not None:
            if on_duplicate == "raise":
                raise DuplicateJob(job.unique.key, holder)
            return Enqueued(job_id=job.id, disposition=Disposition.DUPLICATE, holder=holder)
        delayed = None if job.delay is None else datetime.now(UTC) + job.delay
        fresh[job.id] = Entry(job, kind, run_at=job.run_at or delayed)
        return Enqueued(job_id=job.id, disposition=Disposition.CREATED)

    def _check_parents(self, fresh: dict[UUID, Entry]) -> None:
        edges = {new: [edge.parent_id for edge in entry.job.depends_on] for new, entry in fresh.items()}
        for parent in (parent for parents in edges.values() for parent in parents):
            if parent not in fresh and parent not in self._entries:
                raise UnknownParent(parent)
        try:
            TopologicalSorter(edges).prepare()
        except CycleError as error:
            raise DependencyCycle(error.args[1]) from None

    async def _run_ready(self) -> None:
        """Run what waits for nothing, until nothing is left that could be; a job may enqueue and free others."""
        moved = True
        while moved:
            moved = False
            for entry in self.entries:
                if entry.view.state is JobState.PENDING:
                    moved |= await self._start(entry)

    async def _start(self, entry: Entry) -> bool:
        for edge in entry.job.depends_on:
            parent = self._entries[edge.parent_id].view.state
            if parent not in TERMINAL:
                return False
            if parent is JobState.COMPLETED or edge.on_failure is OnParentFailure.RUN:
                continue
            if edge.on_failure is OnParentFailure.HOLD:
                return False
            entry.view = ResultView(state=JobState.CANCELLED, cause=f"a parent ended {parent}")
            return True
        if entry.run_at is not None and entry.run_at > datetime.now(UTC):
            entry.view = ResultView(state=JobState.SCHEDULED)
            return True
        await self._run(entry)
        return True

    async def _run(self, entry: Entry) -> None:
        entry.view = ResultView(state=JobState.RUNNING)
        lease = _lease(entry.job)
        ending = await attempt(entry.kind, lease, _Line, self._app.settings.keyring) or Completed()
        entry.view = _view(lease, ending)


@contextmanager
def inline(app: Perdure) -> Iterator[Inline]:
    """Run the jobs of an application at once, in this process, for as long as the block lasts; nothing is stored."""
    record = Inline(app)
    with app.diverted(record):
        yield record


class _NoReports:
    """Progress goes nowhere, and no lease is ever lost."""

    async def report_progress(self, lease: Lease, fraction: float, note: str) -> None:
        return None

    async def holds(self, lease: Lease) -> bool:
        return True


class _Line(AttemptLine):
    """The line of an attempt without a database."""

    __slots__ = ("_result",)

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt, _NoReports(), "")

    async def complete(self, conn: object, result: object) -> None:
        self.complete_sync(conn, result)

    def complete_sync(self, conn: object, result: object) -> None:
        self._result = None if result is None else encode_plain(result, "result")
        self.completed = True

    async def after_complete(self, otherwise: Ending | None = None) -> Ending | None:
        return otherwise or Completed(result=self._result)


def _holder(job: NewJob, known: dict[UUID, Entry]) -> JobId | None:
    for entry in known.values():
        other = entry.job.unique
        if job.unique and other and other.key == job.unique.key and entry.view.state in other.states:
            return entry.job.id
    return None


def _lease(job: NewJob) -> Lease:
    now = microseconds(datetime.now(UTC))
    return Lease(
        job_id=job.id,
        token=uuid4(),
        lane=0,
        run=1,
        attempt=1,
        crashes=0,
        interruptions=0,
        suspicion=0,
        args=job.args,
        priority=job.shape.priority,
        max_attempts=1,
        timeout_ms=None
        if job.shape.timeout is None
        else max(1, int(job.shape.timeout.total_seconds() * 1000)),
        crash_limit=job.shape.crash_limit,
        available_us=now,
        claimed_us=now,
        queue=job.shape.queue,
        kind=job.shape.kind,
    )


def _view(lease: Lease, ending: Ending) -> ResultView:
    settled = settle(lease, ending)
    return ResultView(state=settled.state, result=settled.result, error=settled.error, cause=settled.cause)
