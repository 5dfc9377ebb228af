"""Bulk calls: what has nothing but its arguments is stored as columns, and is exactly what single calls would have stored."""

import asyncio
import base64
import copy
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import JobState, Perdure, PerdureError
from perdure.domain.errors import DatabaseUnavailable, InvalidOption
from perdure.domain.ids import Ids
from perdure.runtime.prepared import Prepared, in_columns
from perdure.services.enqueue import MANY
from perdure.testing import drain
from tests.support import jobs, sealed_jobs
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually

KEY = f"key:{base64.b64encode(bytes(32)).decode()}"
BY_ARGUMENT = "SELECT (args ->> 'a')::int AS a, id FROM perdure.jobs ORDER BY 1"
OF_SHAPE = """
SELECT (j.args ->> 'a')::int AS a, j.id, l.queue, j.priority, l.kind
FROM perdure.jobs j JOIN perdure.lanes l USING (lane) ORDER BY 1
"""


def prepared(app: Perdure, count: int = MANY, **options: Any) -> list[Prepared[int]]:
    using = app.using(**options)
    return [using.prepare(jobs.add, n) for n in range(count)]


async def known(app: Perdure) -> None:
    """Have the lane be known."""
    await app.enqueue(jobs.add, -1)


async def test_each_handle_is_that_of_its_own_job_however_many_shapes_there_are(
    app: Perdure, sql: Any
) -> None:
    shapes = [app.using(priority=1), app.using(queue="media"), app.using(priority=1)]
    for one in shapes:
        await one.enqueue(jobs.add, -1)
    await sql.execute("TRUNCATE perdure.jobs, perdure.available_jobs")
    call = [shapes[n % 3].prepare(jobs.add, n) for n in range(3 * MANY)]
    assert in_columns(call) is not None
    handles = await app.enqueue_many(call)
    rows = await sql.fetch(OF_SHAPE)
    assert [row["id"] for row in rows] == [handle.id for handle in handles] == [one.id for one in call]
    assert [(row["queue"], row["priority"]) for row in rows] == [
        ("media", 3) if n % 3 == 1 else ("default", 1) for n in range(3 * MANY)
    ]
    assert all(handle.created for handle in handles)
    assert await handles[7].state() is JobState.AVAILABLE
    assert await drain(app, jobs) == {"completed": 3 * MANY}
    assert await handles[7].result() == 8


async def test_the_first_call_of_a_kind_is_as_quick_as_the_others(app: Perdure) -> None:
    assert isinstance(await app.producer.enqueue(prepared(app), conn=None), Ids)


async def test_jobs_wait_in_the_order_of_the_call_whatever_their_shapes(app: Perdure, sql: Any) -> None:
    """Also those that take the general way to their columns, as the encrypted ones do."""
    shapes = [app.using(timeout="1s"), app.using(timeout="2s"), app.using(queue="media")]
    for one in shapes:
        await one.enqueue(jobs.add, -1)
    await sql.execute("TRUNCATE perdure.jobs, perdure.available_jobs")
    call = [shapes[n % 3].prepare(jobs.add, n) for n in range(3 * MANY)]
    assert isinstance(await app.producer.enqueue(call, conn=None), Ids)
    waiting = await sql.fetch("SELECT job_id FROM perdure.available_jobs ORDER BY rank")
    assert [row["job_id"] for row in waiting] == [one.id for one in call]
    again = [shapes[n % 3].prepare(jobs.add, n) for n in range(3 * MANY)]
    opened = await app.producer.enqueue([one.but(one.job) for one in again], conn=None)
    assert not isinstance(opened, Ids)
    waiting = await sql.fetch("SELECT job_id FROM perdure.available_jobs ORDER BY rank")
    assert [row["job_id"] for row in waiting] == [one.id for one in [*call, *again]]
    assert await sql.fetchval("SELECT count(DISTINCT rank) FROM perdure.available_jobs") == 6 * MANY


