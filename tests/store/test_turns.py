"""Claims take turns, and what a claim does not find is asked for cheaply."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.dispatch import PostgresDispatch, ring_for
from perdure.stores.postgres.statements import Statement
from tests.support.database import SCOPE, Store, claimer, new_job
from tests.support.waiting import eventually

TURNS = 4


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


async def test_a_claim_waits_for_its_turn_and_sees_what_was_committed_until_then(
    store: Store, database: Watched
) -> None:
    dispatch = PostgresDispatch(database, schema=store.schema)
    first, second = new_job(), new_job()
    await store.add(first)
    holder = await asyncpg.connect(store.url)
    async with holder.transaction():
        for turn in range(TURNS):
            await holder.execute("SELECT pg_advisory_xact_lock(hashtext('perdure.claim'), $1)", turn)
        claim = asyncio.create_task(dispatch.claim(claimer(), SCOPE, limit=10))

        async def waits() -> bool:
            return bool(
                await store.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            )

        assert await eventually(waits, within_s=10)
        await store.add(second)
    assert [lease.job_id for lease in await claim] == [first.id, second.id]
    await holder.close()


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
