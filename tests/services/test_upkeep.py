"""A round of upkeep on a real database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import timedelta

import pytest

from perdure.services.upkeep import BATCH, Upkeep
from tests.support.past import Past, names, past_of

WEEK = timedelta(days=7)
OLD = 20


@pytest.fixture
async def past(database_url: str) -> AsyncIterator[Past]:
    async with past_of(database_url) as past:
        yield past


def upkeep(past: Past, *, ahead_days: int = 3) -> Upkeep:
    return Upkeep(past.keeping, ahead_days=ahead_days, retention=WEEK)


async def test_a_round_with_nothing_to_do_does_nothing(past: Past) -> None:
    assert not any(asdict(await upkeep(past).run_once()).values())


async def test_one_round_does_all_that_is_due(past: Past) -> None:
    await past.day(OLD)
    parent, child = await past.body(OLD), await past.body(OLD)
    for job in (parent, child):
        await past.ended(job, OLD)
    await past.edge(parent, child, "satisfied")
    await past.sql("INSERT INTO perdure.unique_keys VALUES ('k', $1, 31, now())", child)
    await past.sql("INSERT INTO perdure.cancel_requests VALUES ($1, $1, $1, 'r')", child)
    await past.sql(
        "INSERT INTO perdure.job_progress VALUES ($1, $1, 1, 'n', now() - interval '1 hour')", child
    )
    report = await upkeep(past, ahead_days=4).run_once()
    assert sorted(report.made) == names(-4)
    assert sorted(report.dropped) == names(OLD)
    assert (report.edges, report.unique_keys, report.cancel_requests, report.progress) == (1, 1, 1, 1)
    assert not report.missing
    assert not report.kept
    assert not report.postponed


async def test_what_is_left_undone_is_told_with_its_reason(past: Past) -> None:
    await past.day(OLD)
    job = await past.body(OLD)
    await past.sql("INSERT INTO perdure.unique_keys VALUES ('k', $1, 63)", job)
    await past.ended(job, OLD)
    body, history = names(OLD, "jobs")[0], names(OLD, "job_executions")[0]
    async with past.connection.transaction():
        await past.sql("SELECT FROM perdure.jobs_default")
        await asyncio.sleep(1.1)
        async with past_of(past.url) as second:
            report = await upkeep(second, ahead_days=4).run_once()
    assert report.kept == {body: "a job holds a unique key", history: f"it tells of jobs in {body}"}
    assert list(report.missing) == names(-4, "jobs")
    assert sorted(report.made) == names(-4, "job_executions", "job_events", "worker_samples")


async def test_a_sweep_goes_on_until_nothing_is_left(past: Past) -> None:
    await past.sql(
        "INSERT INTO perdure.unique_keys SELECT n::text, gen_random_uuid(), 31, now() FROM generate_series(1, $1::int) AS n",
        BATCH * 2 + 1,
    )
    assert (await upkeep(past).run_once()).unique_keys == BATCH * 2 + 1


async def test_two_leaders_at_once_do_no_harm(past: Past) -> None:
    for day in (OLD, OLD + 1):
        await past.day(day)
        await past.ended(await past.body(day), day)
    async with past_of(past.url) as second:
        reports = await asyncio.gather(*(upkeep(one, ahead_days=5).run_once() for one in (past, second)))
    last = await upkeep(past, ahead_days=5).run_once()
    dropped = [name for report in (*reports, last) for name in report.dropped]
    assert sorted(dropped) == sorted(names(OLD) + names(OLD + 1))
    assert await past.partitions() == {name for day in range(-5, 2) for name in names(day)}
