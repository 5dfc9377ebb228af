"""The database is put back in time under live workers and producers: nothing runs again in silence, and nothing is accepted from before."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from perdure import Perdure
from perdure.domain.errors import RollbackDetected, Unavailable
from perdure.runtime.embedded import run_as
from perdure.surfaces.cli.exits import Exit
from tests.support import fault_jobs as jobs
from tests.support.command import Command
from tests.support.fleet import Fleet, drained, promises_hold, query, until
from tests.support.servers import PostgresServer, run_as_chosen

ENDED = "SELECT count(*) FROM perdure.job_executions WHERE outcome = 'completed'"
HALTED = "SELECT perdure.halted_by() IS NOT NULL"
PACE: dict[str, object] = {"heartbeat_interval_s": 0.2, "suspect_after_s": 2, "dead_after_s": 10}


@pytest.fixture
async def fleet(private_postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with Perdure(database_url=private_postgres.url) as app:
        fleet = Fleet(app=app, folder=tmp_path, settings=PACE)
        yield fleet
        await fleet.stop()


async def test_a_backup_restored_under_a_live_worker(
    fleet: Fleet, private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """The worker stops by itself, the jobs that were forgotten are listed, and after `adopt` work goes on by itself."""
    server, app = private_postgres, fleet.app
    command = Command(tmp_path, {"PERDURE_DATABASE_URL": server.url, "COLUMNS": "200"})
    host = await fleet.host()
    done_before = [await app.enqueue(jobs.nap, 1) for _ in range(3)]
    await drained(server.url, within_s=20)
    waiting = await app.using(delay="1h").enqueue(jobs.nap, 2)
    await asyncio.to_thread(server.stop)
    shutil.copytree(server.folder / "data", server.folder / "backup", symlinks=True)
    await asyncio.to_thread(server.start)

    lost: list[UUID] = []
    for _ in range(3):
        await until(lambda: stored(app, lost), within_s=20, what="the producer is back")
    await app.jobs.retry(waiting.id)
    await drained(server.url, within_s=20)
    assert await query(server.url, ENDED) == 7
    await until(lambda: marked(server.url), within_s=20, what="marks are made after the backup")

    await asyncio.to_thread(server.stop)
    shutil.rmtree(server.folder / "data")
    shutil.copytree(server.folder / "backup", server.folder / "data", symlinks=True)
    run_as.hand_over(server.folder, run_as_chosen())
    await asyncio.to_thread(server.start)
    await until(lambda: query(server.url, HALTED), within_s=20, what="the system is halted")
    assert await query(server.url, "SELECT count(*) FROM perdure.workers WHERE state = 'active'") == 0
    late: list[UUID] = []
    await until(lambda: refused(app, late), within_s=20, what="the producer is refused")
    assert host.process.returncode is None, "it waits, and need not be started again"

    forgotten = "SELECT count(*) FROM perdure.forgotten_jobs WHERE lost = $1"
    await until(lambda: equals(server.url, forgotten, 3, "enqueue"), within_s=20, what="enqueues are listed")
    await until(lambda: equals(server.url, forgotten, 4, "success"), within_s=20, what="successes are listed")
    listed = await asyncio.to_thread(command, "db", "forgotten", "-o", "json")
    stands = {item["job_id"]: item["state"] for item in listed.json["items"] if item["lost"] == "success"}
    assert stands[str(waiting.id)] == "scheduled", "it had succeeded, and would run again"
    status = await asyncio.to_thread(command, "status", "-o", "json")
    assert status.code == Exit.CRITICAL
    assert "rollback detected" in status.json["reasons"][0]
    assert (await asyncio.to_thread(command, "db", "epochs")).code == Exit.ROLLED_BACK
    assert await query(server.url, ENDED) == len(done_before)

    adopted = await asyncio.to_thread(command, "db", "adopt", "--reason", "restored on purpose", "-o", "json")
    assert (adopted.code, adopted.json["epoch"]) == (Exit.DONE, 2), adopted.err
    await until(lambda: stored(app, late), within_s=20, what="the producer goes on")
    await app.jobs.retry(waiting.id)
    await drained(server.url, within_s=30)
    assert await query(server.url, ENDED) == len(done_before) + len(late) + 1
    await promises_hold(server.url, app.settings)


async def stored(app: Perdure, kept: list[UUID]) -> bool:
    """Whether one more job could be enqueued; the database may be away, or refuse."""
    try:
        kept.append((await app.enqueue(jobs.noop, 1)).id)
    except Unavailable:
        return False
    return True


async def refused(app: Perdure, kept: list[UUID]) -> bool:
    try:
        kept.append((await app.enqueue(jobs.noop, 0)).id)
    except RollbackDetected:
        return True
    except Unavailable:
        return False
    return False


async def marked(url: str) -> bool:
    """A mark younger than any job, seen by whoever looked since."""
    newest = "SELECT max(s.marked_at) > (SELECT max(settled_at) FROM perdure.job_executions) + interval '2 s' FROM perdure.stretches s"
    return bool(await query(url, newest))


async def equals(url: str, statement: str, wanted: int, *values: object) -> bool:
    return bool(await query(url, statement, *values) == wanted)


async def test_a_worker_that_starts_on_a_halted_system_says_so(
    private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """With an exit code of its own, before anything is run."""
    await query(
        private_postgres.url,
        "SELECT perdure.open_epoch(1, 'rollback detected: a drill', 'a test', NULL, NULL)",
    )
    command = Command(tmp_path, {"PERDURE_DATABASE_URL": private_postgres.url, "COLUMNS": "200"})
    (tmp_path / "app.py").write_text("from perdure import job\n\n@job\ndef work() -> None: ...\n")
    worker = command.process("worker", "run", "app.py")
    _, errors = await asyncio.to_thread(worker.communicate, timeout=60)
    assert worker.returncode == Exit.ROLLED_BACK
    assert "rollback detected" in errors
    assert "perdure db adopt" in errors
