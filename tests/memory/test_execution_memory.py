"""The memory of executions: nothing that ended is forgotten, nothing secret is kept, and its loss costs nothing but itself."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.domain.errors import InvalidOption, MemoryUnavailable, NotFound
from perdure.domain.execution_memory import Wanted
from perdure.domain.job import NewJob
from perdure.domain.settlement import Completed, ErrorReport, Failed, Snoozed
from perdure.ports import By
from perdure.runtime.vectors.finding import Found
from perdure.services.execution_memory import AT_ONCE, ExecutionMemory
from perdure.stores.postgres.control import PostgresControl
from tests.memory.conftest import memory_of
from tests.support.database import Store, new_job


def failed(type: str, message: str, *, give_up: bool = False) -> Failed:
    report = ErrorReport(type=type, message=message, fingerprint=f"{type} {len(message)}")
    return Failed(error=report, retry_in=timedelta(0), give_up=give_up)


RESET = failed("ConnectionResetError", "[Errno 104] Connection reset by peer")
MISSING = failed("FileNotFoundError", "[Errno 2] No such file or directory: '/data/7/in.csv'")


async def caught_up(memory: ExecutionMemory) -> int:
    read = 0
    while True:
        report = await memory.remember_once()
        read += report.read
        if report.caught_up:
            return read


async def ended(store: Store, *endings: Failed | Completed | Snoozed, **options: Any) -> NewJob:
    """A job whose attempts ended so."""
    job = new_job(**options)
    await store.add(job)
    for ending in endings:
        await store.jobs.stage(limit=100)
        await store.finish(job, ending)
    return job


async def test_a_failure_is_found_by_its_words_with_what_it_was(
    store: Store, memory: ExecutionMemory
) -> None:
    job = await ended(store, RESET, kind="media.resize_image", args='{"width": 640, "password": "hush"}')
    await ended(store, MISSING, kind="etl.load")
    assert await caught_up(memory) == 2
    first, second = await memory.search("connection reset while resizing")
    found = first.execution
    assert (found.job_id, found.kind, found.outcome, found.attempt) == (
        job.id,
        "media.resize_image",
        "failed",
        1,
    )
    assert (found.error_type, "reset by peer" in found.message) == ("ConnectionResetError", True)
    assert first.similarity > second.similarity
    assert "hush" not in found.args
    assert '"width":640' in found.args.replace(" ", "")
    assert (found.embedder, found.resolved, found.worker.startswith("w")) == ("hashing/1.1", None, True)
    assert found.ran_s is not None
    assert found.waited_s is not None


async def test_what_fixed_a_failure_is_noted_when_it_happens(store: Store, memory: ExecutionMemory) -> None:
    retried = await ended(store, RESET, kind="app.retried")
    replayed = await ended(store, failed("OSError", "disk full", give_up=True), kind="app.replayed")
    lost = await ended(store, failed("OSError", "never fixed", give_up=True), kind="app.lost")
    await caught_up(memory)
    await store.jobs.stage(limit=10)
    await store.finish(retried, Completed())
    by = By(actor="kim", reason="made room")
    await PostgresControl(store.database).replay({replayed.id: timedelta(0)}, by)
    await store.finish(replayed, Completed())
    await caught_up(memory)
    resolved = {
        job.id: [each.resolved for each in await memory.contexts(job.id) if each.outcome != "completed"]
        for job in (retried, replayed, lost)
    }
    (one,), (two,), three = resolved[retried.id], resolved[replayed.id], resolved[lost.id]
    assert one is not None
    assert (one.how, one.attempt, one.actor) == ("retry", 2, "")
    assert two is not None
    assert (two.how, two.actor, two.reason) == ("replayed", "kim", "made room")
    assert three == [None]


async def test_filters_leave_out_what_does_not_fit(store: Store, memory: ExecutionMemory) -> None:
    for kind in ("app.a", "app.b"):
        await ended(store, RESET, Completed(), kind=kind)
    await caught_up(memory)
    now = datetime.now(UTC)

    async def found(wanted: Wanted) -> list[tuple[str, str]]:
        each = await memory.search("connection reset", wanted, limit=100)
        return sorted((one.execution.kind, one.execution.outcome) for one in each)

    assert await found(Wanted(kind="app.a")) == [("app.a", "completed"), ("app.a", "failed")]
    assert await found(Wanted(outcome="failed")) == [("app.a", "failed"), ("app.b", "failed")]
    assert await found(Wanted(failed=True, kind="app.b")) == [("app.b", "failed")]
    assert await found(Wanted(since=now + timedelta(hours=1))) == []
    assert await found(Wanted(until=now - timedelta(hours=1))) == []
    assert len(await found(Wanted(since=now - timedelta(hours=1), until=now + timedelta(hours=1)))) == 4
    assert await found(Wanted(queue="other")) == []
    assert await found(Wanted(worker="nobody")) == []
    assert await found(Wanted(least=0.99)) == []


async def test_similar_jobs_are_others_with_the_same_failure(store: Store, memory: ExecutionMemory) -> None:
    mine = await ended(store, RESET, kind="app.a")
    other = await ended(store, RESET, kind="app.b")
    await ended(store, MISSING, kind="app.a")
    await caught_up(memory)
    nearest = (await memory.similar(mine.id))[0]
    assert (nearest.execution.job_id, nearest.similarity > 0.9) == (other.id, True)
    assert mine.id not in {each.execution.job_id for each in await memory.similar(mine.id)}
    with pytest.raises(NotFound):
        await memory.similar((await ended(store)).id)


async def test_a_transaction_that_commits_late_is_not_passed_over(
    store: Store, memory: ExecutionMemory
) -> None:
    """Reading stops before the oldest transaction that is open, whatever has committed after it."""
    late, early = new_job(), new_job()
    await store.add(late, early)
    leases = {lease.job_id: lease for lease in await store.claim(2)}
    async with store.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO perdure.job_executions (job_id, token, worker_id, outcome, state, lane, run, attempt, crashes, interruptions)"
            " SELECT job_id, token, worker_id, 'failed', 'discarded', lane, 1, 1, 0, 0 FROM perdure.leases WHERE job_id = $1",
            late.id,
        )
        await store.end([leases[early.id]], RESET)
        assert await caught_up(memory) == 0
        assert (await memory.status()).behind == 0
        await transaction.commit()
    assert await caught_up(memory) == 2
    assert await memory.contexts(late.id) != []
    assert await memory.contexts(early.id) != []
    assert await caught_up(memory) == 0


async def test_failures_are_all_remembered_and_of_successes_a_share_that_is_always_the_same(
    store: Store, qdrant: Found
) -> None:
    jobs = [new_job() for _ in range(300)]
    await store.add(*jobs)
    await store.end(await store.claim(300), Completed())
    failure = await ended(store, RESET, kind="app.other")
    await ended(store, Snoozed(delay=timedelta(hours=1)), kind="app.third")
    for sample, least, most in ((0.0, 1, 1), (0.2, 20, 120), (1.0, 301, 301)):
        async with memory_of(store, qdrant, sample=sample) as memory:
            await memory.rebuild(fresh=True)
            read = await caught_up(memory)
            assert least <= read <= most
            assert (await memory.status()).remembered == read
            assert len(await memory.contexts(failure.id)) == 1
            await memory.rebuild()
            assert await caught_up(memory) == read
            assert (await memory.status()).remembered == read


async def test_more_than_one_round_reads_each_attempt_once(store: Store, memory: ExecutionMemory) -> None:
    """One transaction ended more attempts than a round reads."""
    count = AT_ONCE + 50
    await store.add(*(new_job() for _ in range(count)))
    await store.end(await store.claim(count), RESET)
    rounds = [await memory.remember_once() for _ in range(3)]
    assert [each.read for each in rounds] == [AT_ONCE, 50, 0]
    assert (await memory.status()).remembered == count


async def test_a_job_that_was_cancelled_while_it_waited_holds_nothing_up(
    store: Store, memory: ExecutionMemory
) -> None:
    """It ended without an attempt: there is nothing to remember, and what ends after it is remembered all the same."""
    waiting = new_job()
    await store.add(waiting)
    await PostgresControl(store.database).cancel([waiting.id], By(actor="test"))
    later = await ended(store, RESET)
    assert (await memory.status()).behind == (await memory.behind())[0] == 1
    assert await caught_up(memory) == 1
    assert await memory.contexts(waiting.id) == []
    assert len(await memory.contexts(later.id)) == 1


async def test_a_collection_that_was_lost_comes_back_by_itself(
    store: Store, memory: ExecutionMemory, qdrant: Found
) -> None:
    job = await ended(store, RESET)
    await caught_up(memory)
    status = await memory.status()
    async with memory_of(store, qdrant, sample=1.0) as other:
        await other._vectors.drop(status.collection)
    await ended(store, MISSING)
    with pytest.raises(MemoryUnavailable):
        await caught_up(memory)
    assert await caught_up(memory) == 2
    assert len(await memory.contexts(job.id)) == 1


async def test_after_a_restore_history_is_read_anew(store: Store, memory: ExecutionMemory) -> None:
    """The numbers of transactions begin again in the new database, so that a cursor of before says nothing."""
    await ended(store, RESET)
    await caught_up(memory)
    await store.sql("UPDATE perdure.execution_memory SET position = position + 1000000")
    await store.sql("UPDATE perdure.installation SET era = era + 1")
    await ended(store, MISSING)
    assert await caught_up(memory) == 2


async def test_what_is_older_than_kept_is_forgotten(store: Store, qdrant: Found) -> None:
    await ended(store, RESET)
    async with memory_of(store, qdrant, keep=timedelta(days=1)) as memory:
        await caught_up(memory)
        await memory.forget_old()
        assert (await memory.status()).remembered == 1
    async with memory_of(store, qdrant, keep=timedelta(0)) as memory:
        await memory.forget_old()
        assert (await memory.status()).remembered == 0


async def test_without_qdrant_it_is_said_and_nothing_is_lost(
    store: Store, memory: ExecutionMemory, qdrant: Found
) -> None:
    nowhere = Found(url="http://127.0.0.1:9", api_key="")
    job = await ended(store, RESET)
    async with memory_of(store, nowhere) as away:
        for ask in (away.remember_once(), away.search("reset"), away.contexts(job.id), away.forget_old()):
            with pytest.raises(MemoryUnavailable, match="does not answer"):
                await ask
        status = await away.status()
        assert (status.searchable, status.behind, "127.0.0.1:9" in status.problem) == (False, 1, True)
    async with memory_of(store, Found(url=qdrant.url, api_key="wrong")) as stranger:
        with pytest.raises(MemoryUnavailable, match="401"):
            await stranger.remember_once()
    assert await caught_up(memory) == 1


async def test_two_who_remember_at_once_keep_each_attempt_once(store: Store, qdrant: Found) -> None:
    for _ in range(3):
        await ended(store, RESET)
    async with memory_of(store, qdrant) as one, memory_of(store, qdrant) as two:
        await one.remember_once()
        for _ in range(3):
            await ended(store, MISSING)
        await asyncio.gather(caught_up(one), caught_up(two))
        assert (await one.status()).remembered == 6
        assert await caught_up(two) == 0


async def test_a_rebuild_during_a_round_is_not_undone_by_it(store: Store, memory: ExecutionMemory) -> None:
    await ended(store, RESET)
    await caught_up(memory)
    keep = memory._keep

    async def slowly(collection: str, attempts: object) -> int:
        await memory.rebuild()
        return await keep(collection, attempts)  # type: ignore[arg-type] # handed on as it came

    await ended(store, MISSING)
    memory._keep = slowly  # type: ignore[method-assign] # another process rebuilds meanwhile
    await memory.remember_once()
    memory._keep = keep  # type: ignore[method-assign] # as it was
    assert await caught_up(memory) == 2


async def test_an_attempt_can_be_remembered_at_once(store: Store, qdrant: Found) -> None:
    job = await ended(store, RESET, Completed())
    async with memory_of(store, qdrant, sample=0.0) as memory:
        kept = await memory.store(job.id)
        assert [(each.outcome, each.resolved is not None) for each in kept] == [
            ("completed", False),
            ("failed", True),
        ]
        with pytest.raises(NotFound):
            await memory.store((await ended(store)).id)


async def test_what_cannot_be_asked_is_refused(memory: ExecutionMemory) -> None:
    with pytest.raises(InvalidOption, match="text"):
        await memory.search("  ")
    for limit in (0, 1000):
        with pytest.raises(InvalidOption, match="limit"):
            await memory.search("x", limit=limit)
    assert list(await memory.search("nothing is there yet")) == []
