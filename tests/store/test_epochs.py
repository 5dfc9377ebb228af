"""An epoch that is being opened and a claim: one of them sees the other."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from perdure.domain.errors import WorkerGone
from perdure.domain.lease import Lease
from perdure.ports import Place
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.dispatch import PostgresDispatch
from tests.support.database import SCOPE, Store, claimer, new_job
from tests.support.waiting import eventually

OPEN = "SELECT perdure.open_epoch(perdure.epoch_now(), 'a restore', 'a test', NULL, NULL)"
WAITS = "SELECT count(*) FROM pg_locks l WHERE l.relation = 'perdure.leases'::regclass AND NOT l.granted"


async def take(dispatch: PostgresDispatch, how: str, places: Sequence[Place]) -> Sequence[Lease]:
    if how == "claim":
        return await dispatch.claim(claimer(), SCOPE, limit=10)
    return await dispatch.confirm(claimer(), places)


@pytest.mark.parametrize("concurrency_key", [None, "k"])
@pytest.mark.parametrize("how", ["claim", "confirm"])
async def test_a_claim_that_met_an_epoch_that_was_being_opened_leases_nothing(
    store: Store, how: str, concurrency_key: str | None
) -> None:
    """It has looked, and perhaps locked what it wants, when it comes to the table of leases; what it asks of its worker it asks after that."""
    job = new_job(concurrency_key=concurrency_key)
    places = await store.add(job)
    database = DedicatedDatabase(store.url, application_name="claims")
    dispatch = PostgresDispatch(database, schema=store.schema)
    await dispatch.lanes(SCOPE)
    opener = await asyncpg.connect(store.url)
    async with opener.transaction():
        await opener.execute(OPEN)
        taking = asyncio.create_task(take(dispatch, how, places))

        async def waits() -> bool:
            return bool(await store.value(WAITS))

        assert await eventually(waits, within_s=10)
    with pytest.raises(WorkerGone):
        await taking
    assert await store.value("SELECT count(*) FROM perdure.leases") == 0
    assert await store.state(job.id) == "available"
    await opener.close()
    await database.close()
