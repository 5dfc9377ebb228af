"""Processes and hosts die: nothing is lost, what was in flight runs again soon, and no innocent is blamed."""

import asyncio
from time import monotonic

import psutil
import pytest

from perdure.testing.faults import pause_heartbeat
from tests.support import fault_jobs as jobs
from tests.support.fleet import Fleet, drained, freeze, promises_hold, query, thaw, tree, until

JOBS = 2_000
IN_FLIGHT = "SELECT count(*) FROM perdure.leases WHERE worker_id = $1"
ENDED = "SELECT count(*) FROM perdure.job_executions"
LAST_CLAIM_OF_ORPHANS = """
    SELECT extract(epoch FROM max(again.claimed_at))::float
    FROM perdure.job_executions lost JOIN perdure.job_executions again USING (job_id)
    WHERE lost.worker_id = $1 AND lost.outcome = 'crashed' AND again.outcome = 'completed'
"""


async def test_a_host_that_dies_in_the_middle_loses_nothing(fleet: Fleet) -> None:
    """One host works at concurrency 20 and gets SIGKILL, another is idle: all is done, only what was in flight twice.

    With default settings the last orphan starts again within 20 seconds of the kill.
    """
    url = fleet.app.settings.database_url.get_secret_value()
    idle = await fleet.host(concurrency=20)
    await fleet.app.health.cordon(idle.worker_id, reason="it stands by")
    busy = await fleet.host(concurrency=20)
    await fleet.app.enqueue_many([fleet.app.prepare(jobs.nap, 20) for _ in range(JOBS)])
    await until(lambda: query(url, f"{ENDED} HAVING count(*) > 400"), within_s=30, what="400 jobs are done")
    killed = await query(url, "SELECT extract(epoch FROM clock_timestamp())::float")
    await fleet.kill(busy)
    held = await query(url, IN_FLIGHT, busy.worker_id)
    assert held > 0
    assert await query(url, f"{ENDED} WHERE worker_id = $1", idle.worker_id) == 0
    await fleet.app.health.uncordon(idle.worker_id)
    await drained(url, within_s=90)
    assert await query(url, LAST_CLAIM_OF_ORPHANS, busy.worker_id) - killed < 20
    assert await query(url, f"{ENDED} WHERE outcome = 'completed'") == JOBS
    assert await query(url, f"{ENDED} WHERE outcome = 'crashed'") == held
    await promises_hold(url, fleet.app.settings)


@pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
async def test_a_frozen_host_that_wakes_has_its_late_results_refused(fleet: Fleet) -> None:
    """SIGSTOP past its lease, then SIGCONT: the result of the one that took over stands, the late one is counted."""
    url = fleet.app.settings.database_url.get_secret_value()
    quick = {"heartbeat_interval_s": 0.5, "suspect_after_s": 1.0, "dead_after_s": 3.0, "leader_ttl_s": 1.0}
    sleeper = await fleet.host(concurrency=5, prefetch_max=1, **quick)
    handles = await fleet.app.enqueue_many([fleet.app.prepare(jobs.nap, 600) for _ in range(5)])
    await until(
        lambda: query(url, f"{IN_FLIGHT} HAVING count(*) = 5", sleeper.worker_id), within_s=10, what="claims"
    )
    freeze(sleeper)
    other = await fleet.host(concurrency=5, **quick)
    assert [await handle.result("30s") for handle in handles] == [600] * 5
    thaw(sleeper)
    refused = "SELECT count(*) FROM perdure.job_events WHERE event = 'result_refused' HAVING count(*) > 0"
    await until(lambda: query(url, refused), within_s=20, what="late results are refused")
    accepted = f"{ENDED} WHERE outcome = 'completed' AND worker_id = $1"
    assert await query(url, accepted, other.worker_id) == 5
    assert await query(url, accepted, sleeper.worker_id) == 0
    await promises_hold(url, fleet.app.settings)


@pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
async def test_processes_of_a_frozen_supervisor_claim_nothing_more_and_end(fleet: Fleet) -> None:
    """The supervisor alone is stopped: only what ran at the verdict is lost with it, and no innocent becomes a suspect.

    When it wakes up it starts anew under another id.
    """
    url = fleet.app.settings.database_url.get_secret_value()
    quick = {"heartbeat_interval_s": 0.5, "suspect_after_s": 1.0, "dead_after_s": 3.0, "leader_ttl_s": 1.0}
    sleeper = await fleet.host(concurrency=2, **quick)
    _, *children = tree(sleeper)
    await fleet.host(concurrency=2, prefetch_max=1, **quick)
    await fleet.app.enqueue_many([fleet.app.prepare(jobs.nap, 50) for _ in range(600)])
    await until(lambda: query(url, IN_FLIGHT, sleeper.worker_id), within_s=10, what="claims")
    with pause_heartbeat(sleeper):
        dead = "SELECT count(*) FROM perdure.workers WHERE id = $1 AND state = 'dead' HAVING count(*) > 0"
        await until(lambda: query(url, dead, sleeper.worker_id), within_s=20, what="the verdict")
        await until(lambda: all_gone(children), within_s=20, what="its processes end by themselves")
        late = (
            f"{ENDED} e JOIN perdure.workers w ON w.id = e.worker_id"
            " WHERE e.worker_id = $1 AND e.claimed_at > w.stopped_at + interval '0.5 s'"
        )
        assert await query(url, late, sleeper.worker_id) == 0
    await drained(url, within_s=60)
    anew = "SELECT count(*) FROM perdure.workers WHERE state = 'active' HAVING count(*) = 2"
    await until(lambda: query(url, anew), within_s=20, what="it starts anew")
    handle = await fleet.app.enqueue(jobs.nap, 1)
    assert await handle.result("20s") == 1
    assert await query(url, f"{ENDED} WHERE isolated") == 0
    assert await query(url, f"{ENDED} WHERE outcome = 'crashed'") <= 10
    await promises_hold(url, fleet.app.settings)


