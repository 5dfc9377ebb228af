"""What leases, workers and leadership promise, on PostgreSQL and on the model that simulations run on."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from perdure.domain.job import NewJob
from perdure.domain.lease import Lease
from perdure.domain.liveness import Step
from perdure.domain.settlement import Completed, Crashed, Failed, Interrupted, settle
from perdure.domain.worker import NewWorker, WorkerId, WorkerState
from perdure.ports import Claimer, Dispatch, Jobs, Leases, Workers
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.leadership import PostgresLeadership
from perdure.stores.postgres.leases import PostgresLeases
from perdure.stores.postgres.workers import PostgresWorkers
from tests.contract.conftest import AnyStore
from tests.support.database import SCOPE, failure, new_job, store_on
from tests.support.model_bench import ModelBench

DEAD_AFTER = timedelta(seconds=15)
FRESH = timedelta(seconds=6)
TTL = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The ports of those who guard leases, and a way to let time pass."""

    store: AnyStore
    jobs: Jobs
    leases: Leases
    workers: Workers
    dispatch: Dispatch
    leadership: Callable[[UUID], PostgresLeadership]
    age: Callable[[timedelta], Awaitable[None]]

    async def worker(self) -> WorkerId:
        worker_id = WorkerId(uuid4())
        await self.workers.register(NewWorker(id=worker_id, name="w", host="h", pid=1))
        return worker_id

    async def judge(self, *suspects: WorkerId) -> list[WorkerId]:
        """Declare those dead whose heartbeat is still the one that is seen now, by an observer whose own is fresh."""
        observer = await self.worker()
        last = {beat.worker_id: beat.at for beat in await self.workers.heartbeats()}
        silent = {suspect: last[suspect] for suspect in suspects if suspect in last}
        return list(await self.workers.declare_dead(silent, observer=observer, fresh_within=FRESH))

    async def overdue(self, *steps: Step) -> list[UUID]:
        """The jobs whose handlers are taken for hung by an observer whose heartbeat is fresh."""
        observer = await self.worker()
        found = await self.leases.overdue(observer=observer, fresh_within=FRESH, steps=steps, limit=10)
        return [held.lease.job_id for held in found]

    async def claim(self, worker_id: WorkerId, job: NewJob, process: int = 1) -> Lease:
        await self.store.add(job)
        claimer = Claimer(worker_id=worker_id, process=process)
        (lease,) = await self.dispatch.claim(claimer, SCOPE, limit=1)
        return lease


@pytest.fixture(params=["postgres", "model"])
async def guard(request: pytest.FixtureRequest) -> AsyncIterator[Guard]:
    if request.param == "model":
        yield guard_of_model(ModelBench())
        return
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_on(request.getfixturevalue("database_url")))

        async def age(by: timedelta) -> None:
            await store.sql("UPDATE perdure.workers SET heartbeat_at = heartbeat_at - $1::interval", by)
            await store.sql("UPDATE perdure.leases SET deadline = deadline - $1::interval", by)
            await store.sql("UPDATE perdure.leaders SET expires_at = expires_at - $1::interval", by)

        yield Guard(
            store=store,
            jobs=store.jobs,
            leases=PostgresLeases(store.database),
            workers=PostgresWorkers(store.database),
            dispatch=PostgresDispatch(store.database),
            leadership=lambda holder: PostgresLeadership(store.database, holder=holder, ttl=TTL),
            age=age,
        )


def guard_of_model(store: ModelBench) -> Guard:
    async def age(by: timedelta) -> None:
        micros = by // timedelta(microseconds=1)
        for worker in store.model.workers.values():
            worker.beat_at -= micros
        for lease in store.model.leases.values():
            lease.deadline -= micros
        if store.model.leader is not None:
            holder, term, until = store.model.leader
            store.model.leader = (holder, term, until - micros)

    return Guard(
        store=store,
        jobs=store.jobs,
        leases=store.leases,
        workers=store.workers,
        dispatch=PostgresDispatch(store.database),
        leadership=lambda holder: store.leadership(holder, TTL),
        age=age,
    )


async def test_a_process_is_told_what_it_holds_and_nothing_else(guard: Guard) -> None:
    worker = await guard.worker()
    mine = await guard.claim(worker, new_job(), process=1)
    await guard.claim(worker, new_job(), process=2)
    (held,) = await guard.leases.of_process(worker, 1, limit=10)
    assert (held.lease.job_id, held.lease.token, held.worker_id, held.process) == (
        mine.job_id, mine.token, worker, 1,
    )  # fmt: skip


async def test_leases_of_the_dead_and_of_the_stopped_are_found_those_of_the_living_are_not(
    guard: Guard,
) -> None:
    silent, stopped, living = [await guard.worker() for _ in range(3)]
    lost = {(await guard.claim(worker, new_job())).job_id for worker in (silent, stopped)}
    await guard.claim(living, new_job())
    assert await guard.leases.of_dead(limit=10) == []
    await guard.age(DEAD_AFTER)
    for worker in (stopped, living):
        assert await guard.workers.beat(worker, kinds=(), processes=1)
    await guard.workers.stop(stopped, cause="stopped")
    assert await guard.judge(silent, stopped) == [silent]
    assert {held.lease.job_id for held in await guard.leases.of_dead(limit=10)} == lost


async def test_a_worker_that_was_declared_dead_learns_it_with_its_next_beat(guard: Guard) -> None:
    worker = await guard.worker()
    beat = await guard.workers.beat(worker, kinds=(), processes=1)
    assert beat is not None
    assert beat.state is WorkerState.ACTIVE
    await guard.age(DEAD_AFTER + timedelta(seconds=1))
    assert await guard.judge(worker) == [worker]
    assert await guard.judge(worker) == []
    assert await guard.workers.beat(worker, kinds=(), processes=1) is None


