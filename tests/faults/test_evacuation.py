"""Real workers that are cordoned and evacuated, and one that cannot be reached."""

import pytest

from perdure import JobState
from tests.support import fault_jobs as jobs
from tests.support.fleet import Fleet, freeze, promises_hold, query, thaw, until

ONE_DISPATCH = pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
HELD = "SELECT count(*) FROM perdure.leases WHERE worker_id = $1"
BURNT = "SELECT max(attempt) FROM perdure.job_executions"


def url_of(fleet: Fleet) -> str:
    return fleet.app.settings.database_url.get_secret_value()


@ONE_DISPATCH
async def test_a_cordoned_worker_starts_nothing_until_it_is_uncordoned(fleet: Fleet) -> None:
    host = await fleet.host()
    await fleet.app.health.cordon(host.worker_id, reason="test")

    async def heard() -> bool:
        return "cordoned" in fleet.log()

    await until(heard, within_s=30, what="the worker hears of it")
    job = await fleet.app.enqueue(jobs.noop, 1)
    other = await fleet.host()
    await job.result("60s")
    ran_on = "SELECT worker_id FROM perdure.job_executions WHERE job_id = $1"
    assert await query(url_of(fleet), ran_on, job.id) == other.worker_id
    await fleet.kill(other)
    await fleet.app.health.uncordon(host.worker_id)
    await (await fleet.app.enqueue(jobs.noop, 2)).result("60s")


@ONE_DISPATCH
async def test_an_evacuated_worker_hands_its_jobs_over_and_ends(fleet: Fleet) -> None:
    """A job that would take too long is stopped after the grace, and runs again elsewhere with the same attempt."""
    host = await fleet.host()
    handles = [await fleet.app.enqueue(jobs.nap, 4_000) for _ in range(3)]

    async def all_run() -> bool:
        return await query(url_of(fleet), HELD, host.worker_id) == 3  # type: ignore[no-any-return]

    await until(all_run, within_s=30, what="the jobs run")
    plan = await fleet.app.health.evacuate(host.worker_id, grace="0.2s")
    assert (plan.jobs, plan.stranded) == (3, 3)
    await fleet.host()
    assert [await handle.result("60s") for handle in handles] == [4_000] * 3
    assert await host.process.wait() == 0
    assert await query(url_of(fleet), BURNT) == 1
    await promises_hold(url_of(fleet), fleet.app.settings)


@ONE_DISPATCH
async def test_a_worker_that_cannot_be_reached_is_evacuated_long_before_it_is_declared_dead(
    fleet: Fleet,
) -> None:
    """Its jobs run elsewhere with the same attempt, and what it says when it wakes is refused."""
    slow = {"suspect_after_s": 200, "dead_after_s": 600}
    await fleet.host(**slow, queues=("other",))
    host = await fleet.host(**slow)
    job = await fleet.app.enqueue(jobs.nap, 500)

    async def runs() -> bool:
        return await job.state() is JobState.RUNNING

    await until(runs, within_s=30, what="the job runs")
    freeze(host)
    await fleet.app.health.evacuate(host.worker_id, grace="0s")
    await fleet.host(**slow)
    assert await job.result("90s") == 500
    thaw(host)
    assert await host.process.wait() == 0
    assert await query(url_of(fleet), BURNT) == 1
    await promises_hold(url_of(fleet), fleet.app.settings)
