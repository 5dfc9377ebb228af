"""Children that are written while a parent ends, in transactions that do not see each other; and very many at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import monotonic
from uuid import UUID, uuid4

import asyncpg
import pytest

from perdure.domain.job import NewJob
from perdure.domain.settlement import Completed, settle
from perdure.stores.postgres.callers import complete
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.jobs import PostgresJobs, encode_jobs
from perdure.stores.postgres.statements import statements
from tests.support.database import Store, after, new_job
from tests.support.waiting import eventually


async def race(store: Store, parent: NewJob, *children: NewJob, child_first: bool) -> None:
    """Settle the parent and enqueue its children in two transactions that overlap and do not see each other."""
    (lease,) = await store.claim()
    assert lease.job_id == parent.id
    settling, enqueueing = await asyncpg.connect(store.url), await asyncpg.connect(store.url)
    done, added = settling.transaction(), enqueueing.transaction()
    await done.start()
    await added.start()
    sql = statements("jobs")
    outcome = settle(lease, Completed())
    end = settling.fetch(
        sql["settle_completed"].numbered(), [outcome.job_id], [outcome.token], [None], [0], [0]
    )
    add = enqueueing.fetch(sql["enqueue"].numbered(), encode_jobs(children), "raise")
    for step in (add, end) if child_first else (end, add):
        await step
    for transaction in (added, done) if child_first else (done, added):
        await transaction.commit()
    await settling.close()
    await enqueueing.close()


@pytest.mark.parametrize("child_first", [True, False])
async def test_a_child_written_while_its_parent_ends_is_found(store: Store, child_first: bool) -> None:
    for _ in range(25):
        parent = new_job()
        child = after(parent)
        await store.add(parent)
        await race(store, parent, child, child_first=child_first)
        assert await store.state(child.id) == "pending"
        (place,) = await store.jobs.resolve(limit=100)
        assert place.job_id == child.id
        assert await store.drain() == [child.id]


async def test_a_child_that_somebody_holds_locked_keeps_no_other_from_its_look(store: Store) -> None:
    """Not those of the same parent, nor so many others as one round looks at."""
    parent, open_ended = new_job(), new_job()
    child, held = after(parent), after(parent, open_ended)
    await store.add(parent)
    await store.add(open_ended)
    await race(store, parent, held, child, child_first=True)
    (lease,) = await store.claim()
    async with store.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await complete(connection, lease, None, started=monotonic())
        for found in ([child.id], []):
            places = await asyncio.wait_for(store.jobs.resolve(limit=1), 20)
            assert [place.job_id for place in places] == found
        await transaction.commit()
    assert [place.job_id for place in await store.jobs.resolve(limit=1)] == [held.id]


async def test_a_child_seen_while_its_parent_still_ends_is_looked_at_again(store: Store) -> None:
    """The parent's transaction is younger than the child's and commits after the first look."""
    parent = new_job()
    child = after(parent)
    await store.add(parent)
    (lease,) = await store.claim()
    enqueueing, settling = await asyncpg.connect(store.url), await asyncpg.connect(store.url)
    added, done = enqueueing.transaction(), settling.transaction()
    await added.start()
    await enqueueing.fetch(statements("jobs")["enqueue"].numbered(), encode_jobs([child]), "raise")
    await done.start()
    end = statements("jobs")["settle_completed"].numbered()
    await settling.fetch(end, [lease.job_id], [lease.token], [None], [0], [0])
    await added.commit()
    for _ in range(3):
        assert await store.jobs.resolve(limit=10) == []
        await store.sql("UPDATE perdure.blocked_jobs SET look_at = now()")
    assert await store.value("SELECT verified FROM perdure.blocked_jobs") is False
    await done.commit()
    (place,) = await store.jobs.resolve(limit=10)
    assert place.job_id == child.id
    await settling.close()
    await enqueueing.close()


async def held_up(store: Store, parent: NewJob, isolation: str) -> Callable[[], Awaitable[None]]:
    """Have a transaction that ends the parent stand still between its snapshot and its first write; gives what lets it go on."""
    (lease,) = await store.claim()
    assert lease.job_id == parent.id
    obstacle, settling = await asyncpg.connect(store.url), await asyncpg.connect(store.url)
    await obstacle.execute("SELECT pg_advisory_lock(1)")
    await settling.execute(f"BEGIN ISOLATION LEVEL {isolation}")
    text = statements("jobs")["settle_completed"].numbered()
    end = text.replace("$1::uuid[]", "(SELECT $1::uuid[] FROM pg_advisory_xact_lock(1))")
    assert end != text
    settle_it = settling.fetch(end, [lease.job_id], [lease.token], [None], [0], [0])
    if isolation == "READ COMMITTED":
        waiting: Awaitable[object] = asyncio.create_task(settle_it)
        stands = "SELECT wait_event = 'advisory' AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = $1"
        await eventually(lambda: store.value(stands, settling.get_server_pid()))
    else:
        await settling.execute("SELECT 1")  # its snapshot is taken here, and it writes later
        waiting = settle_it

    async def go_on() -> None:
        await obstacle.close()
        await waiting
        await settling.execute("COMMIT")
        await settling.close()

    return go_on


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
async def test_a_settling_that_stalls_before_its_first_write_leaves_no_child_waiting(
    store: Store, isolation: str
) -> None:
    """It has no transaction id yet, and it cannot see the child that is written meanwhile, however long it stalls."""
    parent = new_job()
    child = after(parent)
    await store.add(parent)
    go_on = await held_up(store, parent, isolation)
    await store.add(child)
    for _ in range(4):
        assert await store.jobs.resolve(limit=10) == []
        await store.sql("UPDATE perdure.blocked_jobs SET look_at = now()")
    assert await store.value("SELECT verified FROM perdure.blocked_jobs") is False
    await go_on()
    (place,) = await store.jobs.resolve(limit=10)
    assert place.job_id == child.id


async def test_a_stall_that_has_ended_keeps_no_child_unverified(store: Store) -> None:
    parent, other = new_job(), new_job()
    await store.add(parent)
    go_on = await held_up(store, parent, "READ COMMITTED")
    await store.add(other)
    await store.add(after(other))
    await store.jobs.resolve(limit=10)
    await go_on()
    for verified in (False, True):
        await store.sql("UPDATE perdure.blocked_jobs SET look_at = now()")
        await store.jobs.resolve(limit=10)
        assert await store.value("SELECT verified FROM perdure.blocked_jobs") is verified


async def test_anybody_may_see_how_old_the_snapshots_of_others_are(store: Store) -> None:
    """Without that right, a worker whose role is not the producer's would conclude too much."""
    role = f"guest_{uuid4().hex}"
    holder = await asyncpg.connect(store.url)
    await holder.execute(f"CREATE ROLE {role}")
    try:
        await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        async with store.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {role}")
            ages = "SELECT age(backend_xmin) FROM pg_stat_activity WHERE pid = $1"
            assert await connection.fetchval(ages, holder.get_server_pid()) is not None
    finally:
        await holder.execute("ROLLBACK")
        await holder.execute(f"DROP ROLE {role}")
        await holder.close()