async def test_a_call_is_what_it_was_when_it_was_made(app: Perdure, sql: Any) -> None:
    """Whoever fills a list and hands it over may go on with it, also on the general way, which is taken after a look."""
    for _ in range(2):  # the second finds its lane known
        buffer = prepared(app)
        call = asyncio.create_task(app.enqueue_many(buffer))
        await asyncio.sleep(0)
        buffer[:] = prepared(app, 1)
        assert len(await call) == MANY
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 2 * MANY


async def test_closing_waits_for_a_large_call_that_takes_the_general_way(database_url: str, sql: Any) -> None:
    app = Perdure(database_url=database_url)
    await app.stores()
    calls = [asyncio.create_task(app.enqueue_many(prepared(app))) for _ in range(8)]
    await asyncio.sleep(0)
    await app.close()
    assert all(call.done() for call in calls)
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 8 * MANY
    named = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'perdure producer' AND datname = current_database()"
    await eventually(lambda: sql.fetchval(f"SELECT ({named}) = 0"))


@pytest.mark.parametrize("options", [{}, {"priority": 1}, {"unique_key": "u"}])
def test_a_prepared_job_has_one_id_however_it_is_handed_on(options: dict[str, Any]) -> None:
    app = Perdure(database_url="postgresql://nobody@localhost:1/none")
    one = app.using(**options).prepare(jobs.add, 1)
    copies = [copy.copy(one), copy.deepcopy(one)]
    for other in (*copies, pickle.loads(pickle.dumps(one))):  # noqa: S301 - our own
        assert (other.id, other.kind, other.on_duplicate) == (one.id, one.kind, one.on_duplicate)
        assert other.job == one.job
    with pytest.raises(AttributeError, match="immutable"):
        one.args = "{}"  # type: ignore[misc]


def test_threads_that_enqueue_the_same_jobs_give_them_the_same_ids() -> None:
    app = Perdure(database_url="postgresql://nobody@localhost:1/none")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            for _ in range(60):
                call = prepared(app, 200)
                meet = threading.Barrier(2)

                def ids(call: list[Prepared[int]] = call, meet: threading.Barrier = meet) -> list[UUID]:
                    meet.wait()
                    columns = in_columns(call)
                    assert columns is not None
                    return list(columns[0])

                first, second = (each.result() for each in [threads.submit(ids), threads.submit(ids)])
                assert first == second == [one.id for one in call]
    finally:
        sys.setswitchinterval(before)


async def test_an_id_that_was_asked_for_is_the_one_that_is_stored(app: Perdure, sql: Any) -> None:
    await known(app)
    call = prepared(app)
    asked = call[3].id
    handles = await app.enqueue_many(call)
    assert handles[3].id == call[3].id == asked
    assert dict(await sql.fetch(BY_ARGUMENT))[3] == asked


async def test_a_job_of_a_call_can_be_the_parent_of_a_later_one(app: Perdure) -> None:
    await known(app)
    call = prepared(app)
    handles = await app.enqueue_many(call)
    child = await app.using(depends_on=[call[0], handles[1]]).enqueue(jobs.add, 1)
    assert await child.state() is JobState.PENDING


async def test_a_call_that_is_repeated_stores_nothing_twice(app: Perdure, sql: Any) -> None:
    await known(app)
    call = prepared(app)
    first = await app.enqueue_many(call)
    again = await app.enqueue_many([*call, *prepared(app)])
    assert [handle.id for handle in again[:MANY]] == [handle.id for handle in first]
    assert [handle.created for handle in again] == [False] * MANY + [True] * MANY
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 2 * MANY + 1


async def test_one_that_is_given_twice_is_refused_with_all_others(app: Perdure, sql: Any) -> None:
    await known(app)
    call = prepared(app)
    with pytest.raises(InvalidOption, match="id: is given to two jobs of the call"):
        await app.enqueue_many([*call, call[0]])
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 1


