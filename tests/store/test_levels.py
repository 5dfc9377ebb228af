"""Levels: what the leader counts is what counting would tell, and pages over many jobs tell it at any moment."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from perdure.domain.job import JobState
from perdure.services.activity import Activity
from perdure.stores.postgres import insights, past
from perdure.stores.postgres.activity import PostgresActivity
from perdure.stores.postgres.levels import BIN, KEPT_DAYS, PostgresLevels
from tests.support.system import System, failure, system_on

MOVED = """
UPDATE perdure.recent_counts SET at = at + coalesce($1::interval, date_bin('10 seconds', now(), timestamptz '2000-01-01 00:00Z') - interval '10 seconds' - (
    SELECT max(r.at) FROM perdure.recent_counts r))
"""


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as made:
        yield made


async def variety(system: System) -> None:
    """Jobs in every state, in two queues."""
    await system.add_many(4)
    await system.add("app.slow", queue="slow")
    await system.claim(limit=1)
    await system.run()
    await system.run(failure())
    await system.run(failure(give_up=True))
    letter = await system.dead("app.dead")
    await system.act.discard(letter, actor="x", reason="known")
    await system.act.cancel(await system.add("app.other"), actor="x")
    parent = await system.add("app.parent")
    await system.add("app.child", after=[parent])
    await system.add("app.later", delay=timedelta(hours=1))


def counted(views: object) -> dict[JobState, int]:
    return {view.state: view.count for view in views}  # type: ignore[attr-defined]


async def test_levels_tell_what_counting_tells_and_say_that_they_are_of_before(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await variety(system)
    exact, queues = await system.read.counts(), await system.read.queues()
    assert not any(view.approximate for view in exact)
    assert all(view.count for view in exact)
    await system.sql.execute("ANALYZE")
    assert await PostgresLevels(system.database).run_once()
    always = ("level", (None, 120_000, -1))
    monkeypatch.setattr(insights, "LEVEL", always)
    parts = tuple(
        ("level", "levels", always[1]) if part[0] == "level" else part for part in insights.STATUS_PARTS
    )
    monkeypatch.setattr(insights, "STATUS_PARTS", parts)
    assert counted(exact) == counted(await system.read.counts())
    status = await system.read.status()
    assert status.counts is not None
    assert counted(exact) == counted(status.counts)
    assert all(view.approximate for view in status.counts)
    seen = await system.read.queues()
    assert [(one.name, dict(one.depths), one.oldest_available_at, one.unserved) for one in seen] == [
        (one.name, dict(one.depths), one.oldest_available_at, one.unserved) for one in queues
    ]
    assert all(one.approximate for one in seen)


async def test_a_few_jobs_are_counted_whatever_the_leader_has_counted(system: System) -> None:
    await PostgresLevels(system.database).run_once()
    await system.add_many(3)
    assert counted(await system.read.counts())[JobState.AVAILABLE] == 3


async def test_a_moment_with_much_in_it_is_told_by_the_levels_before_it(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await variety(system)
    await system.sql.execute("ANALYZE")
    exact = counted(await system.read.counts())
    await PostgresLevels(system.database).run_once()
    await system.past.mark()
    then = await system.sql.fetchval("SELECT max(at) FROM perdure.moments")
    await system.add_many(5)
    monkeypatch.setattr(past, "FEW_LIVE", -1)
    found = await system.read.counts(as_of=then)
    assert counted(found) == exact
    assert all(view.approximate for view in found)
    status = await system.read.status(as_of=then)
    assert status.counts is not None
    assert counted(status.counts) == exact
    queues = {queue.name: queue.depths for queue in await system.read.queues(as_of=then)}
    assert queues["slow"][JobState.AVAILABLE] == 1
    assert queues["default"][JobState.RUNNING] == 1


async def test_levels_are_kept_by_the_minute_and_forgotten_in_the_end(system: System) -> None:
    await system.sql.execute(
        """
        INSERT INTO perdure.levels SELECT date_trunc('minute', now()) - interval '3 hours' + n * interval '10 seconds', 0, 0, 0, '[]'::jsonb, '{}'::jsonb
        FROM generate_series(0, 11) n
        UNION ALL SELECT now() - $1::integer * interval '1 day' - interval '1 minute', 0, 0, 0, '[]'::jsonb, '{}'::jsonb
        """,
        KEPT_DAYS,
    )
    await PostgresLevels(system.database).run_once()
    assert await system.count("levels") == 3


async def test_counting_costs_a_fiftieth_of_the_time_at_most(system: System) -> None:
    counting = PostgresLevels(system.database)
    assert [await counting.run_once() for _ in range(3)] == [True, False, False]


async def test_rates_tell_the_same_from_what_the_leader_counts(system: System) -> None:
    """Ten thousand jobs of a minute are not counted again by each page."""
    await system.add_many(6)
    await system.run()
    await system.run(failure())
    activity = Activity(PostgresActivity(system.database))
    status, (rate,) = await system.read.status(), await activity.queue_rates()
    await PostgresLevels(system.database).run_once(datetime.now(UTC) + BIN)
    await system.sql.execute("UPDATE perdure.recent_counts SET jobs = jobs * 2000 WHERE what <> 'counted'")
    await system.sql.execute(
        "INSERT INTO perdure.recent_counts SELECT min(at) - interval '10 seconds', 0, 'counted', 0 FROM perdure.recent_counts"
    )
    again, more = status, rate
    for _ in range(10):  # on a machine that stood still for half a minute, the counts are too old to be used
        for shift in (timedelta(days=1), None):
            await system.sql.execute(MOVED, shift)
        again, (more,) = await system.read.status(), await activity.queue_rates()
        if more.finishing > 1 and again.last_minute is not None and again.last_minute[0].count > 1:
            break
    assert status.last_minute is not None
    assert again.last_minute is not None
    assert {(one.outcome, one.count * 2000) for one in status.last_minute} == {
        (one.outcome, one.count) for one in again.last_minute
    }
    assert (more.arriving, more.finishing, more.failing) == pytest.approx(
        (rate.arriving * 2000, rate.finishing * 2000, rate.failing * 2000)
    )
