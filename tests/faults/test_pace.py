"""How a worker claims, settles and beats while it works."""

from datetime import timedelta

import asyncpg
import pytest

from tests.support import fault_jobs as jobs
from tests.support.fleet import Fleet, drained, promises_hold, query, until

ONE_DISPATCH = pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
HELD = "SELECT count(*) FROM perdure.leases"
DONE = "SELECT count(*) FROM perdure.job_executions WHERE outcome = 'completed'"
QUICK = {"heartbeat_interval_s": 0.25, "suspect_after_s": 1.0, "dead_after_s": 2.0, "leader_ttl_s": 1.0}


def url_of(fleet: Fleet) -> str:
    return fleet.app.settings.database_url.get_secret_value()


async def test_no_more_is_claimed_than_can_start_soon(fleet: Fleet) -> None:
    """Jobs of 300 ms on four places: four run, one more can start within 100 ms, four may just have ended."""
    url = url_of(fleet)
    await fleet.host(concurrency=4)
    await fleet.app.enqueue_many([fleet.app.prepare(jobs.nap, 300) for _ in range(60)])
    held = set()
    while await query(url, DONE) < 50:
        held.add(await query(url, HELD))
    assert 4 <= max(held) <= 9
    await drained(url, within_s=30)


async def test_results_are_settled_in_batches(fleet: Fleet) -> None:
    url = url_of(fleet)
    await fleet.app.enqueue_many([fleet.app.prepare(jobs.noop, n) for n in range(3_000)])
    await fleet.host()
    await drained(url, within_s=60)
    assert await query(url, DONE) == 3_000
    assert await query(url, "SELECT count(DISTINCT settle_xid) FROM perdure.job_executions") < 1_000
    assert await query(url, "SELECT count(DISTINCT claim_xid) FROM perdure.job_executions") < 1_000


@ONE_DISPATCH
async def test_finished_jobs_that_are_not_settled_are_bounded(fleet: Fleet) -> None:
    """While nothing can be settled no more is claimed than may wait, may run, and may have been claimed ahead."""
    url = url_of(fleet)
    bounds = {"unsettled_max": 20, "concurrency": 5, "prefetch_max": 10}
    admin = await asyncpg.connect(url)
    async with admin.transaction():
        await admin.execute("LOCK TABLE perdure.job_executions IN ACCESS EXCLUSIVE MODE")
        await fleet.app.enqueue_many([fleet.app.prepare(jobs.noop, n) for n in range(300)])
        await fleet.host(**bounds)
        await until(lambda: query(url, f"{HELD} HAVING count(*) >= 20"), within_s=20, what="results wait")
        seen = {await query(url, HELD) for _ in range(100)}
        assert max(seen) <= sum(bounds.values())
        assert await query(url, "SELECT count(*) FROM perdure.available_jobs") >= 300 - sum(bounds.values())
    await admin.close()
    await drained(url, within_s=60)


@ONE_DISPATCH
async def test_a_handler_that_keeps_the_interpreter_to_itself_does_not_stop_the_heart(fleet: Fleet) -> None:
    """For longer than a worker may be silent; another host looks on and would declare it dead."""
    url = url_of(fleet)
    busy = await fleet.host(concurrency=1, **QUICK)
    handle = await fleet.app.enqueue(jobs.keeps_the_interpreter, 4.0)
    held = f"{HELD} WHERE worker_id = $1 HAVING count(*) > 0"
    await until(lambda: query(url, held, busy.worker_id), within_s=20, what="the job runs")
    await fleet.host(queues=("elsewhere",), **QUICK)
    assert await handle.result("60s") >= 4.0
    assert await query(url, "SELECT count(*) FROM perdure.workers WHERE state <> 'active'") == 0
    assert await query(url, f"{DONE} AND attempt = 1 AND worker_id = $1", busy.worker_id) == 1
    await promises_hold(url, fleet.app.settings)


@ONE_DISPATCH
async def test_the_leader_makes_partitions_that_are_missing(fleet: Fleet) -> None:
    url = url_of(fleet)
    day = "to_char(now() AT TIME ZONE 'UTC' + interval '2 days', 'YYYYMMDD')"
    name = await query(url, f"SELECT 'perdure.job_events_' || {day}")
    await query(url, f"DROP TABLE {name}")
    await fleet.host()
    await until(
        lambda: query(url, "SELECT to_regclass($1)::text", name), within_s=20, what="the partition is there"
    )


@ONE_DISPATCH
async def test_what_rings_no_bell_starts_all_the_same(fleet: Fleet) -> None:
    """Plain SQL in any language can be a producer: polling finds its jobs."""
    url = url_of(fleet)
    await fleet.host(poll_interval_s=0.25)
    await (await fleet.app.enqueue(jobs.noop, 1)).result("20s")
    for n in range(20):
        job = f'[{{"kind": "{jobs.noop.name}", "args": {{"n": {n}}}}}]'
        await query(url, "SELECT job_id FROM perdure.enqueue_jobs($1::jsonb)", job)
    await drained(url, within_s=20)
    waited = await query(
        url,
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY claimed_at - available_at) FROM perdure.job_executions",
    )
    assert waited < timedelta(seconds=1)
