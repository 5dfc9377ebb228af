"""The servers fail under load: everything committed survives, and the backlog drains when they are back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from perdure import Perdure
from tests.support import fault_jobs as jobs
from tests.support.fleet import Fleet, drained, promises_hold, query, until
from tests.support.servers import PostgresServer, RedisServer

ENDED = "SELECT count(*) FROM perdure.job_executions"
TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND application_name LIKE 'perdure%'
"""
ROUNDS = 20
BETWEEN_ROUNDS_S = 0.5


@pytest.fixture
async def private_fleet(
    private_postgres: PostgresServer, private_redis: RedisServer, tmp_path: Path
) -> AsyncIterator[Fleet]:
    """Hosts on servers of their own, which the test may break; with Redis, which must not matter."""
    async with Perdure(database_url=private_postgres.url, redis_url=private_redis.url) as app:
        fleet = Fleet(app=app, folder=tmp_path)
        yield fleet
        await fleet.stop()


async def some_done(url: str, count: int) -> None:
    await until(
        lambda: query(url, f"{ENDED} HAVING count(*) >= {count}"), within_s=30, what=f"{count} are done"
    )


async def test_terminated_backends_are_survived(fleet: Fleet) -> None:
    """All connections of the workers are cut twice a second, again and again."""
    url = fleet.app.settings.database_url.get_secret_value()
    await fleet.host(concurrency=20, processes=2)
    await fleet.app.enqueue_many([fleet.app.prepare(jobs.nap, 50) for _ in range(2_000)])
    admin = await asyncpg.connect(url)
    cut = 0
    for _ in range(ROUNDS):
        cut += await admin.fetchval(TERMINATE)
        await asyncio.sleep(BETWEEN_ROUNDS_S)
    await admin.close()
    assert cut > ROUNDS
    await drained(url, within_s=60)
    letters = await query(url, "SELECT jsonb_agg(to_jsonb(d)) FROM perdure.dead_letter_queue d")
    assert await query(url, f"{ENDED} WHERE outcome = 'completed'") == 2_000, letters
    await promises_hold(url, fleet.app.settings)


@pytest.mark.parametrize("immediate", [False, True], ids=["restart", "crash"])
async def test_a_restart_of_postgresql_under_load(
    private_fleet: Fleet, private_postgres: PostgresServer, immediate: bool
) -> None:
    """Asynchronous claims in flight may vanish with a crash; their jobs are seen as available again."""
    url = private_postgres.url
    await private_fleet.host(concurrency=20, processes=2)
    await private_fleet.app.enqueue_many([private_fleet.app.prepare(jobs.nap, 20) for _ in range(2_000)])
    await some_done(url, 200)
    await asyncio.to_thread(private_postgres.restart, immediate=immediate)
    await drained(url, within_s=90)
    assert await query(url, f"{ENDED} WHERE outcome = 'completed'") == 2_000
    assert await query(url, "SELECT count(*) FROM perdure.workers WHERE state = 'dead'") == 0, (
        "no mass verdict"
    )
    await promises_hold(url, private_fleet.app.settings)


async def test_a_flush_of_redis_under_load(private_fleet: Fleet, private_redis: RedisServer) -> None:
    url = private_fleet.app.settings.database_url.get_secret_value()
    await private_fleet.host(concurrency=20)
    await private_fleet.app.enqueue_many([private_fleet.app.prepare(jobs.nap, 10) for _ in range(2_000)])
    await some_done(url, 200)
    await asyncio.to_thread(private_redis.flush, 0)
    await drained(url, within_s=60)
    assert await query(url, f"{ENDED} WHERE outcome = 'completed'") == 2_000
    await promises_hold(url, private_fleet.app.settings)


async def test_a_kill_of_redis_under_load_and_its_return(
    private_fleet: Fleet, private_redis: RedisServer
) -> None:
    url = private_fleet.app.settings.database_url.get_secret_value()
    await private_fleet.host(concurrency=20)
    await private_fleet.app.enqueue_many([private_fleet.app.prepare(jobs.nap, 10) for _ in range(2_000)])
    await some_done(url, 200)
    await asyncio.to_thread(private_redis.kill)
    await some_done(url, 600)
    more = [private_fleet.app.prepare(jobs.nap, 10) for _ in range(500)]
    await private_fleet.app.enqueue_many(more)
    await asyncio.to_thread(private_redis.start)
    await drained(url, within_s=60)
    assert await query(url, f"{ENDED} WHERE outcome = 'completed'") == 2_500
    await promises_hold(url, private_fleet.app.settings)