async def test_a_verdict_is_void_once_its_worker_has_beaten_again_or_its_observer_has_not(
    guard: Guard,
) -> None:
    worker, observer = await guard.worker(), await guard.worker()
    before = {beat.worker_id: beat.at for beat in await guard.workers.heartbeats()}
    await guard.age(DEAD_AFTER)
    last = {beat.worker_id: beat for beat in await guard.workers.heartbeats()}
    assert last[worker].silent_for >= DEAD_AFTER
    verdict = {worker: last[worker].at}
    assert await guard.workers.declare_dead(verdict, observer=observer, fresh_within=FRESH) == []
    assert await guard.workers.beat(observer, kinds=(), processes=1)
    outdated = {worker: before[worker]}
    assert await guard.workers.declare_dead(outdated, observer=observer, fresh_within=FRESH) == []
    assert await guard.workers.declare_dead(verdict, observer=observer, fresh_within=FRESH) == [worker]


async def test_a_beat_tells_the_gap_to_the_one_before(guard: Guard) -> None:
    worker = await guard.worker()
    await guard.age(DEAD_AFTER)
    beat = await guard.workers.beat(worker, kinds=(), processes=1)
    assert beat is not None
    assert DEAD_AFTER <= beat.gap < DEAD_AFTER + timedelta(minutes=1)


async def test_a_lease_is_overdue_after_its_time_and_a_grace(guard: Guard) -> None:
    worker = await guard.worker()
    timed = await guard.claim(worker, new_job(timeout=timedelta(seconds=30)))
    await guard.claim(worker, new_job(timeout=None))
    await guard.age(timedelta(seconds=30))
    assert await guard.overdue() == []
    await guard.age(timedelta(seconds=30))
    assert await guard.overdue() == [timed.job_id]


async def test_what_was_claimed_before_a_step_of_the_clock_has_as_much_more_time(guard: Guard) -> None:
    worker = await guard.worker()
    timed = await guard.claim(worker, new_job(timeout=timedelta(seconds=30)))
    await guard.age(timedelta(seconds=60))
    minute = timedelta(seconds=60)
    now, before, back = (
        Step(minute, timedelta(0)),
        Step(minute, timedelta(minutes=5)),
        Step(-minute, timedelta(0)),
    )
    assert await guard.overdue(now) == []
    assert await guard.overdue(now, back) == [timed.job_id]
    assert await guard.overdue(before) == [timed.job_id]
    await guard.age(minute)
    assert await guard.overdue(now) == [timed.job_id]
    assert await guard.overdue(now, now) == []


async def test_no_handler_is_taken_for_hung_by_an_observer_whose_heartbeat_is_old(guard: Guard) -> None:
    """Right after a step of the clock, before anybody has noticed it, every deadline may have passed at once."""
    worker = await guard.worker()
    await guard.claim(worker, new_job(timeout=timedelta(seconds=30)))
    observer = await guard.worker()
    await guard.age(timedelta(seconds=60))
    assert await guard.leases.overdue(observer=observer, fresh_within=FRESH, steps=(), limit=10) == []
    assert len(await guard.overdue()) == 1


async def test_the_end_of_a_lost_lease_changes_nothing_and_is_recorded_once(guard: Guard) -> None:
    worker = await guard.worker()
    job = new_job()
    first = await guard.claim(worker, job)
    assert (
        await guard.jobs.settle([settle(first, Crashed(cause="lost", alone=False, host_lost=True))])
    ).accepted
    late = settle(first, Completed())
    assert (await guard.jobs.settle([late])).accepted == frozenset()
    assert await guard.jobs.refuse([late], worker) == {first.token}
    assert await guard.store.state(job.id) == "available"


async def test_a_result_whose_acknowledgement_was_lost_is_no_refusal(guard: Guard) -> None:
    worker = await guard.worker()
    done = settle(await guard.claim(worker, new_job()), Completed())
    assert (await guard.jobs.settle([done])).accepted == {done.token}
    assert (await guard.jobs.settle([done])).accepted == frozenset()
    assert await guard.jobs.refuse([done], worker) == frozenset()


async def test_counts_travel_with_the_job(guard: Guard) -> None:
    worker, job = await guard.worker(), new_job(max_attempts=3)
    lease = await guard.claim(worker, job)
    for ending, attempt, crashes, interruptions in (
        (Interrupted(cause="deploy"), 1, 0, 1),
        (failure(), 2, 0, 1),
        (Crashed(cause="x", alone=False, host_lost=True), 2, 0, 1),
    ):
        await guard.jobs.settle([settle(lease, ending)])
        await guard.jobs.stage(limit=10)
        (lease,) = await guard.dispatch.claim(Claimer(worker_id=worker, process=1), SCOPE, limit=1)
        assert (lease.attempt, lease.crashes, lease.interruptions) == (attempt, crashes, interruptions)
    assert isinstance(failure(), Failed)


async def test_one_leads_until_its_term_ends_and_terms_rise(guard: Guard) -> None:
    one, other = guard.leadership(uuid4()), guard.leadership(uuid4())
    assert await one.lead() == 1
    assert await other.lead() is None
    assert await one.lead() == 1
    await guard.age(TTL + timedelta(seconds=1))
    assert await other.lead() == 2
    assert await one.lead() is None
    await one.resign()
    assert await one.lead() is None
    await other.resign()
    assert await one.lead() == 3
