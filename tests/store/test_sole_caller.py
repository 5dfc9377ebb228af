"""The connection of single enqueues: what hangs is given up, what is lost is opened again, though no statement has a timer of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

import asyncpg
import pytest
from psycopg.conninfo import conninfo_to_dict

from perdure.domain.errors import DatabaseUnavailable
from perdure.stores.postgres.direct import fields
from perdure.stores.postgres.sole_caller import InTurn, SoleCallerDatabase
from perdure.stores.postgres.statements import Statement
from perdure.torture.line import Line
from tests.store.test_connections import sessions_left
from tests.support.waiting import eventually

SLEEP = Statement("sleep", ("seconds",), "SELECT pg_sleep($1)", "")
SLEEP_UNSEEN = Statement(
    "sleep_unseen", ("seconds",), "INSERT INTO public.slept SELECT pg_sleep($1::integer) IS NULL", ""
)
ONE = Statement("one", (), "SELECT 1 AS one", "")
PID = Statement("pid", (), "SELECT pg_backend_pid() AS pid", "")
DIVIDE = Statement("divide", ("by",), "SELECT 1 / $1::integer AS divided", "")
ALL = Statement("all", (), "SELECT * FROM shelf", "")
UNLUCKY = Statement("unlucky", (), "SELECT unlucky() AS at", "")
NOTE = Statement("note", ("long",), "INSERT INTO public.slept VALUES ($1)", "")
UNLUCKY_UNSEEN = Statement("unlucky_unseen", (), "CREATE TEMPORARY TABLE lucky AS SELECT unlucky() AS at", "")
FORGET = Statement("forget", (), "DROP TABLE lucky", "")
LUCKY = Statement("lucky", (), "SELECT at FROM lucky", "")
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active'"


Sleep: TypeAlias = Callable[[SoleCallerDatabase], Coroutine[Any, Any, object]]


@pytest.fixture
async def sole(database_url: str) -> AsyncIterator[SoleCallerDatabase]:
    database = SoleCallerDatabase(database_url, application_name="gives up", command_timeout=0.4)
    yield database
    await database.close()


@pytest.fixture(params=["driven", "direct", "both"])
def sleep(request: pytest.FixtureRequest) -> Sleep:
    """Has the server sleep, by each way of asking it."""
    if request.param == "driven":
        return lambda sole: sole.fetch(SLEEP, 300.0)
    if request.param == "direct":
        return lambda sole: sole.run(SLEEP_UNSEEN, fields(300))
    return lambda sole: sole.run_both(InTurn("both", SLEEP_UNSEEN, NOTE), fields(300), fields("t"))


@pytest.fixture
async def other(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE public.slept (long boolean)")
    yield connection
    await connection.execute("DROP TABLE public.slept")
    await connection.close()


async def value(database: SoleCallerDatabase, statement: Statement, *values: object) -> object:
    return (await database.fetch(statement, *values))[0][0]


async def test_what_hangs_is_given_up_in_time_and_the_server_ends_it(
    sole: SoleCallerDatabase, database_url: str, sleep: Sleep, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    for _ in range(2):
        assert await value(sole, ONE) == 1
        began = monotonic()
        with pytest.raises(DatabaseUnavailable, match="has not answered in time"):
            await asyncio.wait_for(sleep(sole), 10)
        assert 0.4 <= monotonic() - began < 5
        assert await value(sole, ONE) == 1
        await sessions_left(database_url, 1)
    await sole.close()
    await sessions_left(database_url, 0)


async def test_what_was_given_up_is_cancelled_though_the_program_closes_at_once(
    sole: SoleCallerDatabase, database_url: str, sleep: Sleep, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    with pytest.raises(DatabaseUnavailable):
        await sleep(sole)
    await sole.close()
    await sessions_left(database_url, 0)


async def test_many_quick_statements_are_not_taken_for_one_that_hangs(sole: SoleCallerDatabase) -> None:
    first = await value(sole, PID)
    began = monotonic()
    while monotonic() - began < 1.0:
        assert await value(sole, PID) == first


async def test_a_connection_that_is_lost_between_two_statements_is_opened_again(
    sole: SoleCallerDatabase, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    pid = await value(sole, PID)
    await other.execute("SELECT pg_terminate_backend($1)", pid)

    async def noticed() -> bool:
        connection = sole._connection
        return connection is None or connection.is_closed()

    await eventually(noticed)
    assert await value(sole, PID) != pid


async def test_a_connection_that_is_lost_under_a_statement_is_told_and_opened_again(
    sole: SoleCallerDatabase, other: "asyncpg.Connection[asyncpg.Record]", sleep: Sleep
) -> None:
    pid = await value(sole, PID)
    asking = asyncio.create_task(sleep(sole))

    async def asleep() -> bool:
        return bool(await other.fetchval(SLEEPING, "gives up"))

    await eventually(asleep)
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        await asking
    assert await value(sole, PID) != pid


async def test_two_statements_at_a_time_are_refused_in_either_order_and_the_first_goes_on(
    sole: SoleCallerDatabase, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Otherwise the answer to one would be taken for the answer to the other."""
    first = asyncio.create_task(sole.fetch(ONE))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two statements at a time"):
        await sole.run(NOTE, fields("t"))
    assert len(await first) == 1
    second = asyncio.create_task(sole.run(NOTE, fields("t")))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two statements at a time"):
        await sole.fetch(ONE)
    await second
    assert await other.fetchval("SELECT count(*) FROM public.slept") == 1


