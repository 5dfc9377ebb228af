"""The tools for users' own tests: inline, drain, what was enqueued, time, and faults on real processes."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import psutil
import pytest

from perdure import (
    Context,
    Delays,
    Dependency,
    DuplicateJob,
    GiveUp,
    JobFailed,
    JobState,
    OnParentFailure,
    Perdure,
    PerdureError,
    Snooze,
    job,
)
from perdure.domain.errors import (
    DependencyCycle,
    IllegalTransition,
    InvalidArguments,
    NotFound,
    UnknownParent,
)
from perdure.domain.job import JobId
from perdure.domain.worker import WorkerState
from perdure.runtime.new_ids import new_id
from perdure.runtime.operations import SpawnedWorker, WorkerConfig
from perdure.testing import (
    FrozenClock,
    advance,
    assert_enqueued,
    assert_enqueued_sync,
    drain,
    enqueued,
    enqueued_sync,
    faults,
    inline,
    make_due,
)
from tests.api.conftest import JOBS, QUICK
from tests.support.servers import alive
from tests.support.waiting import eventually

calls: list[object] = []
shop = Perdure(database_url="postgresql://nobody@localhost:1/none")


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@job
async def charge(order: UUID, cents: int = 100) -> int:
    calls.append((order, cents))
    return cents


@job
def pack(ctx: Context, order: UUID) -> str:
    ctx.progress_sync(0.5, "half")
    calls.append((order, ctx.attempt, ctx.max_attempts))
    shop.enqueue_sync(charge, order, 7)
    return "packed"


@job
async def breaks() -> None:
    raise ValueError("no luck")


@job
async def snoozes() -> Snooze | str:
    calls.append("snoozed")
    return Snooze("1h") if len(calls) == 1 else "awake"


@job(timeout="50ms")
async def dawdles() -> None:
    await asyncio.sleep(30)


@job
async def settles(ctx: Context) -> int:
    await ctx.complete(None, 5)
    return 6


@job(retries=2, retry=Delays(["10m", "20m"]))
async def fails_at_first(ctx: Context) -> int:
    if ctx.attempt < 3:
        raise ValueError(f"attempt {ctx.attempt}")
    return ctx.attempt


@job(mode="process", queue="cpu", labels=["gpu"])
def crunch(n: int) -> int:
    return n * n


@job
async def hopeless() -> None:
    raise GiveUp("never")


@job
async def again() -> None:
    await shop.enqueue(again)


class TestInline:
    async def test_a_job_has_run_when_its_enqueue_returns(self) -> None:
        order = uuid4()
        with inline(shop):
            handle = await shop.enqueue(charge, order, cents=5)
            assert calls == [(order, 5)]
            assert await handle.result() == 5
        assert await handle.state() is JobState.COMPLETED

    def test_blocking_code_enqueues_from_a_handler_too(self) -> None:
        order = uuid4()
        with inline(shop) as jobs:
            assert shop.enqueue_sync(pack, order).result_sync() == "packed"
            assert calls == [(order, 1, 1), (order, 7)]
            assert_enqueued_sync(shop, charge, cents=7)
            assert len(jobs.entries) == 2

    async def test_arguments_are_checked_as_in_production(self) -> None:
        with inline(shop), pytest.raises(InvalidArguments, match="order"):
            await shop.enqueue(charge, "no uuid")  # type: ignore[arg-type]

    async def test_an_error_is_behind_the_handle_and_nothing_is_retried(self) -> None:
        with inline(shop):
            handle = await shop.enqueue(breaks)
            with pytest.raises(JobFailed, match="ValueError: no luck"):
                await handle.result()

    async def test_what_is_delayed_or_snoozed_waits_to_be_run(self) -> None:
        with inline(shop) as jobs:
            later = await shop.using(delay="1h").enqueue(charge, uuid4())
            handle = await shop.enqueue(snoozes)
            assert [await later.state(), await handle.state()] == [JobState.SCHEDULED, JobState.SCHEDULED]
            assert await jobs.run_scheduled() == 2
            assert [await later.result(), await handle.result()] == [100, "awake"]

    async def test_time_limits_hold(self) -> None:
        with inline(shop):
            handle = await shop.enqueue(dawdles)
            with pytest.raises(JobFailed, match="ran longer than"):
                await handle.result()

    async def test_complete_is_noted_without_a_connection(self) -> None:
        with inline(shop):
            assert await (await shop.enqueue(settles)).result() == 5

    async def test_children_run_after_their_parents_whatever_their_order(self) -> None:
        first = shop.prepare(charge, uuid4(), 1)
        second = shop.using(depends_on=first).prepare(charge, uuid4(), 2)
        with inline(shop):
            await shop.enqueue_many([second, first])
        assert [cents for _, cents in calls] == [1, 2]  # type: ignore[misc, has-type]

    async def test_a_failed_parent_holds_cancels_or_lets_run(self) -> None:
        parent = shop.prepare(breaks)
        children = [
            shop.using(depends_on=Dependency(parent_id=JobId(parent.id), on_failure=policy)).prepare(
                charge, uuid4()
            )
            for policy in (OnParentFailure.HOLD, OnParentFailure.CANCEL, OnParentFailure.RUN)
        ]
        with inline(shop):
            handles = await shop.enqueue_many([*children, parent])
            states = [await handle.state() for handle in handles[:3]]
        assert states == [JobState.PENDING, JobState.CANCELLED, JobState.COMPLETED]

    async def test_what_the_database_would_refuse_is_refused_and_nothing_runs(self) -> None:
        one, two = new_id(), new_id()
        circle = [
            shop.using(id=one, depends_on=two).prepare(charge, uuid4()),
            shop.using(id=two, depends_on=one).prepare(charge, uuid4()),
        ]
        keyed = shop.using(unique_key="k", unique_for="1h")
        with inline(shop):
            with pytest.raises(DependencyCycle):
                await shop.enqueue_many(circle)
            with pytest.raises(UnknownParent):
                await shop.using(depends_on=one).enqueue(charge, uuid4())
            assert calls == []
            kept = await keyed.enqueue(charge, uuid4())
            with pytest.raises(DuplicateJob):
                await keyed.enqueue(charge, uuid4())
            twin = await shop.using(unique_key="k", on_duplicate="return").enqueue(charge, uuid4())
            assert (twin.id, twin.created) == (kept.id, False)
            same = await shop.using(id=kept.id).enqueue(charge, uuid4())
            assert not same.created

    async def test_afterwards_jobs_go_to_the_database_again(self) -> None:
        with inline(shop):
            await shop.enqueue(charge, uuid4())
        with pytest.raises(PerdureError, match="does not answer"):
            await shop.enqueue(charge, uuid4())


class TestDrain:
    async def test_everything_that_may_start_is_run_in_whatever_queue(self, app: Perdure) -> None:
        first = await app.enqueue(charge, uuid4(), 3)
        second = await app.using(depends_on=first).enqueue(crunch, 4)
        assert await drain(app, [charge, crunch]) == {"completed": 2}
        assert await first.result() == 3
        assert await second.result() == 16

    async def test_a_new_kind_is_seen_at_once(self, app: Perdure) -> None:
        assert await drain(app, [charge]) == {}
        await app.enqueue(charge, uuid4())
        assert await drain(app, [charge]) == {"completed": 1}

    async def test_retries_and_delays_within_the_time_given_are_run_without_waiting(
        self, app: Perdure
    ) -> None:
        handle = await app.enqueue(fails_at_first)
        late = await app.using(delay="3h").enqueue(charge, uuid4())
        assert await drain(app, [fails_at_first, charge]) == {"failed": 1}
        assert await drain(app, [fails_at_first, charge], until="25m") == {"failed": 1}
        assert await drain(app, [fails_at_first, charge], until="1h") == {"completed": 1}
        assert await handle.result() == 3
        assert await late.state() is JobState.SCHEDULED
        assert await drain(app, JOBS) == {}

    async def test_a_job_that_gives_up_is_a_dead_letter(self, app: Perdure) -> None:
        handle = await app.enqueue(hopeless)
        assert await drain(app, [hopeless]) == {"failed": 1}
        detail = await app.jobs.get(handle.id)
        assert detail.dead_letter is not None
        assert detail.dead_letter.cause == "never"

    async def test_jobs_without_end_are_noticed(self, app: Perdure) -> None:
        for _ in range(4):
            await app.enqueue(charge, uuid4())
        with pytest.raises(PerdureError, match="stopped after 3 attempts"):
            await drain(app, [charge], attempts_max=3)


class TestEnqueued:
    async def test_a_subset_of_arguments_and_options_is_enough(self, app: Perdure) -> None:
        order = uuid4()
        await app.using(priority=5, delay="1h").enqueue(charge, order, cents=9)
        found = await assert_enqueued(app, charge, having={"priority": 5, "retries": 3}, cents=9)
        assert (found.arguments, found.state) == ({"order": order, "cents": 9}, JobState.SCHEDULED)
        assert found.run_at is not None
        assert [one.id for one in await enqueued(app, charge)] == [found.id]

    async def test_defaults_count_as_arguments(self, app: Perdure) -> None:
        await app.enqueue(charge, uuid4())
        await assert_enqueued(app, charge, cents=100)

    async def test_a_failure_lists_near_misses_the_nearest_first(self, app: Perdure) -> None:
        order = uuid4()
        await app.using(queue="slow").enqueue(charge, order, 1)
        near = await app.enqueue(charge, order, 2)
        with pytest.raises(AssertionError) as failed:
            await assert_enqueued(app, charge, having={"queue": "default"}, order=order, cents=3, tip=1)
        lines = str(failed.value).splitlines()
        assert lines[0].startswith(f"no job of {charge.name} was enqueued with order=")
        assert lines[1] == f"  job {near.id}: cents is 2, not 3; tip is not there"
        assert lines[2].endswith("cents is 1, not 3; tip is not there; queue is 'slow', not 'default'")

    async def test_a_failure_names_what_else_there_is(self, app: Perdure) -> None:
        with pytest.raises(AssertionError, match="there is no job"):
            await assert_enqueued(app, charge)
        await app.enqueue(breaks)
        with pytest.raises(AssertionError, match=f"there are jobs of {breaks.name}"):
            await assert_enqueued(app, charge)
        with pytest.raises(PerdureError, match="prio: cannot be asked for"):
            await assert_enqueued(app, breaks, having={"prio": 1})

    def test_blocking_twins(self, database_url: str) -> None:
        app = Perdure(database_url=database_url)
        app.enqueue_sync(charge, uuid4(), 4)
        assert assert_enqueued_sync(app, charge, cents=4).id == enqueued_sync(app, charge)[0].id
        app.close_sync()


class TestTime:
    def test_a_frozen_clock_moves_only_when_told(self) -> None:
        clock = FrozenClock()
        before = clock.now()
        assert clock.advance("90s") - before == timedelta(seconds=90)
        assert (clock.now(), clock.monotonic()) == (before + timedelta(seconds=90), 90.0)

    async def test_time_passes_for_what_waits_for_a_moment(self, app: Perdure) -> None:
        handle = await app.using(delay="2h", unique_key="k", unique_for="1h").enqueue(charge, uuid4())
        assert await advance(app, "1h") == 1
        assert await drain(app, [charge]) == {}
        await app.using(unique_key="k").enqueue(breaks)
        await advance(app, "1h")
        assert await drain(app, [charge]) == {"completed": 1}
        assert await handle.state() is JobState.COMPLETED

    async def test_one_job_is_made_due(self, app: Perdure) -> None:
        handle = await app.using(delay="2h").enqueue(charge, uuid4())
        await make_due(app, handle)
        assert await drain(app, [charge]) == {"completed": 1}
        with pytest.raises(IllegalTransition, match="completed and cannot be made due"):
            await make_due(app, handle.id)
        with pytest.raises(NotFound):
            await make_due(app, new_id())


class TestFaults:
    async def spawned(self, app: Perdure) -> SpawnedWorker:
        return await app.workers.spawn(WorkerConfig(app=JOBS, settings=QUICK, bound=True))

    async def test_a_worker_is_stopped_in_part_then_whole_then_killed(self, app: Perdure) -> None:
        worker = await self.spawned(app)
        children = psutil.Process(worker.process.pid).children(recursive=True)

        async def silent() -> bool:
            return (await app.workers.health(worker.worker_id)).suspect

        async def going_on() -> bool:
            return psutil.STATUS_STOPPED not in {child.status() for child in children}

        async def beating() -> bool:
            return not await silent()

        with faults.pause_heartbeat(worker.worker_id):
            assert psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED
            assert psutil.STATUS_STOPPED not in {child.status() for child in children}
            await eventually(silent)
        await eventually(beating)
        faults.transient_failure(worker, seconds=0.3)
        assert {child.status() for child in children} == {psutil.STATUS_STOPPED}
        await eventually(going_on)
        faults.crash(worker.process.pid)
        assert not any(alive(child) for child in children)
        await worker.process.wait()
        assert (await app.workers.health(worker.worker_id)).state is WorkerState.ACTIVE

    def test_a_worker_that_is_not_here_is_named(self) -> None:
        with pytest.raises(NotFound, match="worker"):
            faults.crash(uuid4())
