"""Counts of minutes: made from the history, made up for, counted anew, and what charts tell is the same with and without them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.activity import Minute
from perdure.services.activity import Activity
from perdure.stores.postgres.activity import PostgresActivity
from perdure.stores.postgres.rollups import (
    AGAIN,
    MINUTE,
    REACH,
    STEP,
    STEPS,
    PostgresRollups,
    minute_of,
    spans,
)
from tests.support.system import System, failure, system_on

HOUR = timedelta(hours=1)
NOW = datetime(2030, 1, 1, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as made:
        yield made


async def told(system: System) -> list[Minute]:
    """What the chart shows of the last hour, without the minute that is not over."""
    view = await Activity(PostgresActivity(system.database)).throughput(HOUR)
    assert view.complete
    return list(view.minutes[:-1])


async def busy_hour(system: System) -> None:
    """Jobs that ended well and badly, half an hour ago and two minutes ago."""
    for minutes in (30, 2):
        await system.add_many(3)
        for number in range(2):
            await system.run(failure() if number else None)
        for table, column in (("job_executions", "settled_at"), ("jobs", "enqueued_at")):
            await system.sql.execute(
                f"UPDATE perdure.{table} SET {column} = {column} - $1::interval WHERE {column} > now() - interval '1 minute'",
                timedelta(minutes=minutes),
            )


async def test_charts_tell_the_same_with_and_without_the_counts(system: System) -> None:
    await busy_hour(system)
    ended = [(m.completed, m.failed) for m in await told(system)]
    assert sum(done for done, _ in ended) == 2
    rollups = PostgresRollups(system.database)
    while await rollups.run_once() > AGAIN // MINUTE:
        pass
    assert await system.count("minute_counts") == REACH // MINUTE
    assert [(m.completed, m.failed) for m in await told(system)] == ended
    await system.sql.execute(
        "UPDATE perdure.minute_counts SET completed = 7 WHERE minute < now() - interval '5 minutes'"
    )
    assert sum(m.completed for m in await told(system)) > 7 * 50, "whole minutes come from the counts"


async def test_a_span_that_ends_with_a_minute_is_told_from_the_counts_to_its_end(system: System) -> None:
    rollups = PostgresRollups(system.database)
    while await rollups.run_once() > AGAIN // MINUTE:
        pass
    await system.sql.execute("UPDATE perdure.minute_counts SET completed = 7, enqueued = 5")
    end = await system.sql.fetchval("SELECT max(minute) + interval '1 minute' FROM perdure.minute_counts")
    for until, last in ((end, (5, 7)), (end + MINUTE / 2, (0, 0))):
        view = await Activity(PostgresActivity(system.database)).throughput(HOUR, as_of=until)
        assert view.complete
        assert [(m.enqueued, m.completed) for m in view.minutes[:-1]] == [(5, 7)] * len(view.minutes[:-1])
        assert (view.minutes[-1].enqueued, view.minutes[-1].completed) == last, (
            "what is not over is not counted so"
        )


async def test_a_minute_is_counted_anew_while_it_is_young_and_never_twice(system: System) -> None:
    rollups = PostgresRollups(system.database)
    now = datetime.now(UTC) + 2 * MINUTE
    while await rollups.run_once(now) > AGAIN // MINUTE:
        pass
    assert await system.sql.fetchval("SELECT sum(completed) FROM perdure.minute_counts") == 0
    await system.add()
    await system.run()
    assert await rollups.run_once(now) == 0, "nothing is counted until another minute is over"
    for minutes in (1, 1, 2):
        await rollups.run_once(now + minutes * MINUTE)
    assert await system.sql.fetchval("SELECT sum(completed) FROM perdure.minute_counts") == 1
    assert await system.sql.fetchval("SELECT sum(enqueued) FROM perdure.minute_counts") == 1


async def test_old_minutes_are_forgotten_and_a_gap_is_read_from_the_history(system: System) -> None:
    rollups = PostgresRollups(system.database)
    await rollups.run_once(datetime.now(UTC) - timedelta(days=20))
    await rollups.run_once()
    assert await system.count("minute_counts", "minute < now() - interval '14 days'") == 0
    await busy_hour(system)
    await system.sql.execute("DELETE FROM perdure.minute_counts WHERE minute < now() - interval '40 minutes'")
    assert sum(m.completed for m in await told(system)) == 2


@given(st.none() | st.timedeltas(min_value=timedelta(hours=-30), max_value=timedelta(days=3)))
def test_a_round_is_bounded_and_leaves_no_minute_out(behind: timedelta | None) -> None:
    """From the newest counted minute on, or from as far back as the counts reach, in steps that join, and not into the present."""
    newest = None if behind is None else minute_of(NOW - behind)
    found = list(spans(newest, NOW))
    if newest == minute_of(NOW) - MINUTE:
        assert not found
        return
    assert found
    assert found[-1][1] <= minute_of(NOW)
    assert (found[-1][1] - found[0][0]) <= STEPS * STEP
    assert all(before[1] == after[0] for before, after in pairwise(found))
    oldest = minute_of(NOW) - REACH
    expected = oldest if newest is None else max(oldest, newest + MINUTE)
    assert found[0][0] == min(expected, minute_of(NOW) - AGAIN)
