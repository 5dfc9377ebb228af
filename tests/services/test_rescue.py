"""Verdicts on workers, and what becomes of their jobs."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from perdure.services.rescue import Rescue, Rules
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.leases import PostgresLeases
from tests.support.system import System, system_on

RULES = Rules(dead_after=timedelta(seconds=15), crash_limit=3, interruption_limit=50)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


def rescue(system: System, *, seeing_for: timedelta = timedelta(hours=1)) -> Rescue:
    return Rescue(
        system.jobs,
        PostgresLeases(system.database),
        system.workers,
        PostgresDispatch(system.database),
        rules=RULES,
        seeing_for=lambda: seeing_for,
    )


async def silent(system: System, worker_id: UUID, seconds: float) -> None:
    await system.sql.execute(
        "UPDATE perdure.workers SET heartbeat_at = now() - $2::float * interval '1 second' WHERE id = $1",
        worker_id,
        seconds,
    )


async def test_the_jobs_of_a_silent_worker_are_given_back_with_the_cause(system: System) -> None:
    worker = await system.worker()
    job = await system.add()
    await system.claim(worker)
    await silent(system, worker, 16)
    report = await rescue(system).run_once()
    assert (report.dead, report.rescued) == (1, 1)
    assert await system.state(job) == "available"
    assert await system.count("job_executions", "outcome = 'crashed' AND cause LIKE '%fell silent'") == 1
    assert await system.count("workers", "state = 'dead' AND cause LIKE 'silent: last heartbeat%'") == 1


async def test_a_worker_that_is_only_late_is_left_alone(system: System) -> None:
    worker = await system.worker()
    job = await system.add()
    await system.claim(worker)
    await silent(system, worker, 14)
    report = await rescue(system).run_once()
    assert (report.dead, report.rescued) == (0, 0)
    assert await system.state(job) == "running"


async def test_an_observer_that_was_blind_itself_judges_nobody(system: System) -> None:
    """After an outage of the database all heartbeats are old: no mass verdict."""
    workers = [await system.worker(f"w{n}") for n in range(3)]
    for worker in workers:
        await silent(system, worker, 600)
    report = await rescue(system, seeing_for=timedelta(seconds=14)).run_once()
    assert report.dead == 0
    assert (await rescue(system, seeing_for=timedelta(seconds=15)).run_once()).dead == 3


async def test_a_job_past_its_deadline_is_taken_from_a_worker_that_lives(system: System) -> None:
    worker = await system.worker()
    job = await system.add()
    await system.claim(worker)
    await system.sql.execute("UPDATE perdure.leases SET deadline = now() - interval '1 second'")
    assert (await rescue(system).run_once()).overdue == 1
    assert await system.state(job) == "retryable"
    assert await system.count("job_executions", "outcome = 'timed_out' AND attempt = 1") == 1
