"""Store new jobs: single ones of concurrent callers share a commit, and waiting workers are told afterwards."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Protocol, TypeAlias
from uuid import UUID

import structlog

from perdure.domain.bulk import Bulk, in_bulk
from perdure.domain.errors import PerdureError, RollbackDetected, Unavailable
from perdure.domain.job import Disposition, Enqueued, NewJob
from perdure.ports import Dispatch, Place

log = structlog.get_logger("perdure.enqueue")

CREATED = Disposition.CREATED
BATCH = 1000
MANY = 20
"""From so many jobs on, a call is quicker by copying than by the statement that knows every case."""

BETWEEN_RINGS_S = 0.01
PATIENCE_S = 0.002
"""So much longer an announcement waits for a call that takes it along, which costs less than one of its own."""

_Waiting: TypeAlias = "tuple[NewJob, asyncio.Future[Enqueued]]"


class PlainJobs(Protocol):
    """Stores jobs that have nothing but their arguments and may start at once, as far as it can."""

    @property
    def rings(self) -> bool:
        """Whether it can announce a lone job with the very call that stores it."""
        ...

    async def lone(self, job: NewJob, *, ring: Sequence[Place] | None = None) -> Place | None:
        """Store one job; none when it was not stored.

        With `ring` it is announced with the same call, once it is durable, and those places with it; whether that was done is not told.
        """
        ...

    async def few(self, jobs: Sequence[NewJob]) -> Mapping[UUID, Place]:
        """Store jobs that have nothing to do with one another; those that are not among the answer were not stored."""
        ...

    async def many(self, bulks: Sequence[Bulk]) -> Sequence[Place] | None:
        """Store jobs, all or none, and give the places to announce; None when none was stored. No two have one shape."""
        ...


class PlacingJobs(Protocol):
    """Stores jobs and tells where those wait that may start now."""

    async def enqueue_placed(
        self, jobs: Sequence[NewJob], *, on_duplicate: str = "raise"
    ) -> tuple[Sequence[Enqueued], Sequence[Place]]:
        """Store the jobs, all or none, durably before the answer."""
        ...


class Watch(Protocol):
    """Remembers what was stored, for the day on which the database has lost it."""

    @property
    def broken(self) -> RollbackDetected | None:
        """What was found, while the database is not what it was."""
        ...

    def note(self, ids: Sequence[UUID]) -> None:
        """Remember jobs whose storing the database has answered; the sequence changes no more."""
        ...


class Unwatched:
    """The watch of who keeps none."""

    broken: RollbackDetected | None = None

    def note(self, ids: Sequence[UUID]) -> None:
        """Forget them."""


class Enqueue:
    """Stores jobs durably before it answers.

    Single jobs that arrive while another commit is under way go together into the next one: each caller is answered
    after that commit. A caller that is cancelled before its job was sent leaves nothing behind; one that is cancelled
    later may have stored it. Announcements are hints; they are sent afterwards, at most a hundred times a second.
    With a `watch` nothing is stored while the database is not what it was, and what was stored is noted there.
    """

    def __init__(
        self, jobs: PlacingJobs, plain: PlainJobs, dispatch: Dispatch, watch: Watch | None = None
    ) -> None:
        self._jobs = jobs
        self._plain = plain
        self._dispatch = dispatch
        self._watch = Unwatched() if watch is None else watch
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        self._places: list[Place] = []
        self._lone: list[Place] = []
        self._ringing: asyncio.Task[None] | None = None
        self._next_ring = 0.0
        self._calls = 0
        self._is_taken = False
        self._closing: asyncio.Event | None = None

    async def one(self, job: NewJob, *, on_duplicate: str) -> Enqueued:
        """Store one job. Raises what `many` raises.

        One that nobody waits with is committed in the task of its own caller; whoever comes meanwhile shares the next commit.
        """
        if (broken := self._watch.broken) is not None:
            raise broken
        if self._is_taken or self._committing is not None or not job.is_plain:
            return await self._shared(job, on_duplicate)
        place = told = None
        self._is_taken = True
        try:
            if self._plain.rings and (now := monotonic()) >= self._next_ring:
                told = self._to_tell(now)
            place = await self._plain.lone(job, ring=told)
        finally:
            self._is_taken = False
            if self._waiting or self._closing is not None:
                self._go_on()
            if place is None and told:
                self._announce(told)
        if place is None:
            return (await self.many([job], on_duplicate=on_duplicate))[0]
        if told is not None:
            self._watch.note((job.id,))
        else:
            self._lone.append(place)
            self._ringing = self._ringing or asyncio.create_task(self._ring())
        return created(job)

    async def _shared(self, job: NewJob, on_duplicate: str) -> Enqueued:
        """Store a job with whatever else waits for the next commit; one that is tied to others goes by itself."""
        if job.depends_on or job.unique is not None:
            return (await self.many([job], on_duplicate=on_duplicate))[0]
        answer: asyncio.Future[Enqueued] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        self._begin()
        return await answer

    def _to_tell(self, now: float) -> list[Place]:
        """What is to be announced now; what was stored one by one until then is noted on this occasion."""
        self._next_ring = now + BETWEEN_RINGS_S
        told, self._places = self._places, []
        return told + self._noted()

    def _noted(self) -> list[Place]:
        """Where the jobs wait that were stored one by one since it was last asked; the watch is told of them."""
        lone, self._lone = self._lone, []
        if lone:
            self._watch.note([place.job_id for place in lone])
        return lone

    def _begin(self) -> None:
        if self._committing is None and not self._is_taken:
            self._committing = asyncio.create_task(self._commit())

    def _go_on(self) -> None:
        """A call has ended: begin the next commit, and tell who waits for the last call."""
        if self._waiting:
            self._begin()
        if self._closing is not None and not self._calls and not self._is_taken:
            self._closing.set()

    async def many(self, jobs: Sequence[NewJob], *, on_duplicate: str) -> Sequence[Enqueued]:
        """Store the jobs, all or none. Raises UnknownParent, DuplicateJob, DependencyTooDeep or InvalidOption.

        Raises RollbackDetected while the database is not what it was.
        """
        is_bulk = len(jobs) >= MANY and all(job.is_plain for job in jobs)
        answers = await self.bulk(in_bulk(jobs) if is_bulk else (), lambda: jobs, on_duplicate=on_duplicate)
        return [created(job) for job in jobs] if answers is None else answers

    async def bulk(
        self, bulks: Sequence[Bulk], jobs: Callable[[], Sequence[NewJob]], *, on_duplicate: str
    ) -> Sequence[Enqueued] | None:
        """Copy `bulks` in, all or none, and give None; where there are none, or they cannot be copied, store the `jobs` that they stand for.

        No two bulks have one shape. Raises what `many` raises.
        """
        if (broken := self._watch.broken) is not None:
            raise broken
        with self._call():
            if bulks and (copied := await self._plain.many(bulks)) is not None:
                for bulk in bulks:
                    self._watch.note(bulk.ids)
                self._announce(copied)
                return None
            made = jobs()
            if not made:
                return []
            enqueued, places = await self._jobs.enqueue_placed(made, on_duplicate=on_duplicate)
            self._watch.note([one.job_id for one in enqueued if one.disposition is CREATED])
            self._announce(places)
            return enqueued

    @contextmanager
    def _call(self) -> Iterator[None]:
        """A call that `close` waits for."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._go_on()

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._calls or self._is_taken or self._committing or self._ringing:
            if self._calls or self._is_taken:
                self._closing = asyncio.Event()
                await self._closing.wait()
            tasks = {task for task in (self._committing, self._ringing) if task is not None}
            if tasks:
                await asyncio.wait(tasks)

    async def _commit(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                batch = [one for one in batch if not one[1].done()]
                try:
                    left = await self._store_plain(batch)
                    if left:
                        await self._store(left)
                except Exception as error:
                    log.exception("jobs could not be stored", count=len(batch))
                    _fail(batch, error)
        except BaseException as error:
            # The end of the loop, or a mistake of ours: nobody may be left waiting.
            _fail([*batch, *self._waiting], error)
            self._waiting.clear()
            raise
        finally:
            self._committing = None

    async def _store_plain(self, batch: Sequence[_Waiting]) -> Sequence[_Waiting]:
        """Store what is plain, answer its callers, and give the others."""
        plain = [job for job, _ in batch if job.is_plain]
        if not plain:
            return batch
        try:
            placed = await self._plain.few(plain)
        except Unavailable as error:
            _fail(batch, error)
            return ()
        left = []
        for one in batch:
            job, answer = one
            if job.id not in placed:
                left.append(one)
            elif not answer.done():
                answer.set_result(created(job))
        self._watch.note(list(placed))
        self._announce(placed.values())
        return left

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        try:
            answers = await self.many([job for job, _ in batch], on_duplicate="raise")
        except PerdureError as error:
            if len(batch) == 1 or isinstance(error, Unavailable):
                _fail(batch, error)
                return
            # One job of the batch cannot be stored: it must not take the others down with it.
            half = len(batch) // 2
            await self._store(batch[:half])
            await self._store(batch[half:])
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    def _announce(self, places: Iterable[Place]) -> None:
        self._places += places
        if self._places and self._ringing is None:
            self._ringing = asyncio.create_task(self._ring())

    async def _ring(self) -> None:
        """Announce what was stored and not told yet, unless a lone job takes it along."""
        patience = PATIENCE_S if self._plain.rings else 0.0
        try:
            while self._places or self._lone:
                if (wait := self._next_ring - monotonic()) > 0:
                    await asyncio.sleep(wait + patience)
                    continue
                await self._dispatch.announce(self._to_tell(monotonic()))
        except Unavailable:
            self._noted()
            self._places.clear()
        finally:
            self._ringing = None
            self._places += self._noted()


def created(job: NewJob) -> Enqueued:
    """The answer to the producer of a job that was stored by this very call."""
    return Enqueued(job_id=job.id, disposition=CREATED)


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for _, future in batch:
        if future.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            future.cancel()
        else:
            future.set_exception(error)
