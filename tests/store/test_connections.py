"""Connections: whatever hangs is given up in time, whichever way it was asked."""

import asyncio
from time import monotonic

import asyncpg
import pytest

from perdure.domain.errors import DatabaseUnavailable
from perdure.stores.postgres import connections
from perdure.stores.postgres.connections import Connection, DedicatedDatabase, PooledDatabase
from perdure.stores.postgres.statements import Statement
from perdure.stores.postgres.translation import server_of, translation
from tests.support.waiting import eventually

SLEEP = Statement("sleep", ("seconds",), "SELECT pg_sleep($1)", "")
BEGIN = Statement("begin", (), "BEGIN", "")
LOCK = Statement("lock", (), "SELECT pg_advisory_xact_lock(77)", "")
BOUND = Statement("bounded", (), "SELECT set_config('statement_timeout', '20s', true)", "")
ONE = Statement("one", (), "SELECT 1 AS one", "")
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"


async def test_a_command_that_hangs_is_given_up_alone_and_in_a_transaction(database_url: str) -> None:
    """A heartbeat is a transaction: without a limit a connection that went silent would hold it for a quarter of an hour.

    The server ends what was given up as well: else each try would leave a session behind, with all its locks.
    """
    database = DedicatedDatabase(database_url, application_name="gives up", command_timeout=0.2)
    try:
        for hang in (
            lambda: database.fetch(SLEEP, 300.0),
            lambda: database.fetch_all((ONE, ()), (SLEEP, (300.0,))),
            lambda: database.read_all((SLEEP, (300.0,)), timeout=0.2),
        ):
            began = monotonic()
            with pytest.raises(DatabaseUnavailable):
                await asyncio.wait_for(hang(), 10)
            assert monotonic() - began < 5
            assert [row["one"] for row in await database.fetch(ONE)] == [1]
            await sessions_left(database_url, 1)
    finally:
        await database.close()
    await sessions_left(database_url, 0)


@pytest.mark.parametrize("pooled", [False, True])
async def test_what_was_given_up_is_cancelled_though_the_program_closes_at_once(
    database_url: str, pooled: bool
) -> None:
    database: DedicatedDatabase | PooledDatabase = DedicatedDatabase(
        database_url, application_name="gives up", command_timeout=0.2
    )
    if pooled:
        database = await PooledDatabase.open(
            database_url, application_name="gives up", most=1, command_timeout=0.2
        )
    with pytest.raises(DatabaseUnavailable):
        await database.fetch(SLEEP, 300.0)
    await database.close()
    await sessions_left(database_url, 0)


async def sessions_left(database_url: str, count: int) -> None:
    """Wait until the server has so many sessions of that name."""
    other = await asyncpg.connect(database_url)

    async def left() -> bool:
        return int(await other.fetchval(SESSIONS, "gives up")) == count

    try:
        await eventually(left, within_s=20)
    finally:
        await other.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds are one here."""
    assert connections.ABANDONED["idle_in_transaction_session_timeout"] == "10s"
    monkeypatch.setitem(connections.ABANDONED, "idle_in_transaction_session_timeout", "1s")


async def freed(database_url: str) -> None:
    """What was locked can be locked by others in time."""
    other = await asyncpg.connect(database_url)
    try:
        assert await other.fetchval("SELECT pg_try_advisory_lock(77)") is False
        await asyncio.wait_for(other.execute("SELECT pg_advisory_lock(77)"), 15)
    finally:
        await other.close()


@pytest.mark.usefixtures("short")
async def test_a_host_that_loses_its_power_in_a_transaction_keeps_its_locks_for_seconds_only(
    database_url: str,
) -> None:
    """Such a host says no goodbye. What it had locked, rescue must be able to settle."""
    lost = DedicatedDatabase(database_url, application_name="tests")
    try:
        await lost.fetch(BEGIN)
        await lost.fetch(LOCK)
        await freed(database_url)

        async def noticed() -> bool:
            return not lost.connected

        await eventually(noticed, within_s=20)
        assert [row["one"] for row in await lost.fetch(ONE)] == [1]
    finally:
        await lost.close()


@pytest.mark.usefixtures("short")
async def test_so_does_a_connection_of_a_pool(database_url: str) -> None:
    lost = await PooledDatabase.open(database_url, application_name="tests", most=1)

    async def locked() -> None:
        async with lost.transaction() as connection:
            await connection.fetch(LOCK.numbered())
            await freed(database_url)
            await connection.fetch(ONE.numbered())

    try:
        with pytest.raises(DatabaseUnavailable):
            await locked()
        assert [row["one"] for row in await lost.fetch(ONE)] == [1]
    finally:
        await lost.close()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://u:geheim@nohost.invalid:99/shop", "PostgreSQL at nohost.invalid:99"),
        ("postgresql://u:geheim@nohost.invalid/shop", "PostgreSQL at nohost.invalid"),
        ("postgresql://u:geheim@/shop?host=/run/pg&port=5432", "PostgreSQL at /run/pg"),
        ("postgresql://u:geh:ei@m@one:1,two:2/shop", "PostgreSQL"),
        ("postgresql:///shop", "PostgreSQL"),
    ],
)
def test_a_server_that_does_not_answer_is_named_by_its_place_alone(url: str, named: str) -> None:
    assert server_of(url) == named
    error = translation(OSError("refused"), server_of(url))
    assert error is not None
    assert error.message == f"{named} does not answer (OSError: refused)"


async def test_time_that_is_up_while_a_statement_is_prepared_is_told_as_such(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a hundred statements that are cut short within milliseconds meets this in the driver; what it does then is done here."""
    database = await PooledDatabase.open(database_url, application_name="tests", most=1)
    prepare = asyncpg.Connection.fetch

    async def confused(connection: Connection, *_: object, **__: object) -> None:
        connection.terminate()
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")

    monkeypatch.setattr(asyncpg.Connection, "fetch", confused)
    with pytest.raises(asyncpg.QueryCanceledError):
        await database.fetch_all((BOUND, ()), (ONE, ()))
    with pytest.raises(DatabaseUnavailable):
        await database.fetch_all((ONE, ()))
    monkeypatch.setattr(asyncpg.Connection, "fetch", prepare)
    assert [row["one"] for row in await database.fetch(ONE)] == [1]
    await database.close()