async def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


async def test_a_job_that_kills_its_process_ends_in_the_dead_letter_queue_alone(fleet: Fleet) -> None:
    """Among 200 innocent jobs at concurrency 20: it is discarded with the cause after its limit, they all complete."""
    url = fleet.app.settings.database_url.get_secret_value()
    await fleet.host(concurrency=20)
    innocents = [fleet.app.prepare(jobs.nap, 20) for _ in range(200)]
    await fleet.app.enqueue_many(innocents[:100])
    poison = await fleet.app.enqueue(jobs.poison)
    await fleet.app.enqueue_many(innocents[100:])
    await drained(url, within_s=60)
    letters = await query(url, "SELECT jsonb_agg(to_jsonb(d)) FROM perdure.dead_letter_queue d")
    assert str(poison.id) in letters
    assert "crashed its process 3 times while running alone" in letters
    assert "SIGKILL" in letters
    assert await query(url, "SELECT count(*) FROM perdure.dead_letter_queue") == 1
    assert await query(url, f"{ENDED} WHERE outcome = 'completed'") == 200
    await promises_hold(url, fleet.app.settings)


@pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
async def test_what_a_dying_process_had_claimed_ahead_is_neither_blamed_nor_suspected(fleet: Fleet) -> None:
    """One job at a time, many claimed ahead of it: the one that ran is the only one that is run alone."""
    url = fleet.app.settings.database_url.get_secret_value()
    await fleet.host(concurrency=1, prefetch_ms=5_000)
    quick = [fleet.app.prepare(jobs.nap, 5) for _ in range(200)]
    await fleet.app.enqueue_many([*quick[:10], fleet.app.prepare(jobs.poison), *quick[10:]])
    await drained(url, within_s=60)
    assert await query(url, f"{ENDED} WHERE outcome = 'crashed'") == 3
    assert await query(url, "SELECT count(DISTINCT job_id) FROM perdure.job_executions WHERE isolated") == 1
    assert await query(url, f"{ENDED} WHERE outcome = 'completed'") == 200
    await promises_hold(url, fleet.app.settings)


@pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
async def test_a_job_that_crashes_in_a_process_of_its_own_hurts_nobody(fleet: Fleet) -> None:
    url = fleet.app.settings.database_url.get_secret_value()
    host = await fleet.host(concurrency=20)
    children = {process.pid for process in tree(host)[1:2]}
    naps = [fleet.app.prepare(jobs.nap, 20) for _ in range(50)]
    await fleet.app.enqueue(jobs.cpu_poison)
    await fleet.app.enqueue_many(naps)
    await drained(url, within_s=30)
    assert "SIGSEGV" in await query(url, "SELECT cause FROM perdure.dead_letter_queue")
    assert await query(url, f"{ENDED} WHERE outcome = 'completed' AND attempt = 1") == 50
    assert children <= {process.pid for process in tree(host)}, "the worker's own process lives on"
    await promises_hold(url, fleet.app.settings)


@pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
async def test_processes_end_when_their_supervisor_dies(fleet: Fleet) -> None:
    host = await fleet.host()
    supervisor, *others = tree(host)
    assert others
    supervisor.kill()
    await host.process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, others, timeout=2)
    assert not alive


@pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
async def test_a_handler_that_keeps_the_interpreter_busy_is_caught_at_its_deadline(fleet: Fleet) -> None:
    url = fleet.app.settings.database_url.get_secret_value()
    await fleet.host(concurrency=2, deadline_grace_s=1.0)
    handle = await fleet.app.enqueue(jobs.hog)
    timed_out = f"{ENDED} WHERE outcome = 'timed_out' AND job_id = $1 HAVING count(*) > 0"
    await until(lambda: query(url, timed_out, handle.id), within_s=15, what="the deadline is enforced")
    await promises_hold(url, fleet.app.settings)


async def test_sigterm_gives_back_what_runs_and_burns_no_attempt(fleet: Fleet) -> None:
    url = fleet.app.settings.database_url.get_secret_value()
    host = await fleet.host(concurrency=5, drain_timeout_s=0.5)
    await fleet.app.enqueue_many([fleet.app.prepare(jobs.nap, 60_000) for _ in range(8)])
    await until(
        lambda: query(url, f"{IN_FLIGHT} HAVING count(*) >= 5", host.worker_id), within_s=10, what="claims"
    )
    began = monotonic()
    assert await host.stop() == 0
    assert monotonic() - began < 8
    back = "SELECT count(*) FROM perdure.available_jobs WHERE attempt = 0 AND crashes = 0 AND suspicion = 0"
    assert await query(url, back) == 8
    assert (
        await query(url, "SELECT state::text FROM perdure.workers WHERE id = $1", host.worker_id) == "stopped"
    )
    await promises_hold(url, fleet.app.settings)