async def test_a_call_whose_answer_was_lost_is_repeated_safely(private_postgres: PostgresServer) -> None:
    """The connection is cut after the jobs have been stored and before the caller hears of it."""
    waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    named = "SELECT true WHERE current_setting('synchronous_standby_names') = 'nobody'"
    async with Perdure(database_url=private_postgres.url) as app:
        await known(app)
        call = prepared(app)
        with psycopg.connect(private_postgres.url, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            admin.execute("SELECT pg_reload_conf()")
            await eventually(lambda: asyncio.to_thread(lambda: admin.execute(named).fetchone()))
            admin.execute("CHECKPOINT")  # who makes it has taken the setting up before, for all
            under_way = asyncio.create_task(app.enqueue_many(call))
            await eventually(lambda: asyncio.to_thread(lambda: admin.execute(waiting).fetchone()))
            with pytest.raises(DatabaseUnavailable):
                await under_way
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
            again = await app.enqueue_many(call)
            stored = admin.execute("SELECT count(*) FROM perdure.jobs").fetchone()
        assert not any(handle.created for handle in again)
        assert stored == (MANY + 1,)


async def test_one_that_is_tied_takes_the_others_along_the_general_way(app: Perdure, sql: Any) -> None:
    call = prepared(app)
    tied = app.using(depends_on=call[0]).prepare(jobs.add, MANY)
    handles = await app.enqueue_many([*call, tied])
    assert await handles[-1].state() is JobState.PENDING
    assert [row["id"] for row in await sql.fetch(BY_ARGUMENT)] == [handle.id for handle in handles]


async def test_many_encrypted_jobs_are_encrypted(database_url: str, sql: Any) -> None:
    async with Perdure(database_url=database_url, encryption_keys=KEY) as app:
        for _ in range(2):  # the second finds its lane known
            await app.enqueue_many([app.prepare(sealed_jobs.whisper, "hush") for _ in range(MANY)])
    sealed = "SELECT count(*) FILTER (WHERE args ? '$sealed'), count(*) FROM perdure.jobs"
    assert tuple(await sql.fetchrow(sealed)) == (2 * MANY, 2 * MANY)


def test_the_blocking_twin_stores_columns_too(database_url: str) -> None:
    app = Perdure(database_url=database_url)
    app.enqueue_sync(jobs.add, -1)
    handles = app.enqueue_many_sync(prepared(app))
    assert [handle.state_sync() for handle in handles] == [JobState.AVAILABLE] * MANY
    app.close_sync()


async def test_a_call_that_cannot_be_stored_stores_nothing(app: Perdure, sql: Any) -> None:
    await known(app)
    old = app.using(id=UUID(int=prepared(app)[0].id.int - (2 * 86_400_000 << 80))).prepare(jobs.add, 1)
    with pytest.raises(PerdureError):
        await app.enqueue_many([*prepared(app), old])
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 1


OPTIONS: list[dict[str, Any]] = [
    {},
    {"priority": 1},
    {"queue": "q", "labels": ["a"]},
    {"timeout": None, "retries": 0, "crash_limit": 2},
    {"metadata": {"a": 1}},
    {"delay": 0},
    {"unique_key": "u"},
    {"concurrency_key": "c"},
    {"depends_on": UUID(int=1)},
    {"id": UUID("01a2217f-01fe-7000-927f-a52a3aecfe54")},
]


@given(st.lists(st.sampled_from(range(len(OPTIONS))), min_size=1, max_size=30), st.sets(st.integers(0, 29)))
def test_columns_hold_what_the_jobs_would(choice: list[int], asked: set[int]) -> None:
    """Those that have more than their arguments are never among them."""
    app = Perdure(database_url="postgresql://nobody@localhost:1/none")
    using = [app.using(**options) for options in OPTIONS]
    call = [using[one].prepare(jobs.add, n) for n, one in enumerate(choice)]
    before = {n: call[n].id for n in asked if n < len(call)}
    columns = in_columns(call)
    assert (columns is None) is any(one > 3 for one in choice)
    assert {n: call[n].id for n in before} == before
    if columns is None:
        return
    ids, bulks = columns
    assert len({bulk.shape for bulk in bulks}) == len(bulks)
    assert list(ids) == [one.id for one in call] == [one.job.id for one in call]
    assert len(set(ids)) == len(call)
    rows = {
        job_id: (bulk.shape, args) for bulk in bulks for job_id, args in zip(bulk.ids, bulk.args, strict=True)
    }
    assert rows == {one.id: (one.job.shape, one.job.args) for one in call}
