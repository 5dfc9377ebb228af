"""Enqueueing: options, many at once, blocking twins, event loops, forks, answers that were lost."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from perdure import (
    ClaimLost,
    Dependency,
    DuplicateJob,
    JobFailed,
    JobState,
    OnParentFailure,
    Perdure,
    PerdureError,
    ResultTimeout,
)
from perdure.domain.errors import (
    DatabaseUnavailable,
    DependencyCycle,
    InvalidArguments,
    InvalidOption,
    InvalidSettings,
    NotFound,
    PayloadTooLarge,
    UnknownParent,
)
from perdure.domain.ids import made_at
from perdure.domain.job import JobId
from perdure.domain.options import EnqueueOptions
from perdure.runtime.keywords import OptionKeywords, SettingKeywords
from perdure.runtime.new_ids import new_id
from perdure.runtime.settings import Settings
from perdure.testing import drain
from tests.support import jobs
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

OPTIONS: list[tuple[dict[str, Any], str, object]] = [
    ({"queue": "media"}, "l.queue", "media"),
    ({"priority": 5}, "j.priority", 5),
    ({"retries": 7}, "j.max_attempts", 8),
    ({"timeout": "90s"}, "j.timeout_ms", 90_000),
    ({"timeout": None}, "j.timeout_ms", None),
    ({"labels": ["gpu", "eu"]}, "l.labels", ["gpu", "eu"]),
    ({"concurrency_key": "k"}, "j.concurrency_key", "k"),
    ({"concurrency_key": lambda a, b: f"{a}-{b}"}, "j.concurrency_key", "1-1"),
    ({"concurrency_key": "k", "concurrency_limit": 3}, "j.concurrency_limit", 3),
    ({"unique_key": "u"}, "j.unique_key", "u"),
    ({"unique_key": "u", "unique_for": "1h"}, "j.unique_until - j.enqueued_at", timedelta(hours=1)),
    (
        {"unique_key": "u", "unique_states": ["pending", "scheduled", "available", "retryable"]},
        "j.unique_states",
        23,
    ),
    ({"crash_limit": 2}, "j.crash_limit", 2),
    ({"delay": "1h"}, "s.run_at - s.since", timedelta(hours=1)),
    ({"run_at": TOMORROW}, "s.run_at", TOMORROW),
    ({"metadata": {"tenant": "a"}}, "j.metadata", '{"tenant": "a"}'),
]


@pytest.mark.parametrize(
    ("options", "column", "stored"),
    OPTIONS,
    ids=[f"{next(iter(row[0]))}-{number}" for number, row in enumerate(OPTIONS)],
)
async def test_each_option_is_stored(
    app: Perdure, sql: Any, options: dict[str, Any], column: str, stored: object
) -> None:
    handle = await app.using(**options).enqueue(jobs.add, 1)
    found = await sql.fetchval(
        f"SELECT {column} FROM perdure.jobs j JOIN perdure.lanes l USING (lane) "
        "LEFT JOIN perdure.scheduled_jobs s ON s.job_id = j.id WHERE j.id = $1",
        handle.id,
    )
    assert found == stored
    assert handle.created


async def test_the_id_may_be_given(app: Perdure) -> None:
    given = new_id()
    assert (await app.using(id=given).enqueue(jobs.add, 1)).id == given


@pytest.mark.parametrize("key", [None, "one"])
async def test_a_call_whose_answer_was_lost_is_repeated_safely(
    private_postgres: PostgresServer, key: str | None
) -> None:
    """The connection is cut after the job has been stored and before the caller hears of it."""
    # A commit waits for a standby that does not exist: it is durable here already, and its answer never comes.
    waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    named = "SELECT true WHERE current_setting('synchronous_standby_names') = 'nobody'"
    async with Perdure(database_url=private_postgres.url) as app:
        enqueuer = app.using(id=new_id(), unique_key=key)
        with psycopg.connect(private_postgres.url, autocommit=True) as admin:
            await app.enqueue(jobs.add, 1)  # a connection to cut, and a lane
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            admin.execute("SELECT pg_reload_conf()")
            await eventually(lambda: asyncio.to_thread(lambda: admin.execute(named).fetchone()))
            admin.execute("CHECKPOINT")  # who makes it has taken the setting up before, for all
            call = asyncio.create_task(enqueuer.enqueue(jobs.add, 2))
            await eventually(lambda: asyncio.to_thread(lambda: admin.execute(waiting).fetchone()))
            with pytest.raises(DatabaseUnavailable):
                await call
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
            again = await enqueuer.enqueue(jobs.add, 2)
            stored = admin.execute("SELECT count(*) FROM perdure.jobs").fetchone()
        assert not again.created
        assert stored == (2,)


@pytest.mark.parametrize("key", [None, "one"])
async def test_a_call_repeated_with_its_id_stores_one_job(app: Perdure, sql: Any, key: str | None) -> None:
    """As after an answer that was lost: also when the job has ended meanwhile."""
    enqueuer = app.using(id=new_id(), unique_key=key)
    first = await enqueuer.enqueue(jobs.add, 1)
    again = await enqueuer.enqueue(jobs.add, 1)
    assert (first.created, again.created, first.id == again.id) == (True, False, True)
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 1
    await drain(app, jobs)
    assert not (await enqueuer.enqueue(jobs.add, 1)).created
    assert await first.result() == 2


async def test_a_duplicate_is_refused_or_answered_with_its_holder(app: Perdure) -> None:
    holder = await app.enqueue(jobs.unique_one, 1)
    with pytest.raises(DuplicateJob, match="only one") as refused:
        await app.enqueue(jobs.unique_one, 2)
    assert refused.value.holder == holder.id
    same = await app.using(on_duplicate="return").enqueue(jobs.unique_one, 2)
    assert (same.id, same.created) == (holder.id, False)


async def test_a_wrong_option_or_argument_is_named_before_anything_is_sent() -> None:
    app = Perdure(database_url="postgresql://nobody@localhost:1/none", max_payload_bytes=1024)
    wrong: list[tuple[type[PerdureError], str, Callable[[], Awaitable[Any]]]] = [
        (InvalidOption, "prio: there is no such option", lambda: app.using(prio=1).enqueue(jobs.add, 1)),  # type: ignore[call-arg]
        (InvalidOption, "priority: 6 is outside 1 to 5", lambda: app.using(priority=6).enqueue(jobs.add, 1)),
        (InvalidOption, "run_at", lambda: app.using(run_at=TOMORROW, delay=1).enqueue(jobs.add, 1)),
        (InvalidOption, "is not a job", lambda: app.enqueue(jobs.add.function, 1)),  # type: ignore[arg-type]
        (InvalidOption, "add was called and not enqueued", lambda: app.enqueue(jobs.add.function(1, 2))),
        (InvalidOption, "'app.add' is not a job", lambda: app.enqueue("app.add", 1)),  # type: ignore[arg-type]
        (InvalidArguments, "a: ", lambda: app.enqueue(jobs.add, "x")),  # type: ignore[arg-type]
        (InvalidArguments, "missing", lambda: app.enqueue(jobs.add)),  # type: ignore[call-arg]
        (PayloadTooLarge, "limit is 1024", lambda: app.enqueue(jobs.always_fails, "x" * 2000)),
    ]
    for kind, message, call in wrong:
        with pytest.raises(kind, match=message):
            await call()


async def test_many_are_stored_all_or_none(app: Perdure, sql: Any) -> None:
    handles = await app.enqueue_many([app.prepare(jobs.add, n) for n in range(500)])
    assert len({handle.id for handle in handles}) == 500
    with pytest.raises(UnknownParent):
        await app.enqueue_many(
            [app.prepare(jobs.add, 1), app.using(depends_on=new_id()).prepare(jobs.add, 1)]
        )
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 500
    assert await app.enqueue_many([]) == []


async def test_jobs_of_one_call_depend_on_each_other(app: Perdure) -> None:
    parents = [app.prepare(jobs.add, n) for n in range(3)]
    child = app.using(depends_on=parents, priority=4).prepare(jobs.add, 10)
    edge = Dependency(parent_id=JobId(child.id), on_failure=OnParentFailure.RUN)
    last = app.using(depends_on=[edge]).prepare(jobs.add, 20)
    *_, middle, end = await app.enqueue_many([last, child, *parents][::-1])
    assert [await middle.state(), await end.state()] == [JobState.PENDING, JobState.PENDING]
    assert await drain(app, jobs) == {"completed": 5}
    assert await end.result() == 21


async def test_circles_are_refused(app: Perdure, sql: Any) -> None:
    one, two = new_id(), new_id()
    circle = [
        app.using(id=one, depends_on=two).prepare(jobs.add, 1),
        app.using(id=two, depends_on=one).prepare(jobs.add, 2),
    ]
    with pytest.raises(DependencyCycle):
        await app.enqueue_many(circle)
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 0


async def test_concurrent_callers_share_commits_and_each_gets_its_own_answer(app: Perdure, sql: Any) -> None:
    stale = UUID(int=new_id().int - (3 * 86_400_000 << 80))
    calls = [app.enqueue(jobs.add, n) for n in range(300)]
    refused = app.using(id=stale).enqueue(jobs.add, -1)
    *handles, error = await asyncio.gather(*calls, refused, return_exceptions=True)
    assert isinstance(error, InvalidOption)
    assert len({handle.id for handle in handles if not isinstance(handle, BaseException)}) == 300
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 300
    assert await sql.fetchval("SELECT count(DISTINCT xid) FROM perdure.jobs") < 50


async def test_a_cancelled_caller_harms_no_other(app: Perdure, sql: Any) -> None:
    await app.stores()
    first = asyncio.create_task(app.enqueue(jobs.add, 1))
    await asyncio.sleep(0)
    doomed = [asyncio.create_task(app.enqueue(jobs.add, n)) for n in range(5)]
    kept = asyncio.create_task(app.enqueue(jobs.add, 100))
    await asyncio.sleep(0)
    for task in doomed:
        task.cancel()
    results = await asyncio.gather(*doomed, first, kept, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[:5])
    assert [await handle.state() for handle in (await first, await kept)] == [JobState.AVAILABLE] * 2
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") <= 7


async def test_closing_waits_for_what_is_under_way_and_the_object_can_be_used_again(
    database_url: str, sql: Any
) -> None:
    app = Perdure(database_url=database_url)
    await app.stores()
    singles = [asyncio.create_task(app.enqueue(jobs.add, n)) for n in range(50)]
    many = [asyncio.create_task(app.enqueue_many([app.prepare(jobs.add, 1)] * 1)) for _ in range(20)]
    await asyncio.sleep(0)
    await app.close()
    await asyncio.gather(*singles, *many)
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 70
    await app.enqueue(jobs.add, 1)
    await app.close()


def test_one_object_serves_one_event_loop_after_another(database_url: str) -> None:
    app = Perdure(database_url=database_url)

    async def enqueued() -> JobState:
        return await (await app.enqueue(jobs.add, 1)).state()

    assert [asyncio.run(enqueued()) for _ in range(3)] == [JobState.AVAILABLE] * 3


def test_blocking_twins_work_in_threads_beside_each_other(database_url: str) -> None:
    app = Perdure(database_url=database_url)
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(lambda n: app.enqueue_sync(jobs.add, n), range(100)))
    more = app.enqueue_many_sync([app.prepare(jobs.add, n) for n in range(3)])
    assert len({handle.id for handle in [*handles, *more]}) == 103
    assert app.run_sync(drain(app, jobs)) == {"completed": 103}
    assert [handle.result_sync("1s") for handle in more] == [1, 2, 3]
    assert handles[0].state_sync() is JobState.COMPLETED
    app.close_sync()
    assert app.enqueue_sync(jobs.add, 1).created
    app.close_sync()


async def test_a_blocking_call_on_an_event_loop_is_refused_with_the_way_out(app: Perdure) -> None:
    with pytest.raises(PerdureError, match="on an event loop") as refused:
        app.enqueue_sync(jobs.add, 1)
    assert refused.value.next_step == "await the method without _sync"


async def test_a_blocking_call_works_in_a_thread_beside_an_event_loop(app: Perdure) -> None:
    handle = await asyncio.to_thread(app.enqueue_sync, jobs.add, 1)
    assert await handle.state() is JobState.AVAILABLE
    await asyncio.to_thread(app.close_sync)


SCRIPT = """
import os, sys
from perdure import Perdure
from perdure.runtime.new_ids import new_id
from tests.support import jobs
app = Perdure()
app.enqueue_sync(jobs.add, 0)
new_id()
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        ids = [str(app.enqueue_sync(jobs.add, 1).id) for _ in range(5)] + [str(new_id()) for _ in range(50)]
        os.write(1, ("\\n".join(ids) + "\\n").encode())
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"""


def test_forked_processes_enqueue_with_ids_of_their_own(database_url: str) -> None:
    done = run_script(SCRIPT, {"PERDURE_DATABASE_URL": database_url})
    assert done.returncode == 0, done.stderr
    ids = done.stdout.split()
    assert len(ids) == len(set(ids)) == 220


def test_a_program_that_ends_without_closing_leaves_no_noise(database_url: str) -> None:
    lines = "from perdure import Perdure\nfrom tests.support import jobs\napp = Perdure()\n"
    blocking = f"{lines}print(app.enqueue_sync(jobs.add, 1).state_sync())\n"
    on_a_loop = f"{lines}import asyncio\nasync def main():\n    print(await (await app.enqueue(jobs.add, 1)).state())\nasyncio.run(main())\n"
    for script in (blocking, on_a_loop):
        done = run_script(script, {"PERDURE_DATABASE_URL": database_url})
        assert (done.stdout.strip(), done.stderr, done.returncode) == ("available", "", 0)


def test_without_a_database_the_error_says_what_to_set() -> None:
    script = (
        "from perdure import Perdure\nfrom tests.support import jobs\nPerdure().enqueue_sync(jobs.add, 1)\n"
    )
    done = run_script(script, {})
    assert done.returncode == 1
    assert "no database is set (PERDURE_DATABASE_URL is empty" in done.stderr
    assert f"no embedded server runs for {Path.cwd() / '.perdure'}" in done.stderr
    assert f"next: run `perdure dev app.py` in {Path.cwd()}" in done.stderr


def run_script(script: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", script],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_ids_carry_their_time_and_rise_across_threads() -> None:
    ids: list[UUID] = []
    threads = [threading.Thread(target=lambda: ids.extend(new_id() for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 2000
    assert abs(made_at(ids[0]) - datetime.now(UTC)) < timedelta(seconds=10)


async def test_a_result_is_waited_for_or_told_why_there_is_none(worked: Perdure) -> None:
    assert await (await worked.enqueue(jobs.add, 1)).result("20s") == 2
    with pytest.raises(JobFailed, match="Never: no") as failed:
        await (await worked.using(retries=0).enqueue(jobs.always_fails)).result("20s")
    assert failed.value.state == "discarded"
    waiting = await worked.enqueue(jobs.never_served)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ResultTimeout, match="it is available"):
        await waiting.result("100ms")
    assert asyncio.get_running_loop().time() - began < 2
    with pytest.raises(ResultTimeout):
        await waiting.result(0)
    await worked.jobs.cancel(waiting.id)
    with pytest.raises(JobFailed, match="ended cancelled"):
        await waiting.result("1s")
    unknown = worked.handle(jobs.add, new_id())
    with pytest.raises(NotFound, match="never committed"):
        await unknown.result("1s")
    with pytest.raises(NotFound):
        await unknown.state()


async def test_a_server_that_is_away_is_named_with_the_next_step() -> None:
    app = Perdure(database_url="postgresql://nobody@localhost:1/none")
    with pytest.raises(DatabaseUnavailable, match="does not answer") as away:
        await app.enqueue(jobs.add, 1)
    assert "PERDURE_DATABASE_URL" in away.value.next_step


def test_settings_are_checked_by_name_at_once() -> None:
    with pytest.raises(InvalidSettings, match="concurency: no such setting"):
        Perdure(concurency=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidSettings, match="concurrency: give it in `settings`"):
        Perdure(Settings(), concurrency=3)


def test_the_keywords_are_those_of_what_they_stand_for() -> None:
    assert set(OptionKeywords.__annotations__) == set(EnqueueOptions.__dataclass_fields__)
    assert set(SettingKeywords.__annotations__) == set(Settings.model_fields)


def test_errors_of_a_lost_claim_say_what_to_do() -> None:
    assert ClaimLost(uuid4()).__notes__ == ["next: " + ClaimLost(uuid4()).next_step]
