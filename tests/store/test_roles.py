"""Each role can do its work from end to end, and is refused what is not its work."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import psycopg
import pytest

from perdure import Perdure
from perdure.domain.ids import Ids
from perdure.ports import By
from perdure.services.enqueue import MANY
from perdure.services.guard import Guard
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.control import PostgresControl
from perdure.stores.postgres.insights import PostgresInsights
from perdure.stores.postgres.keeping import PostgresKeeping
from perdure.stores.postgres.lineage import PostgresLineage
from perdure.stores.postgres.roles import ROLES, apply_roles
from tests.support import fault_jobs as jobs
from tests.support.fleet import Fleet, drained, query

REFUSED = {
    "producer": (
        "SELECT args FROM perdure.jobs",
        "INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args, unique_key) SELECT perdure.new_job_id(), 1, 3, 1, '{}', 'k'",
        "INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args, concurrency_key) SELECT perdure.new_job_id(), 1, 3, 1, '{}', 'k'",
        "SELECT * FROM perdure.job_executions",
        "SELECT * FROM perdure.shared_memory",
        "DELETE FROM perdure.available_jobs",
        "UPDATE perdure.jobs SET args = '{}'",
        "INSERT INTO perdure.leases SELECT * FROM perdure.leases",
        "INSERT INTO perdure.workers SELECT * FROM perdure.workers",
        "UPDATE perdure.queues SET paused_at = now()",
        "SELECT perdure.open_epoch(1, 'x', 'x', 'x', 'x')",
        "SELECT perdure.drop_partition('jobs', now(), now())",
        "SELECT perdure.unpark(ARRAY['k'])",
        "CREATE TABLE perdure.mine (x integer)",
    ),
    "worker": (
        "UPDATE perdure.jobs SET args = '{}'",
        "DELETE FROM perdure.jobs",
        "UPDATE perdure.job_executions SET outcome = 'completed'",
        "DELETE FROM perdure.job_executions",
        "UPDATE perdure.job_events SET actor = 'somebody'",
        "TRUNCATE perdure.job_events",
        "UPDATE perdure.worker_history SET state = 'active'",
        "INSERT INTO perdure.migrations (number, name) VALUES (9999, 'x')",
        "UPDATE perdure.epochs SET adopted_at = now()",
        "UPDATE perdure.installation SET era = 7",
        "UPDATE perdure.snapshot_policy SET keep = 1",
        "SELECT perdure.open_epoch(1, 'x', 'x', 'x', 'x')",
        "DROP TABLE perdure.leases",
        "CREATE TABLE perdure.mine (x integer)",
    ),
    "reader": (
        "INSERT INTO perdure.available_jobs SELECT * FROM perdure.available_jobs",
        'SELECT * FROM perdure.enqueue_jobs(\'[{"kind": "k"}]\')',
        'SELECT perdure.ensure_lanes(\'[{"kind": "k"}]\')',
        "DELETE FROM perdure.dead_letter_queue",
        "UPDATE perdure.queues SET paused_at = now()",
        "UPDATE perdure.workers SET state = 'dead'",
        "SELECT perdure.halt(1, 'x', 'x')",
        "SELECT perdure.make_partition('jobs', now() + interval '90 days')",
        "SELECT perdure.unpark(ARRAY['k'])",
        "CREATE TABLE perdure.mine (x integer)",
    ),
}


@pytest.fixture
def logins(database_url: str) -> Iterator[dict[str, str]]:
    """For each role the address with which a user that has it logs in."""
    asyncio.run(apply_roles(database_url))
    asyncio.run(apply_roles(database_url))
    names = {role: f"a_{role}_{uuid4().hex[:8]}" for role in ROLES}
    with psycopg.connect(database_url, autocommit=True) as owner:
        for role, name in names.items():
            owner.execute(f'CREATE ROLE "{name}" LOGIN IN ROLE perdure_{role}'.encode())
        yield {role: database_url.replace("postgres@", f"{name}@", 1) for role, name in names.items()}
        for name in names.values():
            owner.execute(f'DROP ROLE "{name}"'.encode())


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PooledDatabase]:
    database = await PooledDatabase.open(url, application_name="a role", most=2)
    try:
        yield database
    finally:
        await database.close()


@pytest.mark.parametrize("earlier", [False, True], ids=["rights of now", "rights of before"])
async def test_a_producer_stores_the_first_jobs_of_a_kind_in_bulk(
    logins: dict[str, str], database_url: str, earlier: bool
) -> None:
    """With the rights of an earlier version they go the general way, which is allowed to make their lane."""
    if earlier:
        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute("ALTER FUNCTION perdure.ensure_lanes(jsonb) SECURITY INVOKER")
    async with Perdure(database_url=logins["producer"]) as producer:
        call = [producer.using(queue="new").prepare(jobs.noop, n) for n in range(MANY)]
        assert isinstance(await producer.producer.enqueue(call, conn=None), Ids) is not earlier
    assert await query(database_url, "SELECT count(*) FROM perdure.jobs") == MANY


async def test_producer_and_worker_do_their_work(
    logins: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """Every way of enqueueing, and a worker with its leader's duties, each with its own role; the reader reads it."""
    async with (
        Perdure(database_url=database_url) as owner,
        Perdure(database_url=logins["producer"]) as producer,
    ):
        fleet = Fleet(app=owner, folder=tmp_path)
        await fleet.host(database_url=logins["worker"], heartbeat_interval_s=0.3)
        await producer.enqueue(jobs.noop, 1)
        await producer.enqueue(jobs.noop, 2)
        await producer.enqueue_many([producer.prepare(jobs.noop, n) for n in range(30)])
        first = producer.using(unique_key="k", delay="10ms", concurrency_key="c").prepare(jobs.noop, 3)
        await producer.enqueue_many([first])
        await producer.using(depends_on=[first.id]).enqueue(jobs.noop, 4)
        await drained(database_url, within_s=60)
        await fleet.stop()
        assert (
            await query(
                database_url, "SELECT count(*) FROM perdure.job_executions WHERE outcome = 'completed'"
            )
            == 34
        )
        log = fleet.log()
    assert "permission denied" not in log
    assert "round failed" not in log, log[-3000:]
    async with opened(logins["worker"]) as database:
        keeping = PostgresKeeping(database)
        made = await keeping.make_partitions(ahead_days=9)
        assert made.done
        assert not made.postponed
        await keeping.drop_partitions(older_than=timedelta(days=1))
        await keeping.sweep_edges(limit=10)
        await keeping.sweep_unique_keys(limit=10)
        await Guard(PostgresLineage(database), who="a worker", marks=True).look()
    async with opened(logins["reader"]) as database:
        insights = PostgresInsights(database)
        status = await insights.status(budget=timedelta(seconds=20))
        assert status.notes == ()
        assert len(await insights.workers(alive_only=False, budget=timedelta(seconds=20))) == 1
        assert sum(count.count for count in await insights.counts(budget=timedelta(seconds=20))) == 34


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_refused_what_is_not_its_work(logins: dict[str, str], role: str) -> None:
    with psycopg.connect(logins[role], autocommit=True) as connection:
        for statement in REFUSED[role]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


async def test_producer_and_worker_can_halt_and_not_adopt(logins: dict[str, str]) -> None:
    async with opened(logins["producer"]) as database:
        lineage = PostgresLineage(database)
        assert await lineage.halt(seen=1, why="a drill", opener="a producer") == 2
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await lineage.adopt(actor="a producer", reason="")


async def test_a_reader_cannot_act(logins: dict[str, str]) -> None:
    async with opened(logins["reader"]) as database:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await PostgresControl(database).cancel([uuid4()], By(actor="a reader"))
