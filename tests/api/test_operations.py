"""The specification's operations under their names: for worker loops of one's own, and to look after workers."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from perdure import ClaimLost, JobFailed, JobState, Perdure
from perdure.domain.errors import Conflict, IllegalTransition, InvalidArguments, NotFound
from perdure.domain.settlement import Outcome
from perdure.domain.worker import WorkerState
from perdure.runtime.operations import WorkerConfig
from perdure.testing import make_due
from tests.api.conftest import JOBS, QUICK
from tests.support import jobs
from tests.support.waiting import eventually

KINDS = [jobs.add.name, jobs.always_fails.name]


async def refusals(sql: Any, job_id: UUID) -> int:
    return int(
        await sql.fetchval(
            "SELECT count(*) FROM perdure.job_events WHERE job_id = $1 AND event = 'result_refused'", job_id
        )
    )


async def test_a_job_is_created_acquired_and_completed(app: Perdure) -> None:
    worker = await app.workers.register(kinds=KINDS, capacity=3)
    handle = await app.jobs.create(jobs.add, 1, b=2)
    (lease,) = await app.jobs.acquire(worker)
    assert (lease.job_id, lease.kind, lease.attempt) == (handle.id, jobs.add.name, 1)
    assert await handle.state() is JobState.RUNNING
    await app.jobs.complete(lease, 3)
    assert await handle.result() == 3
    assert await app.jobs.acquire(worker) == []


async def test_acquiring_waits_for_the_first_job_and_takes_the_best(app: Perdure) -> None:
    worker = await app.workers.register(kinds=KINDS, capacity=10)
    waiting = asyncio.create_task(app.jobs.acquire(worker, limit=5, wait="10s"))
    await asyncio.sleep(0.15)
    low, high = await app.enqueue_many(
        [app.using(priority=1).prepare(jobs.add, 1), app.using(priority=5).prepare(jobs.add, 2)]
    )
    assert [lease.job_id for lease in await waiting] == [high.id, low.id]


async def test_a_full_worker_gets_no_more_than_it_has_room_for(app: Perdure) -> None:
    worker = await app.workers.register(kinds=KINDS, capacity=2)
    await app.enqueue_many([app.prepare(jobs.add, n) for n in range(3)])
    first, second = await app.jobs.acquire(worker, limit=10)
    assert await app.jobs.acquire(worker, limit=10) == []
    assert (await app.workers.health(worker)).load == 1.0
    await app.jobs.complete(first)
    assert len(await app.jobs.acquire(worker, limit=10)) == 1
    await app.jobs.complete(second)


async def test_a_worker_gets_only_what_it_serves(app: Perdure) -> None:
    worker = await app.workers.register(kinds=[jobs.add.name], queues=["a"], labels=["gpu"], capacity=9)
    await app.using(queue="b").enqueue(jobs.add, 1)
    await app.using(queue="a", labels=["gpu", "eu"]).enqueue(jobs.add, 2)
    await app.using(queue="a").enqueue(jobs.always_fails)
    mine = await app.using(queue="a", labels=["gpu"]).enqueue(jobs.add, 3)
    assert [lease.job_id for lease in await app.jobs.acquire(worker, limit=9)] == [mine.id]


async def test_three_workers_share_six_jobs(app: Perdure) -> None:
    """Each job goes to one of them, none gets more than it has room for, and each load falls again."""
    workers = [await app.workers.register(kinds=KINDS, capacity=2) for _ in range(3)]
    handles = await app.enqueue_many([app.prepare(jobs.add, n) for n in range(6)])
    shares = await asyncio.gather(*(app.jobs.acquire(worker, limit=6) for worker in workers))
    assert [len(share) for share in shares] == [2, 2, 2]
    assert {lease.job_id for share in shares for lease in share} == {handle.id for handle in handles}
    assert [(await app.workers.health(worker)).load for worker in workers] == [1.0, 1.0, 1.0]
    for lease in [lease for share in shares for lease in share]:
        await app.jobs.complete(lease, "done")
    assert [(await app.workers.health(worker)).load for worker in workers] == [0.0, 0.0, 0.0]
    assert {await handle.state() for handle in handles} == {JobState.COMPLETED}


async def test_each_heartbeat_is_kept_with_the_worker(app: Perdure, sql: Any) -> None:
    worker = await app.workers.register(kinds=KINDS)
    beaten = "SELECT heartbeat_at FROM perdure.workers WHERE id = $1"
    moments = [await sql.fetchval(beaten, worker)]
    for _ in range(3):
        await app.workers.heartbeat(worker)
        moments.append(await sql.fetchval(beaten, worker))
    assert sorted(set(moments)) == moments


async def test_draining_dead_and_unknown_workers_acquire_nothing(app: Perdure, sql: Any) -> None:
    await app.enqueue(jobs.add, 1)
    worker = await app.workers.register(kinds=KINDS)
    await app.workers.stop(worker)
    with pytest.raises(Conflict, match="is draining and cannot acquire"):
        await app.jobs.acquire(worker)
    await app.workers.heartbeat(worker)
    await sql.execute("UPDATE perdure.workers SET state = 'dead', stopped_at = now() WHERE id = $1", worker)
    with pytest.raises(Conflict, match="is dead and cannot acquire"):
        await app.jobs.acquire(worker)
    with pytest.raises(Conflict, match="leases are gone") as gone:
        await app.workers.heartbeat(worker)
    assert gone.value.next_step == "register anew"
    with pytest.raises(NotFound):
        await app.jobs.acquire(uuid4())
    with pytest.raises(NotFound):
        await app.workers.heartbeat(uuid4())


async def test_a_failed_job_is_retried_after_its_back_off_and_then_discarded(app: Perdure) -> None:
    worker = await app.workers.register(kinds=KINDS)
    handle = await app.using(retries=1).enqueue(jobs.add, 1)
    (lease,) = await app.jobs.acquire(worker)
    await app.jobs.fail(lease, ValueError("first"))
    view = (await app.jobs.get(handle.id)).job
    assert view.state is JobState.RETRYABLE
    assert view.run_at is not None
    assert view.run_at - view.since <= timedelta(seconds=1)
    await app.jobs.retry(handle.id, actor="tests", reason="at once")
    (lease,) = await app.jobs.acquire(worker)
    assert lease.attempt == 2
    await app.jobs.fail(lease, "second", retry_in="1h")
    with pytest.raises(JobFailed, match="Error: second"):
        await handle.result()
    assert (await app.jobs.get(handle.id)).dead_letter is not None


async def test_failing_may_name_the_wait_or_give_up(app: Perdure) -> None:
    worker = await app.workers.register(kinds=KINDS)
    handle = await app.enqueue(jobs.add, 1)
    (lease,) = await app.jobs.acquire(worker)
    await app.jobs.fail(lease, "later", retry_in="1h")
    await make_due(app, handle)
    await (await app.stores()).jobs.stage(limit=10)
    (lease,) = await app.jobs.acquire(worker)
    await app.jobs.fail(lease, "never", give_up=True)
    assert await handle.state() is JobState.DISCARDED


async def test_a_stale_lease_settles_nothing_and_the_refusal_is_kept(app: Perdure, sql: Any) -> None:
    worker = await app.workers.register(kinds=KINDS, capacity=5)
    handle = await app.enqueue(jobs.add, 1)
    (stale,) = await app.jobs.acquire(worker)
    await app.jobs.fail(stale, "taken over", retry_in=0)
    await (await app.stores()).jobs.stage(limit=10)
    (lease,) = await app.jobs.acquire(worker)
    with pytest.raises(ClaimLost):
        await app.jobs.complete(stale, 99)
    assert await refusals(sql, handle.id) == 1
    await app.jobs.complete(lease, 2)
    assert await handle.result() == 2


async def test_a_completion_whose_answer_was_lost_may_be_repeated(app: Perdure, sql: Any) -> None:
    worker = await app.workers.register(kinds=KINDS)
    handle = await app.enqueue(jobs.add, 1)
    (lease,) = await app.jobs.acquire(worker)
    await app.jobs.complete(lease, 2)
    await app.jobs.complete(lease, 2)
    assert await refusals(sql, handle.id) == 0
    outcomes = [attempt.outcome for attempt in (await app.jobs.get(handle.id)).attempts]
    assert outcomes == [Outcome.COMPLETED]


async def test_a_result_that_json_cannot_hold_is_refused_and_the_lease_stands(app: Perdure) -> None:
    worker = await app.workers.register(kinds=KINDS)
    handle = await app.enqueue(jobs.add, 1)
    (lease,) = await app.jobs.acquire(worker)
    with pytest.raises(InvalidArguments, match="result"):
        await app.jobs.complete(lease, object())
    assert await handle.state() is JobState.RUNNING


async def test_cancelling_asks_a_loop_of_ones_own_by_its_heartbeat(app: Perdure) -> None:
    worker = await app.workers.register(kinds=KINDS)
    handle = await app.enqueue(jobs.add, 1)
    (lease,) = await app.jobs.acquire(worker)
    assert await app.workers.heartbeat(worker) == ()
    await app.jobs.cancel(handle.id, reason="enough")
    assert await app.workers.heartbeat(worker) == ((handle.id, lease.token),)
    await app.jobs.complete(lease)
    with pytest.raises(IllegalTransition):
        await app.jobs.cancel(handle.id)
    with pytest.raises(NotFound):
        await app.jobs.cancel(uuid4())


async def test_jobs_are_listed_by_filter_and_page(app: Perdure) -> None:
    handles = await app.enqueue_many([app.prepare(jobs.add, n) for n in range(5)])
    await app.using(queue="media").enqueue(jobs.add, 9)
    page = await app.jobs.list("queue:default state:available", limit=3)
    rest = await app.jobs.list("queue:default state:available", limit=3, cursor=page.cursor)
    assert [one.id for one in (*page.jobs, *rest.jobs)] == [handle.id for handle in reversed(handles)]
    with pytest.raises(NotFound):
        await app.jobs.get(uuid4())


def test_the_specifications_queue_keys() -> None:
    keys = [Perdure(database_url="postgresql://localhost/none").jobs.queue_key(n) for n in range(1, 6)]
    low, medium, high = "job:queue:low", "job:queue:medium", "job:queue:high"
    assert keys == [low, medium, medium, high, high]


async def test_a_worker_is_spawned_seen_and_stopped(app: Perdure, tmp_path: Path) -> None:
    config = WorkerConfig(app=JOBS, settings=QUICK, log=tmp_path / "log", bound=True)
    worker = await app.workers.spawn(config)
    assert await (await app.enqueue(jobs.add, 1)).result("20s") == 2
    health = await app.workers.health(worker.worker_id)
    assert (health.state, health.suspect, health.load) == (WorkerState.ACTIVE, False, 0.0)
    assert health.silent_for < timedelta(seconds=1)
    assert [one.id for one in await app.workers.list()] == [worker.worker_id]
    await app.workers.stop(worker.worker_id)

    async def ended() -> bool:
        return (await app.workers.health(worker.worker_id)).state is WorkerState.STOPPED

    await eventually(ended)
    assert await worker.process.wait() == 0
    assert await app.workers.list() == []
    assert len(await app.workers.list(alive_only=False)) == 1
    with pytest.raises(NotFound):
        await app.workers.stop(worker.worker_id)


async def test_a_worker_that_cannot_start_says_why(app: Perdure, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(Conflict, match="before it was ready"):
        await app.workers.spawn(WorkerConfig(app="no.such.module", settings=QUICK, log=log))
    text = await asyncio.to_thread(log.read_text)
    assert "there is no module 'no.such.module'" in text
    assert "Traceback" not in text


async def test_a_silent_worker_is_a_suspect(app: Perdure, sql: Any) -> None:
    worker = await app.workers.register(kinds=KINDS)
    assert not (await app.workers.health(worker)).suspect
    await sql.execute(
        "UPDATE perdure.workers SET heartbeat_at = now() - interval '7 s' WHERE id = $1", worker
    )
    health = await app.workers.health(worker)
    assert health.suspect
    assert timedelta(seconds=7) <= health.silent_for < timedelta(seconds=9)
    await app.workers.heartbeat(worker)
    assert not (await app.workers.health(worker)).suspect
    with pytest.raises(NotFound):
        await app.workers.health(uuid4())