async def test_children_are_verified_and_then_left_in_peace(store: Store) -> None:
    parent = new_job()
    await store.add(parent)
    await store.add(after(parent))
    for verified in (False, True):
        await store.jobs.resolve(limit=10)
        assert await store.value("SELECT verified FROM perdure.blocked_jobs") is verified
        await store.sql("UPDATE perdure.blocked_jobs SET look_at = now()")
    await store.add(new_job(), after(new_job_of := new_job()), new_job_of)
    assert await store.value("SELECT count(*) FROM perdure.blocked_jobs WHERE NOT verified") == 0


async def test_an_old_transaction_elsewhere_keeps_nobody_from_being_looked_at(store: Store) -> None:
    """More children than one round looks at, and none of them can be verified."""
    elsewhere = await asyncpg.connect(store.url)
    await elsewhere.execute("BEGIN; SELECT pg_current_xact_id()")
    parent = new_job()
    await store.add(parent)
    children = [after(parent) for _ in range(30)]
    await store.add(*children)
    for _ in range(3):
        await store.jobs.resolve(limit=10)
    assert await store.value("SELECT count(*) FROM perdure.blocked_jobs WHERE looked_xid IS NOT NULL") == 30
    assert await store.value("SELECT count(*) FROM perdure.blocked_jobs WHERE verified") == 0
    await elsewhere.close()


async def test_a_handler_that_completes_a_parent_itself_holds_up_no_second_look_at_others(
    store: Store,
) -> None:
    """Its open transaction has locked the child of that parent; the children of others are found meanwhile, that one afterwards."""
    slow = new_job()
    held = after(slow)
    await store.add(slow)
    (lease,) = await store.claim()
    await store.add(held)
    handler = await asyncpg.connect(store.url)
    transaction = handler.transaction()
    await transaction.start()
    await complete(handler, lease, None, started=monotonic())
    parent = new_job()
    child = after(parent)
    await store.add(parent)
    await race(store, parent, child, child_first=True)
    (place,) = await asyncio.wait_for(store.jobs.resolve(limit=10), 20)
    assert place.job_id == child.id
    assert await store.state(held.id) == "pending"
    await transaction.commit()
    await handler.close()
    assert await store.state(held.id) == "available"


async def test_enqueueing_and_settling_at_full_speed_leave_no_child_behind(store: Store) -> None:
    database = await PooledDatabase.open(store.url, application_name="tests", most=4)
    producer = PostgresJobs(database)
    parents = [new_job() for _ in range(50)]
    children = [after(parent) for parent in parents]

    async def produce() -> None:
        for parent, child in zip(parents, children, strict=True):
            await producer.enqueue([parent])
            await producer.enqueue([child])

    producing = asyncio.create_task(produce())
    done: list[UUID] = []
    ends = monotonic() + 30
    while len(done) < 100 and monotonic() < ends:
        done += await store.drain()
        await store.jobs.resolve(limit=100)
        await store.sql("UPDATE perdure.blocked_jobs SET look_at = now() WHERE NOT verified")
    await producing
    await database.close()
    assert sorted(done) == sorted(job.id for job in (*parents, *children))


async def test_a_fan_in_of_ten_thousand(store: Store) -> None:
    parents = [new_job() for _ in range(10_000)]
    child, late = after(*parents), after(*parents, delay=timedelta(hours=1))
    begin = monotonic()
    await store.add(*parents, child)
    await store.add(late)
    assert monotonic() - begin < 20
    done = await store.drain()
    assert len(done) == 10_001
    assert done[-1] == child.id
    assert await store.state(late.id) == "scheduled"


async def test_a_fan_out_of_two_thousand_in_layers(store: Store) -> None:
    layers = [[new_job() for _ in range(100)]]
    for _ in range(19):
        layers.append(
            [after(*layers[-1][n : n + 3]) for n in range(97)] + [after(layers[-1][0]) for _ in range(3)]
        )
    begin = monotonic()
    await store.add(*(job for layer in layers for job in layer))
    assert monotonic() - begin < 10
    depths = await store.sql("SELECT depth, count(*) AS jobs FROM perdure.jobs GROUP BY depth ORDER BY depth")
    assert [(row["depth"], row["jobs"]) for row in depths] == [(depth, 100) for depth in range(20)]
    assert len(await store.drain()) == 2_000
