"""Reading among many: what is found by a shorter way is what looking at everything finds."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import asyncpg
import pytest

from perdure.domain.errors import PastUnknown
from perdure.domain.settlement import Cancelled, Crashed, Ending, Interrupted
from perdure.services.read import Read
from perdure.stores.postgres import search
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.past import PostgresPast
from perdure.stores.postgres.statements import Statement
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


@dataclass(frozen=True)
class Counting:
    """A database that counts what it is asked."""

    database: PooledDatabase
    asked: Counter[str] = field(default_factory=Counter)

    async def fetch(self, statement: Statement, *values: object) -> list[asyncpg.Record]:
        self.asked[statement.name] += 1
        return await self.database.fetch(statement, *values)

    async def fetch_all(self, *calls: tuple[Statement, tuple[object, ...]]) -> list[list[asyncpg.Record]]:
        self.asked.update(statement.name for statement, _ in calls)
        return await self.database.fetch_all(*calls)


async def test_the_questions_of_one_page_of_the_past_share_what_they_find(system: System) -> None:
    counting = Counting(system.database)
    read = Read(system.insights, PostgresPast(counting))
    now = datetime.now(UTC)
    with pytest.raises(PastUnknown):
        await read.status(as_of=now)
    await system.add()
    await system.run()
    ended = await system.worker("w2")
    await system.workers.stop(ended, cause="done")
    await system.past.mark()
    then = await system.sql.fetchval("SELECT max(at) FROM perdure.moments")
    counting.asked.clear()
    status, queues, workers, living = await asyncio.gather(
        read.status(as_of=then),
        read.queues(as_of=then),
        read.workers(as_of=then),
        read.workers(alive_only=True, as_of=then),
    )
    once = {name: counting.asked[name] for name in ("moment", "moved_since", "level", "queues", "workers")}
    assert set(once.values()) == {1}, once
    assert (status.workers_active, len(queues), len(workers), len(living)) == (1, 1, 2, 1)
    assert queues == await system.read.queues(as_of=then)
    assert (await read.worker("w2", as_of=then)).worker.id == ended
    with pytest.raises(PastUnknown):
        await read.status(as_of=now)
