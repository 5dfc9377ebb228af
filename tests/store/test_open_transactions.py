"""A user's transaction that stands open holds up neither the settling of results nor the claims of others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Any

import asyncpg
import pytest

from perdure.domain.errors import ClaimLost
from perdure.domain.job import Disposition, NewJob, UniqueRule
from perdure.services.check import Check
from perdure.stores.postgres.callers import complete, enqueue_on
from perdure.stores.postgres.history import PostgresHistory
from tests.support.database import Store, after, new_job

PATIENCE_S = 20


@asynccontextmanager
async def transaction(store: Store) -> AsyncIterator[Any]:
    """A connection of a user, in a transaction that is open until the end of the block."""
    connection = await asyncpg.connect(store.url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def with_key(store: Store, *, runs_out: bool = False) -> tuple[NewJob, Any]:
    """A running job with a unique key, whose period is over or has none, and its lease."""
    rule = UniqueRule(key="k", period=timedelta(hours=1) if runs_out else None)
    holder = new_job(unique=rule)
    await store.add(holder)
    (lease,) = await store.claim()
    if runs_out:
        await store.sql("UPDATE perdure.unique_keys SET expires_at = now() - interval '1 second'")
    return holder, lease


@pytest.mark.parametrize("linked", [False, True])
async def test_who_meets_a_held_key_keeps_its_holder_from_nothing(store: Store, linked: bool) -> None:
    holder, lease = await with_key(store)
    parent = new_job("app.other")
    await store.add(parent)
    job = after(parent, unique=UniqueRule(key="k")) if linked else new_job(unique=UniqueRule(key="k"))
    async with transaction(store) as conn:
        (answer,) = await enqueue_on(conn, [job], on_duplicate="return")
        assert (answer.disposition, answer.holder) == (Disposition.DUPLICATE, holder.id)
        settled = await asyncio.wait_for(store.end([lease]), PATIENCE_S)
    assert settled.accepted == {lease.token}
    assert await store.states(holder, job) == ["completed", None]


async def test_who_takes_a_key_that_has_run_out_keeps_its_old_holder_from_nothing(store: Store) -> None:
    holder, lease = await with_key(store, runs_out=True)
    job = new_job(unique=UniqueRule(key="k"))
    async with transaction(store) as conn:
        (answer,) = await enqueue_on(conn, [job], on_duplicate="raise")
        assert answer.disposition is Disposition.CREATED
        await asyncio.wait_for(store.end([lease]), PATIENCE_S)
    assert await store.states(holder, job) == ["completed", "available"]
    assert await store.value("SELECT job_id FROM perdure.unique_keys") == job.id


async def test_a_key_whose_holder_ends_meanwhile_is_taken_or_answered_and_never_lost(store: Store) -> None:
    """Nothing of the holder is locked, so that it may go at any moment of the call."""
    created = 0
    for turn in range(500):
        _, lease = await with_key(store)
        tries = [new_job(unique=UniqueRule(key="k")) for _ in range(4)]
        answers, *_ = await asyncio.gather(
            asyncio.gather(*(store.jobs.enqueue([one], on_duplicate="return") for one in tries)),
            store.end([lease]),
        )
        fresh = [one.job_id for (one,) in answers if one.disposition is Disposition.CREATED]
        held = [row["job_id"] for row in await store.sql("SELECT job_id FROM perdure.unique_keys")]
        assert fresh == held
        created += len(fresh)
        await store.drain()
        if turn >= 20 and created:
            break
    assert created, "the race was never won"
    report = await Check(PostgresHistory(store.database)).run()
    assert report.ok, report.words()


async def test_a_handler_that_completes_in_its_own_transaction_stops_no_claim(store: Store) -> None:
    """It may be frozen before it commits; jobs of its key wait for it, and nobody else does."""
    slot: dict[str, Any] = {"concurrency_key": "k", "concurrency_limit": 1}
    first, second, other = new_job(**slot), new_job(**slot), new_job()
    await store.add(first)
    (lease,) = await store.claim()
    await store.add(second, other)
    async with transaction(store) as conn:
        await complete(conn, lease, "done", started=monotonic())
        claimed = await asyncio.wait_for(store.claim(10), PATIENCE_S)
        assert [one.job_id for one in claimed] == [other.id]
        assert not await asyncio.wait_for(store.jobs.unpark(), PATIENCE_S)
    assert await store.states(first, second) == ["completed", "available"]
    assert [place.job_id for place in await store.jobs.unpark()] == [second.id]
    assert [one.job_id for one in await store.claim(10)] == [second.id]


async def test_a_job_that_completes_in_its_own_transaction_ends_when_it_does_and_not_when_that_began(
    store: Store,
) -> None:
    await store.add(new_job())
    (lease,) = await store.claim()
    async with transaction(store) as conn:
        began, earliest = await conn.fetchrow("SELECT now(), clock_timestamp()")
        await complete(conn, lease, None, started=monotonic() - 2)
    (row,) = await store.sql("SELECT settled_at, started_at, finished_at FROM perdure.job_executions")
    assert row["settled_at"] == row["finished_at"] > earliest > began
    assert timedelta(seconds=2) <= row["finished_at"] - row["started_at"] < timedelta(seconds=2 + PATIENCE_S)


async def test_a_handler_that_completes_in_its_own_transaction_releases_what_waits_for_it(
    store: Store,
) -> None:
    parent = new_job(unique=UniqueRule(key="k"))
    child = after(parent)
    await store.add(parent, child)
    (lease,) = await store.claim()
    async with transaction(store) as conn:
        await complete(conn, lease, {"n": 1}, started=monotonic())
    (row,) = await store.sql("SELECT outcome, state, token, result::text FROM perdure.job_executions")
    assert tuple(row) == ("completed", "completed", lease.token, '{"n": 1}')
    assert await store.states(parent, child) == ["completed", "available"]
    assert await store.sql("SELECT FROM perdure.unique_keys") == []
    async with transaction(store) as conn:
        with pytest.raises(ClaimLost):
            await complete(conn, lease, {"n": 2}, started=monotonic())
