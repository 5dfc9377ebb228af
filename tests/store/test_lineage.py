"""A database that went back in time is noticed, once, and everything of before is void; one that only crashed is not accused."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from perdure.domain.errors import RollbackDetected
from perdure.domain.job import LIVE, JobState, UniqueRule
from perdure.domain.lineage import Memory
from perdure.domain.settlement import Interrupted
from perdure.domain.worker import NewWorker, WorkerId
from perdure.runtime.embedded import run_as
from perdure.runtime.remembering import MemoryKeeper, memory_file, read_memory
from perdure.runtime.settings import Settings
from perdure.services.guard import Guard
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.leadership import PostgresLeadership
from perdure.stores.postgres.lineage import PostgresLineage
from perdure.stores.postgres.workers import PostgresWorkers
from tests.support.database import Store, new_job, register_workers, store_on
from tests.support.fleet import query, until
from tests.support.servers import PostgresServer, postgres_binaries, run_as_chosen

ASYNCHRONOUS = """
    SET synchronous_commit = off;
    CREATE TABLE IF NOT EXISTS unflushed (x text);
    INSERT INTO unflushed SELECT repeat('x', 100) FROM generate_series(1, 5000);
"""
LEISURELY = {
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
    "wal_buffers": "16MB",
    "autovacuum": "off",
}


@asynccontextmanager
async def lineage_on(url: str) -> AsyncIterator[PostgresLineage]:
    database = DedicatedDatabase(url, application_name="tests lineage")
    try:
        yield PostgresLineage(database)
    finally:
        await database.close()


def guard(lineage: PostgresLineage, memory: Memory | None = None, *, marks: bool = True) -> Guard:
    return Guard(lineage, who="a test", memory=memory, marks=marks)


def saved(server: PostgresServer) -> Path:
    """A copy of the data of a stopped cluster: a cold backup."""
    copy = server.folder / "backup"
    shutil.copytree(server.folder / "data", copy, symlinks=True)
    return copy


def bring_back(server: PostgresServer, copy: Path) -> None:
    shutil.rmtree(server.folder / "data")
    shutil.copytree(copy, server.folder / "data", symlinks=True)
    run_as.hand_over(server.folder, run_as_chosen())


async def execute(url: str, script: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(script)
    await connection.close()


async def test_an_immediate_stop_that_loses_asynchronous_commits_raises_nothing(
    scratch: Path, migrated_image: Path
) -> None:
    """What had not been flushed was never remembered, though it had been seen."""
    server = PostgresServer(scratch, settings={**LEISURELY, "max_connections": "20"}, image=migrated_image)
    server.start()
    try:
        async with lineage_on(server.url) as lineage:
            watchful = guard(lineage)
            await watchful.look()
            await execute(server.url, ASYNCHRONOUS)
            await watchful.look()  # within the second of the mark before, so that nothing is flushed by it
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            rows = await lost_rows(server.url)
            assert rows == 0, "nothing was lost, so that the test proves nothing"
            await watchful.look()
            assert await lineage.halted() == (1, None)
    finally:
        server.stop(immediate=True)


async def lost_rows(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass('unflushed')") is None:
            return 0
        return int(await connection.fetchval("SELECT count(*) FROM unflushed"))
    finally:
        await connection.close()


async def test_a_restored_cold_backup_is_noticed_also_after_it_went_on(
    private_postgres: PostgresServer,
) -> None:
    """By the position of the log at once; and when that has run past what was seen, by the marks."""
    server = private_postgres
    async with lineage_on(server.url) as lineage:
        await guard(lineage).look()
    server.stop()
    copy = saved(server)
    server.start()
    async with lineage_on(server.url) as lineage:
        early, late = guard(lineage), guard(lineage)
        await early.look()
        await late.look()
        await execute(
            server.url, "SELECT pg_logical_emit_message(true, 'x', repeat('x', 100000)); CHECKPOINT"
        )
        await early.look()
        await asyncio.to_thread(server.stop)
        bring_back(server, copy)
        await asyncio.to_thread(server.start)
        assert early.memory
        fresh = guard(lineage)
        await fresh.look()
        await execute(
            server.url, "SELECT pg_logical_emit_message(true, 'x', repeat('x', 900000)); CHECKPOINT"
        )
        with pytest.raises(RollbackDetected, match="rollback detected"):
            await early.look()
        with pytest.raises(RollbackDetected):
            await late.look()
        with pytest.raises(RollbackDetected):
            await fresh.look()
        assert (await lineage.halted())[0] == 2, "one epoch, however many noticed"


async def test_a_base_backup_is_noticed(private_postgres: PostgresServer, tmp_path: Path) -> None:
    """A backup taken by pg_basebackup while everything ran, put in the place of the cluster."""
    server = private_postgres
    async with lineage_on(server.url) as lineage:
        watchful = guard(lineage)
        await watchful.look()
        await asyncio.to_thread(base_backup, server)
        await watchful.look()
        await execute(
            server.url,
            "SELECT pg_logical_emit_message(true, 'x', repeat('x', 100000)); SELECT pg_switch_wal()",
        )
        await watchful.look()
        await asyncio.to_thread(server.stop)
        bring_back(server, server.folder / "base")
        await asyncio.to_thread(server.start)
        with pytest.raises(RollbackDetected):
            await watchful.look()


def base_backup(server: PostgresServer) -> None:
    program = postgres_binaries().folder / "pg_basebackup"
    if not program.exists():
        pytest.skip("this PostgreSQL comes without pg_basebackup")
    target = server.folder / "base"
    subprocess.run(
        [program, "-d", server.url_of("postgres"), "-D", target, "-X", "stream", "-c", "fast"],
        check=True,
        timeout=60,
    )


async def test_a_failover_that_loses_nothing_goes_on_and_the_old_primary_is_refused(
    private_postgres: PostgresServer,
) -> None:
    """The end of an archive recovery begins a new timeline, as a promotion does."""
    server = private_postgres
    async with lineage_on(server.url) as lineage:
        watchful = guard(lineage)
        await watchful.look()
        await asyncio.to_thread(server.stop)
        old_primary = saved(server)
        (server.folder / "data" / "recovery.signal").touch()
        with (server.folder / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'false'\n")
        run_as.hand_over(server.folder, run_as_chosen())
        await asyncio.to_thread(server.start)
        before = watchful.memory
        await until(lambda: is_primary(server.url), within_s=20, what="the recovery ends")
        await watchful.look()
        assert before
        assert watchful.memory
        assert watchful.memory.timeline == before.timeline + 1
        await asyncio.to_thread(server.stop)
        bring_back(server, old_primary)
        await asyncio.to_thread(server.start)
        await execute(server.url, "SELECT pg_logical_emit_message(true, 'x', repeat('x', 9000000))")
        with pytest.raises(RollbackDetected):
            await watchful.look()


async def is_primary(url: str) -> bool:
    return not await query(url, "SELECT pg_is_in_recovery()")


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with store_on(database_url) as store:
        yield store


async def test_what_one_finds_halts_all_until_it_is_adopted(store: Store) -> None:
    lineage = PostgresLineage(store.database)
    guards = [guard(lineage, marks=number < 2) for number in range(6)]
    for one in guards:
        await one.look()
        await one.look()
    await store.sql("UPDATE perdure.stretches SET mark = mark - 1")
    found = await asyncio.gather(*(one.look() for one in guards), return_exceptions=True)
    assert all(isinstance(one, RollbackDetected) for one in found), found
    assert (await lineage.halted())[0] == 2
    with pytest.raises(RollbackDetected):
        await guard(lineage).look()
    with pytest.raises(RollbackDetected):
        await register(store)
    leadership = PostgresLeadership(store.database, holder=uuid4(), ttl=timedelta(seconds=5))
    with pytest.raises(RollbackDetected):
        await leadership.lead()
    assert await lineage.adopt(actor="an operator", reason="a drill") == 2
    for one in guards:
        await one.look()
    await register(store)
    assert await leadership.lead() is not None


async def register(store: Store) -> None:
    await PostgresWorkers(store.database).register(
        NewWorker(id=WorkerId(uuid4()), name="w", host="here", pid=1)
    )


async def test_a_new_epoch_voids_every_lease_and_counts_as_nothing(store: Store) -> None:
    """Tokens of before are refused, the jobs are available as they were, keys and slots are as if they had never started."""
    plain = new_job()
    slot = new_job(concurrency_key="k")
    unique = new_job(unique=UniqueRule(key="once", states=LIVE - {JobState.RUNNING}))
    await store.add(plain, slot, unique)
    leases = await store.claim(10)
    assert len(leases) == 3
    lineage = PostgresLineage(store.database)
    assert await lineage.halt(seen=1, why="a drill", opener="a test") == 2
    assert await lineage.halt(seen=1, why="again", opener="another") == 2
    settled = await store.end(leases)
    assert settled.accepted == frozenset()
    assert await store.states(plain, slot, unique) == ["available"] * 3
    assert await store.failures(plain.id) == 0
    assert await store.value("SELECT job_id FROM perdure.unique_keys WHERE key = 'once'") == unique.id
    assert await store.value("SELECT count(*) FROM perdure.workers WHERE state = 'active'") == 0
    await lineage.adopt(actor="an operator", reason="")
    await store.sql("UPDATE perdure.workers SET state = 'active'")
    await register_workers(store.database)
    again = await store.claim(10)
    assert {lease.job_id for lease in again} == {plain.id, slot.id, unique.id}
    await store.end(again, Interrupted(cause="over", started=False))


async def test_a_planned_move_is_adopted_beforehand(store: Store) -> None:
    lineage = PostgresLineage(store.database)
    watchful = guard(lineage)
    await watchful.look()
    assert await lineage.adopt(actor="an operator", reason="to a larger machine") == 2
    await store.sql("DELETE FROM perdure.stretches")
    await watchful.look()
    assert watchful.memory
    assert watchful.memory.epoch == 2


async def test_a_producer_notices_each_job_that_it_was_promised(store: Store) -> None:
    """Though every mark is still there: a loss of less than a second."""
    lineage = PostgresLineage(store.database)
    producer = guard(lineage, marks=False)
    await producer.look()
    await producer.look()
    kept, lost = new_job(), new_job()
    await store.add(kept, lost)
    producer.note([kept.id, lost.id])
    await store.sql("DELETE FROM perdure.available_jobs WHERE job_id = $1", lost.id)
    await store.sql("DELETE FROM perdure.jobs WHERE id = $1", lost.id)
    with pytest.raises(RollbackDetected, match="1 jobs are missing"):
        await producer.look()
    (told,) = await lineage.forgotten(2)
    assert (told.job_id, told.lost, told.state) == (lost.id, "enqueue", None)
    with pytest.raises(RollbackDetected):
        producer.require()


async def test_a_short_program_writes_nothing(store: Store) -> None:
    await guard(PostgresLineage(store.database), marks=False).look()
    assert await store.value("SELECT count(*) FROM perdure.stretches") == 0


async def test_many_lookers_make_at_most_one_mark_a_second(store: Store) -> None:
    lineage = PostgresLineage(store.database)
    first = guard(lineage)
    await first.look()
    others = [guard(lineage, first.memory) for _ in range(8)]
    await asyncio.gather(*(other.look() for other in others))
    assert await store.value("SELECT max(mark) FROM perdure.stretches") <= 1
    assert await store.value("SELECT count(*) FROM perdure.stretches") == 1
    await store.sql("UPDATE perdure.stretches SET marked_at = marked_at - interval '2 seconds'")
    await asyncio.gather(*(other.look() for other in others))
    assert await store.value("SELECT max(mark) FROM perdure.stretches") <= 2


async def test_a_new_connection_is_refused_behind_which_marks_are_missing(store: Store) -> None:
    """Before a claim, whoever else has noticed: the other server may answer any connection first."""
    lineage = PostgresLineage(store.database)
    watchful = guard(lineage)
    await watchful.look()
    lineage.memory = watchful.memory
    database = DedicatedDatabase(store.url, application_name="tests")
    database.on_open = lineage.require
    statement = lineage._sql["epoch_now"]
    await database.fetch(statement)
    await database.close()
    await store.sql("DELETE FROM perdure.stretches")
    with pytest.raises(RollbackDetected):
        await database.fetch(statement)
    await database.close()


def test_a_host_remembers_over_a_restart_where_it_has_a_folder(tmp_path: Path) -> None:
    settings = Settings(database_url=SecretStr("postgresql://me:secret@db/app"), data_dir=tmp_path / "data")
    file = memory_file(settings)
    assert "secret" not in str(file)
    other = settings.model_copy(update={"database_url": SecretStr("postgresql://you:changed@db/app")})
    assert memory_file(other) == file
    memory = remembered()
    MemoryKeeper(file)(memory)
    assert read_memory(file) is None, "no folder is made that nobody asked for"
    (tmp_path / "data").mkdir()
    keeper = MemoryKeeper(file, clock=iter([0.0, 1.0, 6.0]).__next__)
    keeper(memory)
    keeper(replace_mark(memory, 2))
    assert read_memory(file) == memory
    keeper(replace_mark(memory, 3))
    assert read_memory(file) == replace_mark(memory, 3)
    for rubbish in (b"", b"{", b'{"mark": 1}', b"\xff\xfe"):
        file.write_bytes(rubbish)
        assert read_memory(file) is None


def remembered() -> Memory:
    here = UUID(int=1)
    now = datetime.now(UTC)
    return Memory(
        installation=here, epoch=1, system=2**63, timeline=1, flushed=5, stretch=here, mark=1, at=now
    )


def replace_mark(memory: Memory, mark: int) -> Memory:
    return replace(memory, mark=mark)
