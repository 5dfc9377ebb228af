"""Claims take turns, and what a claim does not find is asked for cheaply."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.dispatch import PostgresDispatch, ring_for
from perdure.stores.postgres.statements import Statement
from tests.support.database import SCOPE, Store, claimer, new_job
from tests.support.waiting import eventually

TURNS = 4
TURNS_HERE = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND d.datname = current_database()
"""


class Watched(DedicatedDatabase):
    """A database that remembers the names of the statements it ran."""

    def __init__(self, url: str) -> None:
        super().__init__(url, application_name="claims")
        self.names: list[str] = []

    async def fetch(self, statement: Statement, *values: object) -> list[asyncpg.Record]:
        self.names.append(statement.name)
        return await super().fetch(statement, *values)


@pytest.fixture
async def database(store: Store) -> AsyncIterator[Watched]:
    watched = Watched(store.url)
    yield watched
    await watched.close()


@asynccontextmanager
async def every_turn(store: Store, *, but: int | None = None) -> AsyncIterator[None]:
    """Another session has all turns, or all but one."""
    holder = await asyncpg.connect(store.url)
    async with holder.transaction():
        for turn in range(TURNS):
            if turn != but:
                await holder.execute("SELECT pg_advisory_xact_lock(hashtext('perdure.claim'), $1)", turn)
        yield
    await holder.close()


async def test_a_claim_waits_for_its_turn_and_sees_what_was_committed_until_then(
    store: Store, database: Watched
) -> None:
    dispatch = PostgresDispatch(database, schema=store.schema)
    first, second = new_job(), new_job()
    await store.add(first)
    patient = await store.value("SELECT pg_get_functiondef('perdure.take_turn'::regproc)")
    assert patient.count("'1s'") == 1
    await store.sql(patient.replace("'1s'", "'60s'"))
    async with every_turn(store):
        claim = asyncio.create_task(dispatch.claim(claimer(), SCOPE, limit=10))

        async def waits() -> bool:
            return bool(await store.value(f"{TURNS_HERE} AND NOT granted"))

        assert await eventually(waits, within_s=10)
        await store.add(second)
    assert [lease.job_id for lease in await claim] == [first.id, second.id]


async def test_a_claim_goes_without_a_turn_where_others_do_not_let_go(
    store: Store, database: Watched
) -> None:
    """A claimer may be frozen while its answer is on the way, and keep its turn for as long."""
    dispatch = PostgresDispatch(database, schema=store.schema)
    job = new_job()
    await store.add(job)
    async with every_turn(store):
        leases = await asyncio.wait_for(dispatch.claim(claimer(), SCOPE, limit=10), 20)
    assert [lease.job_id for lease in leases] == [job.id]
    assert (await database.fetch(Statement("patience", (), "SHOW lock_timeout", "")))[0][0] == "0"


async def test_a_turn_that_is_free_is_taken_at_once(store: Store) -> None:
    """Whichever it is: with three held by others a claim waits for none of them."""
    held = f"{TURNS_HERE} AND granted"
    async with every_turn(store, but=2):
        taker = await asyncpg.connect(store.url)
        async with taker.transaction():
            await taker.execute("SELECT perdure.take_turn()")
            assert await store.value(held) == TURNS
            assert await taker.fetchval("SHOW lock_timeout") == "0"
        assert await store.value(held) == TURNS - 1
        await taker.close()


async def test_a_claimer_that_found_nothing_asks_before_it_claims_unless_a_ring_has_told_it(
    store: Store, database: Watched
) -> None:
    dispatch = PostgresDispatch(database, schema=store.schema)
    first, second, third = new_job(), new_job(), new_job()
    await store.add(first)
    me = claimer()
    assert len(await dispatch.claim(me, SCOPE, limit=10)) == 1
    assert not await dispatch.claim(me, SCOPE, limit=10)
    database.names.clear()
    assert not await dispatch.claim(me, SCOPE, limit=10)
    assert "claim" not in database.names
    await store.add(second)  # and nobody rings
    assert [lease.job_id for lease in await dispatch.claim(me, SCOPE, limit=10)] == [second.id]
    assert not await dispatch.claim(me, SCOPE, limit=10)
    dispatch.hear(ring_for(await store.add(third)))
    database.names.clear()
    assert [lease.job_id for lease in await dispatch.claim(me, SCOPE, limit=10)] == [third.id]
    assert "occupied" not in database.names
