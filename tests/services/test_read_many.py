"""Reading among many: what is found by a shorter way is what looking at everything finds."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest

from perdure.domain.settlement import Cancelled, Crashed, Ending, Interrupted
from perdure.stores.postgres import search
from tests.support.system import System, failure, system_on

LONG = timedelta(minutes=1)
OLDER = "UPDATE perdure.jobs SET enqueued_at = enqueued_at - $2::interval WHERE id = ANY ($1::uuid[])"
ENDED_EARLIER = (
    "UPDATE perdure.job_executions SET settled_at = settled_at - $2::interval WHERE job_id = ANY ($1::uuid[])"
)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


async def tried(system: System) -> None:
    """Jobs that ended in every way but well, new and old, some of them tried twice."""
    endings: tuple[Ending, ...] = (
        failure("reset by peer"),
        failure("reset, gave up", give_up=True),
        failure("timeout"),
        Cancelled(reason="reset by hand"),
        Interrupted(cause="reset of the host"),
        Crashed(cause="process died", alone=True),
    )
    old = []
    for number, (ending, is_old) in enumerate(product(endings, (False, True))):
        kind = f"app.{number}"
        job = await system.add(kind)
        await system.run(ending, kind=kind)
        old += [job] if is_old else []
    await system.add_many(20)
    await system.sql.execute(OLDER, old, timedelta(hours=2))
    await system.add("app.again")
    for _ in range(2):
        await system.run(failure("reset", retry_in=0), kind="app.again")
        await system.jobs.stage(limit=10)


async def found(system: System, filter: str, limit: int) -> list[UUID]:
    jobs, cursor = [], None
    while True:
        page = await system.read.jobs(filter, limit=limit, cursor=cursor, budget=LONG)
        assert page.complete
        jobs += [job.id for job in page.jobs]
        cursor = page.cursor
        if cursor is None:
            return jobs


@pytest.mark.parametrize("few", [20_000, 0])
async def test_errors_since_a_moment_are_those_of_all_errors_whose_job_came_since(
    system: System, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """By when attempts ended, where those are few, and by walking through all that failed, where they are many."""
    monkeypatch.setattr(search, "FEW_ENDED", few)
    await tried(system)
    now = await system.sql.fetchval("SELECT now()")
    bounds = {
        f"since:{(now - timedelta(hours=1)).isoformat()}": now - timedelta(hours=1),
        f"since:{(now - timedelta(hours=3)).isoformat()}": now - timedelta(hours=3),
        "since:1h": now - timedelta(hours=1),
        "since:2100-01-01": now + timedelta(days=1),
    }
    seen = 0
    for asked in ("error~reset", "error~RESET", "error:ValueError", "fingerprint:fp-reset*,crashed"):
        every = (await system.read.jobs(asked, limit=1_000, budget=LONG)).jobs
        for words, bound in bounds.items():
            expected = [job.id for job in every if job.enqueued_at >= bound]
            for limit in (2, 1_000):
                assert await found(system, f"{asked} {words}", limit) == expected, f"{asked} {words}"
            seen += len(expected)
    assert seen > 30


async def test_a_search_for_errors_since_a_moment_ends_there(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much had failed before: none of it is looked at."""
    monkeypatch.setattr(search, "LOOKED_AT_MOST", 50)
    monkeypatch.setattr(search, "WINDOW", 10)
    jobs = await system.add_many(120)
    worker = await system.worker(capacity=200)
    for lease in await system.claim(worker, limit=120):
        await system.end(lease, failure("reset"))
    await system.sql.execute(OLDER, jobs, timedelta(hours=3))
    await system.sql.execute(ENDED_EARLIER, jobs, timedelta(hours=2))
    wanted = await system.add("app.new")
    await system.run(failure("reset"), kind="app.new")
    page = await system.read.jobs("error~reset since:1h", budget=LONG)
    assert ([job.id for job in page.jobs], page.complete, page.note) == ([wanted], True, "")
