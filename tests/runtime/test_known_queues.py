"""Queues are known that a worker serves, and no open transaction of a user keeps a worker from its start."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from perdure.domain.worker import WorkerId
from perdure.runtime.children import ChildProcess
from perdure.runtime.process_wiring import supervisor_stores
from perdure.runtime.settings import Settings
from perdure.runtime.supervisor import Worker
from perdure.stores.postgres.callers import enqueue_on
from tests.support.new_jobs import job_of
from tests.support.system import System, new_id, system_on
from tests.support.waiting import eventually


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


async def test_a_worker_starts_while_the_first_enqueue_of_its_queue_stands_open(
    system: System, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is known once nobody has it locked."""
    settings = Settings.model_validate({"database_url": database_url, "queues": ("fresh", "default")})
    worker_id = WorkerId(uuid4())

    async def run(self: ChildProcess, orders: object, on_ready: object) -> str:
        await worker._stopping.wait()
        return "ended"

    monkeypatch.setattr(ChildProcess, "run", run)

    async def beats() -> bool:
        sql = "SELECT count(*) FROM perdure.workers WHERE id = $1 AND heartbeat_at > started_at"
        return bool(await system.sql.fetchval(sql, worker_id))

    async def known() -> bool:
        return await system.count("queues", "name IN ('fresh', 'default')") == 2

    async with supervisor_stores(settings) as stores:
        worker = Worker(settings, "nothing", stores, worker_id)
        async with system.sql.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            job = job_of(id=new_id(), kind="app.work", queue="fresh")
            await enqueue_on(conn, [job], on_duplicate="raise")
            running = asyncio.create_task(worker.run())
            await eventually(beats)
            assert not await stores.workers.make_known(settings.queues)
            assert not running.done()
            await transaction.rollback()
        await eventually(known)
        worker.stop()
        assert await asyncio.wait_for(running, 30) == 0
