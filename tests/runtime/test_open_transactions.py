"""What the leader does while somebody holds a transaction open: it waits for nothing but what that transaction has locked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from uuid import uuid4

import pytest

from perdure.domain.errors import Locked
from perdure.domain.job import LIVE, JobState, UniqueRule
from perdure.domain.liveness import Sight
from perdure.domain.settlement import Completed, settle
from perdure.domain.worker import WorkerId
from perdure.runtime.duties import Duties
from perdure.runtime.process_wiring import SupervisorStores, supervisor_stores
from perdure.runtime.settings import Settings
from perdure.services.stage import Stage
from perdure.stores.postgres.callers import complete, enqueue_on
from perdure.stores.postgres.jobs import PostgresJobs, settler_database
from perdure.stores.postgres.statements import Statement
from tests.support.attempts import settle_each
from tests.support.new_jobs import job_of
from tests.support.system import System, failure, new_id, system_on
from tests.support.waiting import eventually

ONCE = UniqueRule(key="once", states=LIVE - {JobState.RUNNING})
SLEEP = Statement("sleep", (), "SELECT pg_sleep(300)", "")
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[SupervisorStores]:
    async with supervisor_stores(Settings.model_validate({"database_url": database_url})) as opened:
        yield opened


def duties_on(stores: SupervisorStores) -> Duties:
    holder = uuid4()
    sight = Sight(worker_id=WorkerId(holder), now=0.0, unbroken_for=timedelta(0))
    return Duties(Settings(), stores, holder=holder, sight=lambda: sight)


@asynccontextmanager
async def taken(system: System) -> AsyncIterator[None]:
    """A transaction of a user, who enqueues a job of the key `once` and takes their time."""
    async with system.sql.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        job = job_of(id=new_id(), kind="app.work", queue="default", unique=ONCE)
        await enqueue_on(conn, [job], on_duplicate="raise")
        yield
        await transaction.rollback()


async def test_staging_goes_on_while_rescue_waits_for_the_unique_key_of_an_open_enqueue(
    system: System, stores: SupervisorStores
) -> None:
    """And of the dead host's jobs the one with that key alone is left, for as long as nobody can know who has it."""
    duties, worker = duties_on(stores), await system.worker()
    await duties._stand()
    lost = [await system.add(), clashing := await system.add(unique=ONCE), await system.add()]
    assert len(await system.claim(worker, limit=3)) == 3
    await system.sql.execute("UPDATE perdure.workers SET state = 'dead' WHERE id = $1", worker)
    async with taken(system):
        rescue = asyncio.create_task(duties._rescue_lost())
        await eventually(lambda: system.sql.fetchval(WAITING))
        due = await system.add(delay=timedelta(milliseconds=1))
        await asyncio.wait_for(Stage(stores.jobs, stores.dispatch).run_once(), 20)
        assert await system.state(due) == "available"
        await asyncio.wait_for(rescue, 40)
        states = {job_id: await system.state(job_id) for job_id in lost}
        assert states == {job_id: "available" if job_id != clashing else "running" for job_id in lost}
    await duties._rescue_lost()
    assert await system.state(clashing) == "available"


async def test_a_request_to_cancel_is_carried_on_beside_one_that_must_wait(
    system: System, stores: SupervisorStores
) -> None:
    worker = await system.worker()
    jobs = await system.add_many(3)
    for lease in await system.claim(worker, limit=3):
        await system.act.cancel(lease.job_id, actor="kim")
        await system.end(lease, failure(retry_in=0))
    await stores.jobs.stage(limit=10)
    (again,) = await system.claim(worker)
    async with system.sql.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await complete(conn, again, None, started=monotonic())
        await asyncio.wait_for(stores.control.carry_on_cancel_requests(limit=10), 40)
        states = {job_id: await system.state(job_id) for job_id in jobs}
        assert states == {job_id: "running" if job_id == again.job_id else "cancelled" for job_id in jobs}
        await transaction.rollback()
    await system.end(again, failure(retry_in=0))
    await asyncio.wait_for(stores.control.carry_on_cancel_requests(limit=10), 40)
    assert await system.state(again.job_id) == "cancelled"


async def test_a_term_is_renewed_and_given_up_whatever_a_duty_waits_for(stores: SupervisorStores) -> None:
    leader, other = duties_on(stores), duties_on(stores)
    await leader._stand()
    held_up = asyncio.create_task(stores.duties.fetch(SLEEP))
    await asyncio.sleep(0)
    await asyncio.wait_for(leader._stand(), 20)
    await asyncio.wait_for(leader.resign(), 20)
    await asyncio.wait_for(other._stand(), 20)
    assert other._term is not None
    held_up.cancel()
    await asyncio.wait([held_up])


async def test_a_result_that_must_wait_for_an_open_enqueue_is_told_as_locked(
    system: System, database_url: str
) -> None:
    """Its process puts it aside then, and stores the others."""
    await system.add(unique=ONCE)
    (lease,) = await system.claim()
    database = settler_database(database_url, application_name="tests")
    try:
        async with taken(system):
            with pytest.raises(Locked):
                await asyncio.wait_for(PostgresJobs(database).settle([settle(lease, failure())]), 20)
        assert (await PostgresJobs(database).settle([settle(lease, failure())])).accepted == {lease.token}
    finally:
        await database.close()


async def test_claims_of_a_concurrency_key_go_on_while_a_result_waits_for_an_open_enqueue(
    system: System,
) -> None:
    """Of two results that are stored together, one frees the slot of the key, and the other waits for who has a unique key."""
    done, clashing = await system.add(concurrency_key="k"), await system.add(unique=ONCE)
    leases = {lease.job_id: lease for lease in await system.claim(limit=2)}
    await system.add(concurrency_key="k")
    endings = [settle(leases[done], Completed()), settle(leases[clashing], failure())]
    async with taken(system):
        settling = asyncio.create_task(settle_each(system.jobs, endings))
        await eventually(lambda: system.sql.fetchval(WAITING))
        assert len(await asyncio.wait_for(system.claim(), 20)) == 1
        assert not settling.done()
    assert (await asyncio.wait_for(settling, 20)).accepted == {lease.token for lease in leases.values()}
