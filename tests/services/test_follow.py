"""Kinds that follow the advice on them: from what workers wish to what attempts go by."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from perdure import JobFailed, JobState, Perdure
from perdure.domain.following import InForce, Wish
from perdure.domain.kind import Kind
from perdure.domain.redaction import Redaction
from perdure.domain.settlement import Completed, settle
from perdure.runtime.operations import WorkerConfig
from perdure.services.follow import EVERY, FORGOTTEN, Follow
from perdure.stores.postgres.advice import PostgresAttempts
from perdure.stores.postgres.following import PostgresFollowing
from tests.api.conftest import QUICK
from tests.support import following_jobs
from tests.support.attempts import RAN
from tests.support.system import System, system_on
from tests.support.waiting import eventually

WISH = Wish(kind="app.work", timeout_least_s=1.0, timeout_most_s=300.0)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


async def succeed(system: System, jobs: int) -> None:
    """So many attempts that took two seconds each."""
    await system.add_many(jobs)
    leases = await system.claim(limit=jobs)
    await system.jobs.settle([settle(lease, Completed()) for lease in leases])
    await system.sql.execute(RAN)


async def ran_out(app: Perdure, kind: Kind[[float], str]) -> bool:
    """Whether a job that takes three seconds ran out of the followed time-out."""
    try:
        await (await app.enqueue(kind, 3.0)).result("40s")
    except JobFailed as error:
        return "ran longer than 0.3 s" in str(error)
    return False


async def test_the_leader_puts_advice_in_force_and_records_why(system: System) -> None:
    store = PostgresFollowing(system.database)
    follow = Follow(store, PostgresAttempts(system.database, Redaction()))
    assert await follow.run_once() is None, "nobody wishes anything"
    await store.wish([WISH, Wish(kind="app.never_enqueued", retry_most_s=5.0)])
    await succeed(system, 120)
    done = [await follow.run_once(), await follow.run_once()]
    (changed,) = [each for each in done if each is not None]
    assert (changed.kind, changed.after.timeout_s) == ("app.work", 6.0)
    assert await follow.run_once() is None, "both were looked at just now"
    assert await store.in_force(["app.work", "app.never_enqueued"]) == {"app.work": InForce(timeout_s=6.0)}
    (event,) = await system.sql.fetch(
        "SELECT actor, reason, detail->'timeout_ms' AS ms FROM perdure.job_events WHERE event = 'advice_followed'"
    )
    assert tuple(event) == (
        "advice",
        "120 of 120 successes stay within the advised time-out",
        "[null, 6000]",
    )


async def test_who_comes_late_changes_nothing_and_what_nobody_wishes_is_left_alone(system: System) -> None:
    store = PostgresFollowing(system.database)
    await store.wish([WISH])
    assert await store.change("app.work", InForce(), InForce(timeout_s=6.0), actor="a")
    assert not await store.change("app.work", InForce(), InForce(timeout_s=9.0), actor="b")
    found = await store.of_kind("app.work")
    assert found is not None
    assert (found.wish, found.now.timeout_s) == (WISH, 6.0)
    await store.wish([Wish(kind="app.work", timeout_least_s=2.0)])
    found = await store.of_kind("app.work")
    assert found is not None
    assert (found.wish.timeout_most_s, found.now.timeout_s) == (None, 6.0)
    await system.sql.execute(
        "UPDATE perdure.followed_advice SET looked_at = NULL, wished_at = now() - interval '25 h'"
    )
    assert await store.due(every=EVERY, forgotten=FORGOTTEN) is None


async def test_attempts_of_a_worker_go_by_what_is_in_force(database_url: str, tmp_path: Path) -> None:
    """Those that start after the worker has read it, in each mode; a time-out given at the enqueue is kept."""
    names = [
        kind.name for kind in (following_jobs.linger, following_jobs.linger_in_a_process, following_jobs.fail)
    ]
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO perdure.followed_advice (kind, timeout_ms, retry_ms) SELECT k, 300, 600000 FROM unnest($1::text[]) k",
        names,
    )
    async with Perdure(database_url=database_url) as app:
        log = tmp_path / "worker.log"
        worker = await app.workers.spawn(
            WorkerConfig(app="tests.support.following_jobs", settings=QUICK, log=log, bound=True)
        )
        try:
            for kind in (following_jobs.linger, following_jobs.linger_in_a_process):
                await eventually(partial(ran_out, app, kind))
                own = await app.using(timeout="4m").enqueue(kind, 1.0)
                assert await own.result("40s") == "ended by itself"
            failed = await app.enqueue(following_jobs.fail)

            async def waits() -> bool:
                return await failed.state() is JobState.RETRYABLE

            await eventually(waits)
            waited = "SELECT extract(epoch FROM run_at - since) FROM perdure.scheduled_jobs WHERE job_id = $1"
            assert 600 <= await connection.fetchval(waited, failed.id) <= 720
        finally:
            await worker.stop()
            await connection.close()
