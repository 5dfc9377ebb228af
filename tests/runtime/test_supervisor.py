"""The supervisor and its processes: whatever happens to one, it is noticed, replaced, and holds nothing for long."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest

from perdure.domain.liveness import Sight
from perdure.domain.settlement import Crashed
from perdure.domain.worker import WorkerId
from perdure.ports import By
from perdure.runtime import supervisor
from perdure.runtime.children import ChildProcess
from perdure.runtime.duties import Duties
from perdure.runtime.process_wiring import supervisor_stores
from perdure.runtime.settings import Settings
from perdure.runtime.supervisor import Worker
from perdure.stores.postgres.control import PostgresControl
from tests.support.database import Store, new_job, store_on
from tests.support.model_ports import SameLineage
from tests.support.waiting import eventually

NOW = datetime.now(UTC)
ORDERS: dict[str, object] = {"app": "nothing", "settings": {}, "worker_id": "none"}


def worker_without_servers(database_url: str = "postgresql://localhost/none") -> Worker:
    stores: Any = SimpleNamespace(samples=None, lineage=SameLineage())
    return Worker(Settings(database_url=database_url), "nothing", stores, WorkerId(uuid4()))  # type: ignore[arg-type]


async def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the machine has no more memory or process numbers for a while."""
    tries = 0

    async def run(self: ChildProcess, orders: object, on_ready: object) -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("Resource temporarily unavailable")
        await asyncio.sleep(3600)
        return ""

    monkeypatch.setattr(ChildProcess, "run", run)
    worker = worker_without_servers()
    worker._spawn(isolated=False)

    async def tried() -> bool:
        return tries >= 3

    await eventually(tried, within_s=5)
    assert len(worker._children) == 1
    for life in worker._lives:
        life.cancel()


async def test_who_stops_does_not_wait_for_a_process_that_pauses() -> None:
    worker = worker_without_servers()
    worker._spawn(isolated=False, pause=60.0)
    await asyncio.sleep(0)
    worker.stop()
    await asyncio.wait_for(asyncio.gather(*worker._lives), 5)
    assert worker._children == {}


async def test_a_process_that_pauses_while_its_worker_begins_anew_is_not_started_beside_the_new_ones() -> (
    None
):
    worker = worker_without_servers()
    worker._spawn(isolated=False, pause=0.05)
    await asyncio.sleep(0)
    worker._id = WorkerId(uuid4())
    await asyncio.wait_for(asyncio.gather(*worker._lives), 5)
    assert worker._children == {}


async def test_two_verdicts_one_after_the_other_leave_as_many_processes_as_there_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The id of the first new beginning was dead already when its answer came."""
    monkeypatch.setattr(supervisor, "LOST_GRACE_S", 0)

    async def run(self: ChildProcess, orders: object, on_ready: object) -> str:
        await self.ready.wait()
        return "was killed"

    async def registered(worker: object) -> None: ...

    monkeypatch.setattr(ChildProcess, "run", run)
    monkeypatch.setattr(ChildProcess, "kill", lambda self: self.ready.set())
    worker = worker_without_servers()
    worker._stores.beats = SimpleNamespace(register=registered)  # type: ignore[misc, assignment]
    worker._sampling = SimpleNamespace(ended=lambda child: None)  # type: ignore[assignment]
    for _ in range(worker._settings.processes):
        worker._spawn(isolated=False)
    lost = list(worker._children.values())
    await asyncio.sleep(0)
    for _ in range(2):
        await worker._begin_anew(worker._id)

    async def replaced() -> bool:
        return not any(child in lost for child in worker._children.values())

    await eventually(replaced)
    assert len(worker._children) == worker._settings.processes
    for life in worker._lives:
        life.cancel()


async def test_a_frozen_process_cannot_hold_up_who_tells_it_something() -> None:
    """Heartbeats and the drain tell things: they must go on whatever lies unread."""
    child = ChildProcess(1, isolated=False)
    life = asyncio.create_task(child.run(ORDERS, lambda ready: None))

    async def started() -> bool:
        return child._writer is not None

    await eventually(started)
    assert child._process is not None
    psutil.Process(child._process.pid).suspend()
    async with asyncio.timeout(5):
        while child.hears:
            child.tell({"cancel": ["x" * 1000]})
            await asyncio.sleep(0)
    child.kill()
    assert "SIGKILL" in await asyncio.wait_for(life, 10)


async def test_what_is_said_while_a_process_starts_is_heard() -> None:
    """A drain, or a second signal, may come at any time."""
    child = ChildProcess(1, isolated=False)
    life = asyncio.create_task(child.run(ORDERS, lambda ready: None))
    await asyncio.sleep(0)
    child.tell({"drain": 0})
    child.kill()
    assert "SIGKILL" in await asyncio.wait_for(life, 10)
    assert child._untold == [{"drain": 0}]


async def test_a_process_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    before = psutil.Process().num_fds()
    for number in range(20):
        with pytest.raises(OSError, match="nowhere"):
            await ChildProcess(number, isolated=False).run(ORDERS, lambda ready: None)
    assert psutil.Process().num_fds() < before + 20


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with store_on(database_url) as opened:
        yield opened


async def test_a_cancelled_job_stays_cancelled_when_its_attempt_ends_in_another_way(store: Store) -> None:
    """Its process died before it heard of the request: the leader carries the wish on."""
    job = new_job()
    await store.add(job)
    leases = await store.claim()
    await PostgresControl(store.database).cancel([job.id], By(actor="tests"))
    await store.end(leases, Crashed(cause="killed", alone=True))
    assert await store.state(job.id) == "available"
    settings = Settings(database_url=store.url)  # type: ignore[arg-type]
    async with supervisor_stores(settings) as stores:
        holder: UUID = uuid4()
        duties = Duties(
            settings,
            stores,
            holder=holder,
            sight=lambda: Sight(worker_id=WorkerId(holder), now=0.0, unbroken_for=NOW - NOW),
        )
        running = asyncio.create_task(duties.run())

        async def ended() -> bool:
            gone = await store.value("SELECT count(*) FROM perdure.cancel_requests") == 0
            return gone and await store.state(job.id) == "cancelled"

        await eventually(ended)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
