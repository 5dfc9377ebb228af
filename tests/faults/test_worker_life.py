"""What a worker does over its life: replaced processes, leaders, requests, pauses, connections, secrets."""

import asyncio
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict

from perdure import JobFailed, JobState, Perdure
from perdure.domain.kind import Kind
from perdure.runtime.handles import Handle
from perdure.runtime.operations import SpawnedWorker
from perdure.runtime.saving import policy_of
from perdure.stores.postgres.archive import PostgresPolicy
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.diagnosis import PostgresDiagnosis
from perdure.surfaces.cli.status import judge
from tests.support import fault_jobs as jobs
from tests.support.deaf_link import deaf_link
from tests.support.fleet import Fleet, drained, promises_hold, query, tree, until
from tests.support.servers import PostgresServer

ONE_DISPATCH = pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
PROCESSES = "SELECT count(DISTINCT process) FROM perdure.job_executions WHERE outcome = 'completed'"
OTHER_ENDS = "SELECT count(*) FROM perdure.job_executions WHERE outcome NOT IN ('completed', 'released')"
LEADER = "SELECT holder FROM perdure.leaders WHERE expires_at > now()"
CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'perdure%' AND application_name NOT LIKE 'perdure producer%'
"""
SECRET = "Zz9secret"


def url_of(fleet: Fleet) -> str:
    return fleet.app.settings.database_url.get_secret_value()


async def running(handle: Handle[Any]) -> None:
    async def runs() -> bool:
        return await handle.state() is JobState.RUNNING

    await until(runs, within_s=20, what="the job runs")


@ONE_DISPATCH
async def test_a_process_is_replaced_after_so_many_jobs_and_interrupts_none(fleet: Fleet) -> None:
    """Not even one that takes longer than a worker that stops would wait for it."""
    await fleet.host(concurrency=10, recycle_after_jobs=40, drain_timeout_s=0.1)
    slow = await fleet.app.enqueue(jobs.nap, 4_000)
    await running(slow)

    async def three_have_worked() -> bool:
        handles = await fleet.app.enqueue_many([fleet.app.prepare(jobs.nap, 1) for _ in range(50)])
        await handles[0].result("30s")
        return await query(url_of(fleet), f"{PROCESSES} HAVING count(DISTINCT process) >= 3") is not None

    await until(three_have_worked, within_s=60, what="two processes are replaced")
    assert await slow.result("10s") == 4_000
    await drained(url_of(fleet), within_s=30)
    assert await query(url_of(fleet), OTHER_ENDS) == 0
    assert "it has run" in fleet.log()
    await promises_hold(url_of(fleet), fleet.app.settings)


@ONE_DISPATCH
async def test_a_process_that_has_grown_too_large_is_replaced(fleet: Fleet) -> None:
    await fleet.host(recycle_after_mb=400)
    await (await fleet.app.enqueue(jobs.grow, 400)).result("30s")

    async def another_works() -> bool:
        await (await fleet.app.enqueue(jobs.noop, 1)).result("30s")
        return await query(url_of(fleet), PROCESSES) == 2  # type: ignore[no-any-return]

    await until(another_works, within_s=30, what="the process is replaced")
    assert "it has grown to" in fleet.log()
    assert await query(url_of(fleet), OTHER_ENDS) == 0


@ONE_DISPATCH
async def test_the_duties_pass_on_when_their_leader_dies_and_when_it_ends(fleet: Fleet) -> None:
    url = url_of(fleet)
    first = await fleet.host(leader_ttl_s=1.0)
    await leads(url, first, within_s=10)
    second = await fleet.host(leader_ttl_s=1.0)
    await fleet.kill(first)
    await leads(url, second, within_s=10)
    third = await fleet.host(leader_ttl_s=30.0)
    await second.stop()
    await leads(url, third, within_s=20)
    assert await query(url, "SELECT term FROM perdure.leaders") == 3
    delayed = await fleet.app.using(delay="10ms").enqueue(jobs.noop, 1)
    await delayed.result("20s")


async def leads(url: str, host: SpawnedWorker, *, within_s: float) -> None:
    async def is_leader() -> bool:
        return await query(url, LEADER) == host.worker_id  # type: ignore[no-any-return]

    await until(is_leader, within_s=within_s, what="it leads the duties")


@ONE_DISPATCH
async def test_a_request_to_cancel_reaches_a_running_handler_without_waiting_for_a_heartbeat(
    fleet: Fleet,
) -> None:
    await fleet.host(heartbeat_interval_s=25, suspect_after_s=60, dead_after_s=80)
    handle = await fleet.app.enqueue(jobs.nap, 60_000)
    await running(handle)
    asked = monotonic()
    await fleet.app.jobs.cancel(handle.id)
    with pytest.raises(JobFailed, match="cancelled"):
        await handle.result("20s")
    assert monotonic() - asked < 5


@ONE_DISPATCH
async def test_a_request_to_cancel_outlives_the_process_that_was_asked(fleet: Fleet, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    host = await fleet.host(concurrency=2)
    handle = await fleet.app.enqueue(jobs.stubborn, str(marker))
    await running(handle)
    await fleet.app.jobs.cancel(handle.id)

    async def was_asked() -> bool:
        return marker.exists() and marker.read_text() == "asked"

    await until(was_asked, within_s=10, what="the handler was asked")
    tree(host)[1].kill()
    with pytest.raises(JobFailed, match="cancelled"):
        await handle.result("30s")
    left = "SELECT count(*) FROM perdure.cancel_requests HAVING count(*) = 0"
    await until(lambda: swept(url_of(fleet), left), within_s=10, what="the request is forgotten")
    await promises_hold(url_of(fleet), fleet.app.settings)


async def swept(url: str, left: str) -> bool:
    return await query(url, left) == 0  # type: ignore[no-any-return]


@ONE_DISPATCH
async def test_a_job_that_is_interrupted_too_often_is_dead_lettered_with_the_cause(fleet: Fleet) -> None:
    handle = await fleet.app.enqueue(jobs.nap, 60_000)
    for _ in range(2):
        host = await fleet.host(interruption_limit=2, drain_timeout_s=0.0)
        await running(handle)
        await host.stop()
    letter = await query(url_of(fleet), "SELECT to_jsonb(d)::text FROM perdure.dead_letter_queue d")
    assert "interrupted 2 times, the limit; last: the worker was drained" in letter
    assert '"interruptions": 2' in letter
    await promises_hold(url_of(fleet), fleet.app.settings)


async def test_a_running_worker_leaves_a_paused_queue_alone_until_it_is_resumed(fleet: Fleet) -> None:
    app = fleet.app
    act = (await app.stores()).act
    await fleet.host(queues=("default", "other"))
    await (await app.using(queue="other").enqueue(jobs.noop, 1)).result("20s")
    await act.pause("other", actor="tests")
    paused_at, waiting = monotonic(), None
    while waiting is None or monotonic() - paused_at < 4:  # the lanes of a claim may be a second old
        await (await app.enqueue(jobs.noop, 2)).result("20s")
        if waiting is None and monotonic() - paused_at > 1.5:
            waiting = await app.using(queue="other").enqueue(jobs.noop, 3)
    assert await waiting.state() is JobState.AVAILABLE
    await act.resume("other", actor="tests")
    await waiting.result("20s")


@ONE_DISPATCH
async def test_a_worker_with_all_its_processes_stays_within_its_connections(fleet: Fleet) -> None:
    """With three processes that claim, settle and report, one beside them that runs suspects alone, and all that a leader does."""
    url = url_of(fleet)
    policy, saved = policy_of(timedelta(hours=1), 1), fleet.folder / "snapshots"
    await PostgresPolicy((await fleet.app.stores()).database).set(policy, actor="tests")
    await fleet.host(processes=3, concurrency=4, snapshots=str(saved))
    await fleet.app.enqueue_many([fleet.app.prepare(jobs.tells, 30) for _ in range(400)])
    await fleet.app.enqueue(jobs.poison)
    seen: set[int] = set()
    isolated = "SELECT count(*) FROM perdure.leases WHERE isolated"
    alone = False
    while await query(url, "SELECT count(*) FROM perdure.dead_letter_queue") == 0 or not saved.exists():
        seen.add(await query(url, CONNECTIONS))
        alone = alone or await query(url, isolated) > 0
    await drained(url, within_s=60)
    seen.add(await query(url, CONNECTIONS))
    assert alone
    assert 10 < max(seen) <= fleet.app.settings.max_connections == 20


@ONE_DISPATCH
async def test_a_worker_that_hears_no_notifications_finds_work_and_says_so(fleet: Fleet) -> None:
    url = url_of(fleet)
    async with deaf_link(url) as link:
        host = await fleet.host(database_url=link)
        stores = await fleet.app.stores()

        async def says_so() -> bool:
            await (await fleet.app.enqueue(jobs.noop, 1)).result("20s")
            return (await stores.read.status()).workers_deaf == 1

        await until(says_so, within_s=60, what="the status tells of a deaf worker")
        state, reasons = judge(await stores.read.status())
        assert state == "degraded"
        assert any("hear no notifications" in reason for reason in reasons)
        assert (await stores.read.worker(host.worker_id)).deaf == 1
        database = DedicatedDatabase(url, application_name="tests")
        facts = await PostgresDiagnosis(database).schema(silent_for=timedelta(seconds=6))
        await database.close()
        assert facts.workers_deaf == 1
        assert fleet.log().count("hears no notifications; finds work by polling alone") == 1
        await fleet.stop()


@ONE_DISPATCH
@pytest.mark.parametrize("kind", [jobs.long_async, jobs.long_thread, jobs.long_process])
async def test_a_result_over_the_limit_that_is_set_is_dead_lettered(
    fleet: Fleet, kind: Kind[[int], str]
) -> None:
    await fleet.host(max_payload_bytes=2048)
    small = await fleet.app.enqueue(kind, 1000)
    assert await small.result("20s") == "x" * 1000
    with pytest.raises(JobFailed, match="limit is 2048"):
        await (await fleet.app.enqueue(kind, 4000)).result("20s")


async def test_no_secret_is_in_the_log_or_the_arguments_of_a_worker(
    private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Not while the servers are there, not while they are away, and not when they are back."""
    server = conninfo_to_dict(private_postgres.url)
    url = f"postgresql://{server['user']}:{SECRET}@/{server['dbname']}?host={quote(str(server['host']))}&port={server['port']}"
    async with Perdure(database_url=private_postgres.url) as app:
        fleet = Fleet(app=app, folder=tmp_path)
        redis = f"redis://:{SECRET}@127.0.0.1:1/0"
        host = await fleet.host(database_url=url, redis_url=redis, log_level="debug")
        await (await app.enqueue(jobs.noop, 1)).result("20s")
        assert SECRET not in " ".join(" ".join(process.cmdline()) for process in tree(host))
        await asyncio.to_thread(private_postgres.stop, immediate=True)

        async def waits() -> bool:
            return "waiting for the database" in fleet.log()

        await until(waits, within_s=20, what="the worker notices")
        await asyncio.to_thread(private_postgres.start)
        await (await app.enqueue(jobs.noop, 2)).result("60s")
        await host.stop()
        assert psutil.pid_exists(host.process.pid) is False
        assert "Redis is away" in fleet.log()
        assert SECRET not in fleet.log()


HANGS_TWICE = """
import pathlib, time

tries = pathlib.Path(__file__).with_suffix(".tries")
with tries.open("a") as file:
    file.write("x")
if len(tries.read_text()) <= 2:
    time.sleep(600)
from tests.support.fault_jobs import nap
"""


@pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)
async def test_a_process_that_hangs_while_it_imports_the_application_is_replaced_and_named(
    fleet: Fleet, tmp_path: Path
) -> None:
    app = tmp_path / "hangs.py"
    app.write_text(HANGS_TWICE)
    fleet.application = str(app)
    await fleet.host(start_timeout_s=3.0)
    assert fleet.log().count("the application hangs while it is imported") == 2
    assert len((tmp_path / "hangs.tries").read_text()) == 3
