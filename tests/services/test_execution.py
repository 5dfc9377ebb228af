"""Claimed jobs start where there is room, and what cannot start is given back."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from perdure.domain.errors import DatabaseUnavailable, WorkerGone
from perdure.domain.lease import Lease
from perdure.domain.settlement import Ending, Failed, Interrupted
from perdure.domain.worker import WorkerId
from perdure.ports import Claimer, LeaseOf, Scope
from perdure.services.execution import Attempt, Done, Execution, Group, Limits, Seams
from tests.support.database import failure
from tests.support.waiting import eventually

SCOPE = Scope(queues=("default",), kinds=("app.work",))
NOW = datetime.now(UTC)


def lease(*, timeout_ms: int | None = None) -> Lease:
    return Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 4, timeout_ms, None, 0, 0, kind="app.work")


class Source:
    """A dispatch that hands out these jobs; `late` is a claim that is committed after so many looks for it."""

    def __init__(self, jobs: Sequence[Lease]) -> None:
        self.jobs = list(jobs)
        self.limits: list[int] = []
        self.failures: list[Exception] = []
        self.late: tuple[int, Lease] | None = None
        self.looks = 0
        self.bell: asyncio.Event | None = None

    async def claim(self, claimer: Claimer, scope: Scope, *, limit: int) -> Sequence[Lease]:
        self.limits.append(limit)
        if self.failures:
            raise self.failures.pop()
        given, self.jobs = self.jobs[:limit], self.jobs[limit:]
        return given

    async def of_process(self, worker_id: object, process: int, *, limit: int) -> Sequence[LeaseOf]:
        self.looks += 1
        if self.late is None or self.looks <= self.late[0]:
            return []
        return [LeaseOf(worker_id=WorkerId(uuid4()), process=process, isolated=False, lease=self.late[1])]

    async def wait(self, timeout: Any) -> bool:
        if self.bell is not None:
            return await self.bell.wait()
        await asyncio.sleep(timeout.total_seconds())
        return False


class Results:
    """A settler that keeps what it gets, unsettled until `settle` is called."""

    def __init__(self) -> None:
        self.endings: dict[UUID, Ending] = {}
        self.tokens: set[UUID] = set()
        self._settled = asyncio.Event()

    def add(self, lease: Lease, ending: Ending, started: float | None, finished: float) -> None:
        self.endings[lease.job_id] = ending
        self.tokens.add(lease.token)
        self._settled.clear()

    def settle(self) -> None:
        self.tokens.clear()
        self._settled.set()

    async def room(self) -> None: ...

    async def emptied(self) -> None:
        if self.tokens:
            await self._settled.wait()


class Handlers:
    """A runner whose handlers end when the test says so, and cannot be stopped."""

    def __init__(self) -> None:
        self.started: dict[UUID, Callable[[Ending], None]] = {}
        self.untold: set[UUID] = set()
        """The jobs of which the runner fails to tell how they end when their time is up."""

    def start(self, attempt: Attempt, done: Done) -> None:
        self.started[attempt.lease.job_id] = lambda ending: done(attempt, ending)

    def stop(self, attempt: Attempt) -> bool:
        return False

    def timed_out(self, attempt: Attempt) -> Ending:
        if attempt.lease.job_id in self.untold:
            raise RuntimeError("a runner that fails")
        return failure(message="too long")

    async def close(self) -> None: ...


class Process:
    """An execution with one group, and what surrounds it."""

    def __init__(
        self,
        jobs: Sequence[Lease],
        *,
        isolated: bool = False,
        capacity: int = 1,
        stuck: Any = lambda attempt: None,
        gone: Any = lambda: None,
    ) -> None:
        self.source, self.results, self.handlers = Source(jobs), Results(), Handlers()
        limits = Limits(prefetch_max=10, prefetch_s=1.0)
        self.group = Group(SCOPE, capacity, self.handlers, limits)
        self.execution = Execution(
            Seams(dispatch=self.source, leases=self.source, settler=self.results),  # type: ignore[arg-type]
            Claimer(worker_id=uuid4(), process=1, isolated=isolated),  # type: ignore[arg-type]
            [self.group],
            limits=limits,
            on_stuck=stuck,
            on_gone=gone,
        )

    def learn(self, seconds: float) -> None:
        """Let the group believe that its jobs take this long."""
        self.group.ended(Attempt(lease(), 0.0), seconds)


async def until(holds: Callable[[], object], *, within_s: float = 10.0) -> None:
    async def look() -> object:
        return holds()

    await eventually(look, within_s=within_s)


async def test_what_was_claimed_ahead_of_a_slow_job_is_given_back_before_it_is_overdue() -> None:
    """Short jobs were expected, and a long one came: those behind it must not run into their deadlines."""
    long, *behind = [lease() for _ in range(6)]
    process = Process([long, *behind])
    process.learn(0.2)
    running = asyncio.create_task(process.execution.run())
    await until(lambda: len(process.group.waiting) == 5)
    await until(lambda: len(process.results.endings) == 5, within_s=3)
    assert set(process.results.endings) == {one.job_id for one in behind}
    for ending in process.results.endings.values():
        assert isinstance(ending, Interrupted)
        assert not ending.started
    asked = len(process.source.limits)
    await asyncio.sleep(0.6)
    assert len(process.source.limits) == asked, "nothing is claimed ahead until more is learned"
    process.handlers.started[long.job_id](failure())
    await process.execution.drain(0)
    await running


async def test_nothing_starts_in_the_place_of_a_handler_that_was_left_behind() -> None:
    stuck: list[Attempt] = []
    first, second = lease(timeout_ms=50), lease()
    process = Process([first, second], stuck=stuck.append)
    process.learn(0.2)
    running = asyncio.create_task(process.execution.run())
    await until(lambda: process.group.waiting)
    await until(lambda: stuck)
    assert isinstance(process.results.endings[first.job_id], Failed)
    assert process.results.endings[second.job_id] == Interrupted(
        cause="released before it started: a handler of app.work could not be stopped", started=False
    )
    assert set(process.handlers.started) == {first.job_id}
    await process.execution.drain(0)
    await running


async def test_a_suspect_starts_only_when_the_result_of_the_one_before_is_stored() -> None:
    """Or the crash of the second would find two leases of this process, and blame both."""
    first, second = lease(), lease()
    process = Process([first, second], isolated=True)
    running = asyncio.create_task(process.execution.run())
    await until(lambda: process.handlers.started)
    process.handlers.started[first.job_id](failure())
    await asyncio.sleep(0.5)
    assert set(process.handlers.started) == {first.job_id}
    process.results.settle()
    await until(lambda: second.job_id in process.handlers.started)
    await process.execution.drain(0)
    await running


async def test_an_unforeseen_error_of_a_claim_does_not_end_what_runs() -> None:
    """As when an administrator cancels the statement."""
    first, second = lease(), lease()
    process = Process([first, second])
    running = asyncio.create_task(process.execution.run())
    await until(lambda: process.handlers.started)
    process.source.failures.append(RuntimeError("canceling statement due to user request"))
    process.handlers.started[first.job_id](failure())
    await until(lambda: second.job_id in process.handlers.started)
    await process.execution.drain(0)
    await running


async def test_an_execution_whose_worker_was_given_up_claims_no_more_and_says_so_once() -> None:
    gone: list[None] = []
    process = Process([lease()], gone=lambda: gone.append(None))
    process.source.failures.append(WorkerGone(uuid4()))
    await asyncio.wait_for(process.execution.run(), 10)
    assert len(gone) == 1
    assert not process.handlers.started


async def test_a_claim_that_is_committed_after_the_first_look_for_it_is_given_back_too() -> None:
    """Its answer was lost while it was still under way in the database; nobody else would ever end its lease."""
    late = lease()
    process = Process([])
    process.source.failures.append(DatabaseUnavailable("the answer was lost"))
    process.source.late = (1, late)
    running = asyncio.create_task(process.execution.run())
    await until(lambda: late.job_id in process.results.endings)
    ending = process.results.endings[late.job_id]
    assert isinstance(ending, Interrupted)
    assert not ending.started
    await process.execution.drain(0)
    await running


async def test_a_runner_that_fails_at_a_deadline_leaves_those_of_the_others_in_force() -> None:
    broken, sound = lease(timeout_ms=50), lease(timeout_ms=60)
    process = Process([broken, sound], capacity=2)
    process.handlers.untold.add(broken.job_id)
    running = asyncio.create_task(process.execution.run())
    await until(lambda: sound.job_id in process.results.endings)
    process.handlers.untold.clear()
    await until(lambda: broken.job_id in process.results.endings)
    await process.execution.drain(0)
    await running


async def test_after_a_claim_that_found_all_there_was_only_the_doorbell_brings_another() -> None:
    """A lone job costs one claim, also when it ends."""
    first, second = lease(), lease()
    process = Process([first], capacity=5)
    process.source.bell = asyncio.Event()
    running = asyncio.create_task(process.execution.run())
    await until(lambda: process.handlers.started)
    process.handlers.started[first.job_id](failure())
    await asyncio.sleep(0.05)
    assert process.source.limits == [5]
    process.source.jobs.append(second)
    process.source.bell.set()
    await until(lambda: second.job_id in process.handlers.started)
    process.handlers.started[second.job_id](failure())
    await process.execution.drain(1)
    await running


async def test_a_ring_that_comes_while_a_claim_is_under_way_is_answered_by_another_claim() -> None:
    process = Process([])
    process.source.bell = bell = asyncio.Event()
    claim, late = process.source.claim, lease()

    async def overtaken(claimer: Claimer, scope: Scope, *, limit: int) -> Sequence[Lease]:
        found = await claim(claimer, scope, limit=limit)
        if len(process.source.limits) == 2:  # the bell is being waited for since the first one
            process.source.jobs.append(late)
            bell.set()
            await asyncio.sleep(0.01)
            bell.clear()
        return found

    process.source.claim = overtaken  # type: ignore[method-assign]
    running = asyncio.create_task(process.execution.run())
    await until(lambda: process.source.limits)
    process.execution._wake.set()
    await until(lambda: late.job_id in process.handlers.started)
    await process.execution.drain(0)
    await running


async def test_time_limits_hold_until_the_end_of_a_drain() -> None:
    """A process that is recycled waits for what runs, however long; one hung handler must not keep it for ever."""
    hung, stuck = lease(timeout_ms=200), asyncio.Event()
    process = Process([hung], stuck=lambda attempt: stuck.set())
    running = asyncio.create_task(process.execution.run())
    await until(lambda: process.handlers.started)
    draining = asyncio.create_task(process.execution.drain(float("inf"), "the process is recycled"))
    await asyncio.wait_for(running, 10)
    await asyncio.wait_for(stuck.wait(), 30)
    await asyncio.wait_for(draining, 10)
    assert process.results.endings == {hung.job_id: failure(message="too long")}