async def test_a_caller_that_is_cancelled_holds_nobody_up_and_the_server_ends_what_it_asked(
    sole: SoleCallerDatabase, other: "asyncpg.Connection[asyncpg.Record]", database_url: str, sleep: Sleep
) -> None:
    await sole.fetch(ONE)
    asking = asyncio.create_task(sleep(sole))

    async def asleep() -> bool:
        return bool(await other.fetchval(SLEEPING, "gives up"))

    await eventually(asleep)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await asyncio.wait_for(value(sole, ONE), 10) == 1
    await sessions_left(database_url, 1)


async def test_a_request_to_cancel_that_meets_what_nobody_waits_for_is_repeated(
    sole: SoleCallerDatabase, other: "asyncpg.Connection[asyncpg.Record]", database_url: str
) -> None:
    await sole.run_both(InTurn("behind", NOTE, SLEEP_UNSEEN), fields("t"), fields(40))
    asking = asyncio.create_task(sole.run(SLEEP_UNSEEN, fields(40)))
    await asyncio.sleep(0)  # it is prepared, and said now
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await asyncio.wait_for(value(sole, ONE), 10) == 1
    await sessions_left(database_url, 1)


@pytest.mark.parametrize("ask", [lambda sole: sole.fetch(ONE), lambda sole: sole.run(NOTE, fields("t"))])
async def test_callers_with_less_patience_than_ours_do_not_wait_for_a_silent_server_one_after_the_other(
    database_url: str, other: "asyncpg.Connection[asyncpg.Record]", ask: Sleep
) -> None:
    """The network swallows all of one connection; the server could be reached by another one."""
    server = conninfo_to_dict(database_url)
    async with Line(Path(str(server["host"])) / f".s.PGSQL.{server['port']}") as line:
        swallowed = f"postgresql://{server['user']}@127.0.0.1:{line.port}/{server['dbname']}?sslmode=disable"
        sole = SoleCallerDatabase(swallowed, application_name="tests")
        await ask(sole)
        line.hold()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(sole), 0.1)
        sole._url = database_url
        assert await asyncio.wait_for(value(sole, ONE), 5) == 1
        await sole.close()


async def test_a_connection_that_was_closed_is_watched_again_once_it_is_used(
    sole: SoleCallerDatabase, sleep: Sleep, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await sole.fetch(ONE)
    await sole.close()
    with pytest.raises(DatabaseUnavailable, match="has not answered in time"):
        await asyncio.wait_for(sleep(sole), 10)


async def test_what_the_server_refuses_is_raised_as_it_is_and_the_connection_stays(
    sole: SoleCallerDatabase,
) -> None:
    pid = await value(sole, PID)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await sole.fetch(DIVIDE, 0)
    assert await value(sole, DIVIDE, 1) == 1
    assert await value(sole, PID) == pid


async def test_a_statement_is_prepared_anew_once_its_tables_have_changed(
    sole: SoleCallerDatabase, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await other.execute("CREATE TABLE public.shelf AS SELECT 1 AS board")
    try:
        assert [tuple(row) for row in await sole.fetch(ALL)] == [(1,)]
        await other.execute("ALTER TABLE public.shelf ADD label text DEFAULT 'top'")
        for _ in range(2):
            assert [tuple(row) for row in await sole.fetch(ALL)] == [(1, "top")]
    finally:
        await other.execute("DROP TABLE public.shelf")


async def test_what_did_nothing_because_of_others_is_repeated(
    sole: SoleCallerDatabase, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """With what is run after it, if anything is."""
    await other.execute("""
        CREATE SEQUENCE public.tries;
        CREATE FUNCTION public.unlucky() RETURNS bigint LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('public.tries') < 3 THEN
                RAISE EXCEPTION 'not yet' USING ERRCODE = '40001';
            END IF;
            RETURN currval('public.tries');
        END
        $$
    """)
    try:
        assert await value(sole, UNLUCKY) == 3
        await other.execute("ALTER SEQUENCE public.tries RESTART")
        await sole.run(UNLUCKY_UNSEEN, fields())
        assert await value(sole, LUCKY) == 3
        await other.execute("ALTER SEQUENCE public.tries RESTART")
        await sole.fetch(FORGET)
        await sole.run_both(InTurn("both", UNLUCKY_UNSEEN, NOTE), fields(), fields("t"))
        assert await value(sole, LUCKY) == 3
    finally:
        await other.execute("DROP FUNCTION public.unlucky(); DROP SEQUENCE public.tries")
