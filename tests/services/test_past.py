"""Looking back: each question answered as it would have been answered then."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from perdure.domain.criteria import Criteria
from perdure.domain.errors import InvalidOption, NotFound, PastUnknown
from perdure.domain.job import JobState
from perdure.domain.settlement import Completed, Interrupted, settle
from perdure.ports import By
from perdure.stores.postgres.cuts import Cut
from perdure.stores.postgres.past import PastInsights
from perdure.stores.postgres.search import Search
from perdure.stores.postgres.statements import statements
from tests.support.system import System, failure, system_on
from tests.support.writers import OPERATOR, Writers

STEPS = 70
MOST_ROUNDS = 10
MINUTE = timedelta(minutes=1)
PENDING = Criteria(states=frozenset({JobState.PENDING}))


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


# ---- the property: folding the history up to a cut gives what was true then

STANDINGS = """
SELECT j.id, s.state::text, s.run, s.attempt, s.crashes, s.interruptions, s.since, s.run_at, s.worker_id
FROM perdure.jobs j LEFT JOIN LATERAL {standing} s ON true WHERE {seen}
"""
THEN = STANDINGS.format(standing="perdure.standing(j.id)", seen="true")
NOW = STANDINGS.format(
    standing="perdure.standing_at(j.id, $1::text::pg_snapshot)",
    seen="perdure.seen(j.xid, $1::text::pg_snapshot)",
)
COUNTED_THEN = """
SELECT s.lane, s.state::text, count(*) FROM perdure.job_states s WHERE s.state <> 'completed' GROUP BY 1, 2 ORDER BY 1, 2
"""
COUNTED_NOW = """
SELECT s.lane, s.state::text, count(*)
FROM perdure.standings_at($1::text::pg_snapshot, 'ffffffff-ffff-ffff-ffff-ffffffffffff', $2) s GROUP BY 1, 2 ORDER BY 1, 2
"""
LETTERS_THEN = """
SELECT job_id, dead_at, lane, run, attempt, crashes, interruptions, outcome::text, fingerprint, cause, error::text
FROM perdure.dead_letter_queue ORDER BY 1
"""
LETTERS_NOW = """
SELECT job_id, dead_at, lane, run, attempt, crashes, interruptions, outcome::text, fingerprint, cause, error::text
FROM perdure.letters_at($1::text::pg_snapshot) ORDER BY 1
"""


@dataclass
class Truth:
    """What all tables said at one cut."""

    cut: str
    at: datetime
    standings: dict[UUID, tuple[Any, ...]]
    counted: list[Any]
    letters: list[Any]
    paused: dict[str, bool]
    workers: dict[UUID, str]


async def look(connection: Any) -> Truth:
    """Read everything on one snapshot, and which one it was."""
    async with connection.transaction(isolation="repeatable_read"):
        cut = await connection.fetchval("SELECT pg_current_snapshot()::text")
        return Truth(
            cut=cut,
            at=await connection.fetchval("SELECT clock_timestamp()"),
            standings={row["id"]: tuple(row)[1:] for row in await connection.fetch(THEN)},
            counted=[tuple(row) for row in await connection.fetch(COUNTED_THEN)],
            letters=[tuple(row) for row in await connection.fetch(LETTERS_THEN)],
            paused={
                row["name"]: row["paused_at"] is not None
                for row in await connection.fetch("SELECT name, paused_at FROM perdure.queues")
            },
            workers={
                row["id"]: row["state"]
                for row in await connection.fetch("SELECT id, state::text FROM perdure.workers")
            },
        )


@pytest.mark.parametrize("seed", range(4))
async def test_the_history_up_to_any_cut_tells_what_was_true_then(system: System, seed: int) -> None:
    """Cuts taken among concurrent writers are told again from the history, each to the last column."""
    writers = await Writers.of(system, seed)
    truths: list[Truth] = []
    over = asyncio.Event()

    async def recorder() -> None:
        async with system.sql.acquire() as connection:
            while not over.is_set():
                truths.append(await look(connection))
                await asyncio.sleep(0)

    recording = asyncio.create_task(recorder())
    for _ in range(MOST_ROUNDS):
        await writers.together(STEPS)
        seen = {row[0] for truth in truths for row in truth.standings.values()}
        if seen >= {state.value for state in JobState}:
            break
    else:
        pytest.fail("the history is too tame to prove anything")
    over.set()
    await recording
    for truth in writers.dice.sample(truths, min(30, len(truths))):
        told = {row["id"]: tuple(row)[1:] for row in await system.sql.fetch(NOW, truth.cut)}
        wrong = {
            job_id: (told.get(job_id), then)
            for job_id, then in truth.standings.items()
            if _comparable(told.get(job_id)) != _comparable(then)
        }
        assert not wrong
        assert told.keys() == truth.standings.keys()
        since = truth.at - timedelta(seconds=30)
        assert [tuple(row) for row in await system.sql.fetch(COUNTED_NOW, truth.cut, since)] == truth.counted
        assert [tuple(row) for row in await system.sql.fetch(LETTERS_NOW, truth.cut)] == truth.letters
        for states in RARE:
            page = await _insights(system, truth).jobs(
                Criteria(states=frozenset(states)), limit=1_000, before=None, budget=MINUTE
            )
            assert {job.id for job in page.jobs} == {
                job_id for job_id, then in truth.standings.items() if then[0] in states
            }, states
        for states in WAITING:
            listed = await _listed(_insights(system, truth), frozenset(states))
            assert listed == sorted(
                (job_id for job_id, then in truth.standings.items() if then[0] in states), reverse=True
            ), states
        assert await _paused(system, truth) == truth.paused
        assert await _workers(system, truth) == truth.workers


async def _listed(insights: PastInsights, states: frozenset[JobState], *, limit: int = 10) -> list[UUID]:
    """The ids of all pages, each so short that not all jobs are looked at for it."""
    found: list[UUID] = []
    before = None
    while True:
        page = await insights.jobs(Criteria(states=states), limit=limit, before=before, budget=MINUTE)
        found += [job.id for job in page.jobs]
        if (before := page.cursor) is None:
            return found


WAITING = (
    {JobState.PENDING},
    {JobState.SCHEDULED},
    {JobState.AVAILABLE},
    {JobState.SCHEDULED, JobState.RETRYABLE},
)
RARE = (
    {JobState.RUNNING},
    {JobState.RETRYABLE},
    {JobState.DISCARDED, JobState.CANCELLED},
    {JobState.RETRYABLE, JobState.DISCARDED},
    {JobState.AVAILABLE, JobState.RUNNING},
)


def _comparable(standing: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """A pending job's time to start is known only while it is pending."""
    if standing is None or standing[0] != JobState.PENDING:
        return standing
    return (*standing[:6], None, *standing[7:])


def _insights(system: System, truth: Truth) -> PastInsights:
    cut = Cut(
        at=truth.at, cut=truth.cut, newest=UUID(int=2**128 - 1), open_since=truth.at - timedelta(seconds=30)
    )
    return PastInsights(system.database, cut)


async def _paused(system: System, truth: Truth) -> dict[str, bool]:
    return {queue.name: queue.paused for queue in await _insights(system, truth).queues(None, budget=MINUTE)}


async def _workers(system: System, truth: Truth) -> dict[UUID, str]:
    views = await _insights(system, truth).workers(alive_only=False, budget=MINUTE)
    return {view.worker.id: view.worker.state.value for view in views}


# ---- the questions, as a face asks them


async def moment(system: System) -> datetime:
    """Remember the present, and give it; nothing else happens at the same time."""
    await system.past.mark()
    found: datetime = await system.sql.fetchval("SELECT max(at) FROM perdure.moments")
    return found


async def test_a_job_is_shown_as_it_was(system: System) -> None:
    await moment(system)
    parent, worker = await system.add("app.work"), await system.worker("w7")
    child = await system.add("app.work", after=[parent], delay=timedelta(milliseconds=1))
    waiting = await moment(system)
    (lease,) = await system.claim(worker)
    running = await moment(system)
    await system.control.cancel([parent], By(actor="kim", reason="wrong"))
    asked = await moment(system)
    await system.end(lease, failure("boom", give_up=True))
    dead = await moment(system)
    await system.control.drop([parent], OPERATOR)
    dropped = await moment(system)
    await system.control.retry([parent], OPERATOR)
    (lease,) = await system.claim(worker)
    await system.end(lease, Completed(result="42"))

    read = system.read
    assert [
        (await read.job(parent, as_of=at)).job.state for at in (waiting, running, asked, dead, dropped)
    ] == [
        "available",
        "running",
        "running",
        "discarded",
        "discarded",
    ]
    assert (await read.job(parent)).job.state == "completed"
    then = await read.job(parent, as_of=running)
    assert then.lease is not None
    assert (then.lease.worker, then.lease.cancel_requested_at, then.job.attempt) == ("w7", None, 1)
    assert (await read.job(parent, as_of=asked)).lease.cancel_reason == "cancelled by kim: wrong"  # type: ignore[union-attr]
    then = await read.job(parent, as_of=dead)
    assert (then.lease, then.result, then.dead_letter and then.dead_letter.cause) == (
        None,
        None,
        "attempt 1 of 4 failed",
    ) or then.dead_letter
    assert [attempt.outcome for attempt in then.attempts] == ["failed"]
    assert "dead_letter_discarded" not in [event.event for event in then.events]
    assert (await read.job(parent, as_of=dropped)).dead_letter is None
    assert [edge.edge for edge in (await read.job(child, as_of=dead)).parents] == ["waiting"]
    assert (await read.job(child, as_of=waiting)).job.state == "pending"
    assert [letter.job_id for letter in (await read.dead_letters(as_of=dead)).letters] == [parent]
    assert [group.count for group in await read.groups(as_of=dead)] == [1]
    assert not (await read.dead_letters(as_of=dropped)).letters
    assert (
        await system.insights.result_of(
            parent,
        )
    ) is not None
    past = await system.past.at(dead)
    assert (await past.result_of(parent)).state == "discarded"  # type: ignore[union-attr]


async def test_lists_and_counts_are_of_the_moment(system: System) -> None:
    """The filter language means the same, and its spans are counted back from the moment."""
    await moment(system)
    first = await system.add("app.work", args='{"n": 1}')
    then = await moment(system)
    await system.run()
    second = await system.add("app.other", args='{"n": 2}')
    later = await moment(system)

    async def listed(filter: str, at: datetime) -> list[UUID]:
        return [job.id for job in (await system.read.jobs(filter, as_of=at)).jobs]

    assert await listed("", then) == [first]
    assert await listed("", later) == [second, first]
    assert await listed("state:available", then) == [first]
    assert await listed("state:available", later) == [second]
    assert await listed("state:completed", later) == [first]
    assert await listed("args.n:1 kind:app.w*", then) == [first]
    assert await listed("since:1h", later) == [second, first]
    assert await listed("until:1h", later) == []
    assert await listed(f"id:{second}", then) == []
    page = await system.read.jobs(limit=1, as_of=later)
    assert [job.id for job in (await system.read.jobs(limit=1, cursor=page.cursor, as_of=later)).jobs] == [
        first
    ]
    counts = {view.state.value: view.count for view in await system.read.counts(as_of=later)}
    assert (counts["available"], counts["completed"], sum(counts.values())) == (1, 1, 2)
    status = await system.read.status(as_of=then)
    assert (status.at, status.leader, status.workers_active) == (then, None, 0)
    (queue,) = await system.read.queues(as_of=then)
    assert (queue.depths[JobState.AVAILABLE], queue.workers) == (1, 0)
    with pytest.raises(NotFound):
        await system.read.job(second, as_of=then)


async def test_pages_of_the_past_go_on_when_much_has_moved_since(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs are then looked for among all bodies, and the same ones are found."""
    await moment(system)
    retried = await system.add("app.other")
    await system.run(failure("no"), kind="app.other")
    dead = await system.dead("app.other")
    jobs = await system.add_many(30)
    await system.claim(limit=10)
    then = await moment(system)
    for lease in await system.claim(limit=30):
        await system.end(lease, Completed())
    for few, at_once in ((1, 2), (1, 250), (1_000, 250)):
        monkeypatch.setattr("perdure.stores.postgres.past.FEW", few)
        monkeypatch.setattr("perdure.stores.postgres.past.AT_ONCE", at_once)
        waiting = await system.read.jobs("state:available", as_of=then)
        assert [job.id for job in waiting.jobs] == sorted(jobs[10:], reverse=True)
        running = await system.read.jobs("state:running", as_of=then)
        assert [job.id for job in running.jobs] == sorted(jobs[:10], reverse=True)
        failed = await system.read.jobs("state:retryable,discarded", as_of=then)
        assert [job.id for job in failed.jobs] == [dead, retried]


async def test_a_job_that_is_found_twice_hides_no_other_from_a_page_of_the_past(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was given up, replayed and given up again has two attempts that ended badly, and is one job all the same."""
    monkeypatch.setattr("perdure.stores.postgres.past.AT_ONCE", 2)
    await moment(system)

    async def dead(priority: int) -> UUID:
        return await system.dead(priority=priority)

    last, _, again, first = await dead(5), await dead(1), await dead(5), await dead(5)
    await system.act.replay(again, actor="kim", reason="once more")
    await system.run(failure("once more", give_up=True))
    for _ in range(3):
        await dead(1)
    then = await moment(system)
    wanted, cursor = [], None
    while True:
        page = await system.read.jobs(
            "state:discarded,pending priority:5", limit=2, cursor=cursor, as_of=then
        )
        wanted += [job.id for job in page.jobs]
        if (cursor := page.cursor) is None:
            break
    assert wanted == [first, again, last]


async def test_a_transaction_that_commits_late_is_in_no_earlier_cut(system: System) -> None:
    """A job enqueued before the moment by a transaction that commits after it was not there; its time does not count."""
    await moment(system)
    async with system.sql.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        late = await connection.fetchval(
            'SELECT job_id FROM perdure.enqueue_jobs(\'[{"kind": "app.late"}]\')'
        )
        await asyncio.sleep(0.01)
        then = await moment(system)
        await transaction.commit()
    after = await moment(system)
    enqueued = (await system.read.job(late)).job.enqueued_at
    assert enqueued < then
    with pytest.raises(NotFound):
        await system.read.job(late, as_of=then)
    assert [job.id for job in (await system.read.jobs(as_of=after)).jobs] == [late]


async def test_a_moment_that_is_not_remembered_is_refused_with_the_earliest(system: System) -> None:
    now = datetime.now(UTC)
    with pytest.raises(PastUnknown, match="no moment has been remembered yet"):
        await system.read.jobs(as_of=now)
    earliest = await moment(system)
    with pytest.raises(PastUnknown, match="before the earliest") as refused:
        await system.read.status(as_of=earliest - timedelta(seconds=1))
    assert refused.value.earliest == earliest
    with pytest.raises(PastUnknown, match="has not come yet"):
        await system.read.queues(as_of=datetime.now(UTC) + timedelta(hours=1))
    await system.sql.execute("UPDATE perdure.moments SET at = at - interval '2 minutes'")
    with pytest.raises(PastUnknown, match="no worker led then"):
        await system.read.workers(as_of=earliest)
    with pytest.raises(InvalidOption, match="time zone"):
        await system.read.jobs(as_of=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidOption, match="why a job did not run"):
        await system.read.explain(uuid4(), as_of=earliest)


async def test_moments_grow_thin_and_end_with_the_retention(system: System) -> None:
    """All of the last day are kept, of earlier ones the first of each minute, and none past the retention."""
    await system.sql.execute(
        """
        INSERT INTO perdure.moments (at, cut, newest, open_since)
        SELECT date_trunc('minute', now()) - ago + second * interval '1 second', pg_current_snapshot(), gen_random_uuid(), now()
        FROM unnest(ARRAY[interval '1 hour', interval '2 days', interval '8 days']) AS ago, generate_series(0, 59) AS second
        """
    )
    assert await system.past.thin(keep=timedelta(days=7)) == 59 + 60
    left = await system.sql.fetch(
        "SELECT at < now() - interval '1 day' AS old, count(*) FROM perdure.moments GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in left] == [(False, 60), (True, 1)]


async def test_a_page_of_the_past_reads_by_index_alone(system: System) -> None:
    """Whatever is in the tables, a page looks at no more rows than it needs, and at none from end to end."""
    await moment(system)
    await system.add_many(3_000)
    while leases := await system.claim(limit=500):
        await system.jobs.settle([settle(lease, Completed()) for lease in leases[:499]])
    then = await moment(system)
    await system.add_many(500)
    await system.sql.execute("ANALYZE")
    page = await system.read.jobs(limit=50, as_of=then)
    assert len(page.jobs) == 50
    cut = await system.past.cut(then)
    insights = PastInsights(system.database, cut)
    search = Search(Criteria(), 50, None)
    bounds = (UUID(int=2**128 - 1), UUID(int=0), 51)
    async with system.sql.acquire() as connection, connection.transaction():
        await connection.execute(statements("insights")["by_index"].text)
        before = await _read_rows(connection)
        found = await connection.fetch(insights._sql["next_bodies"].numbered(), *bounds, cut.cut, cut.newest)
        wanted = search.wanted([row["id"] for row in found])
        rows = await connection.fetch(insights._sql["matching"].numbered(), *wanted, cut.cut)
        assert len(rows) == 51
        scanned, fetched = (
            now - then for now, then in zip(await _read_rows(connection), before, strict=True)
        )
    assert scanned <= 10
    assert fetched < 2_000


async def test_rare_states_of_the_past_are_found_by_the_indexes_made_for_them(system: System) -> None:
    """Whatever the planner believes: running jobs by block ranges of when attempts began and ended, failed ones by how they ended."""
    await moment(system)
    await system.add_many(200)
    await system.jobs.settle([settle(lease, Completed()) for lease in await system.claim(limit=200)])
    await system.sql.execute("ANALYZE")
    cut = await system.past.cut(await moment(system))
    sql = statements("past")
    whole = (cut.cut, cut.newest, cut.open_since)
    bounds = (UUID(int=2**128 - 1), UUID(int=0), 51)
    states = [JobState.RETRYABLE, JobState.DISCARDED]
    waits = [JobState.PENDING, JobState.SCHEDULED, JobState.RETRYABLE]
    asked = (
        ("by_block", "next_running", (*bounds, *whole, cut.at), {"settled_at_claimed_at_available_at_idx"}),
        ("by_block", "next_available", (*bounds, *whole, cut.at), {"settled_at_claimed_at_available_at_idx"}),
        (
            "by_index",
            "next_waiting",
            (waits, *bounds, *whole),
            {r"executions_\d+_job_id_idx2", r"events_\d+_job_id_idx1", "job_dependencies_pkey"},
        ),
        ("by_index", "next_failed", (states, *bounds, cut.newest, None), {"job_id_idx1", "job_id_idx2"}),
    )
    for setting, name, values, indexes in asked:
        async with system.sql.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            await connection.execute((sql if setting == "by_block" else statements("insights"))[setting].text)
            plan = await connection.fetch(f"EXPLAIN {sql[name].numbered()}", *values)
        told = "\n".join(row[0] for row in plan)
        scans = [line for line in told.splitlines() if "job_executions_2" in line and " on " in line]
        assert not [line for line in scans if "Seq Scan" in line], told
        assert all(re.search(index, told) for index in indexes), told


async def test_where_too_many_waits_are_over_those_that_waited_are_found_among_all_jobs(
    system: System,
) -> None:
    """And not never: looking through the waits may take half of the time, and the other half leads on."""
    parent = await system.add()
    waits = [await system.add(after=[parent]) for _ in range(3)]
    await system.add_many(10)
    insights = PastInsights(system.database, await system.past.cut(await moment(system)))
    slow = insights._sql["next_waiting"]
    for_ever = f"SELECT u.id FROM ({slow.text.rstrip().removesuffix(';')}) u WHERE (SELECT pg_sleep(60)::text) IS NOT NULL"
    insights._sql = {**insights._sql, "next_waiting": replace(slow, text=for_ever)}
    page = await insights.jobs(PENDING, limit=3, before=None, budget=timedelta(seconds=5))
    assert insights._too_many
    assert ([job.id for job in page.jobs], page.complete) == (sorted(waits, reverse=True), True)


async def test_a_job_that_ends_while_those_that_waited_are_looked_for_is_among_them(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of it between the look for candidates and the look at each of them."""
    await moment(system)
    child = await system.add("app.other", after=[await system.add()])
    await system.add_many(10, "app.third")
    insights = PastInsights(system.database, await system.past.cut(await moment(system)))
    await system.run()
    ask, asked = system.database.fetch_all, list[str]()

    async def ask_and_run(*calls: Any) -> list[Any]:
        found = await ask(*calls)
        asked.append(calls[-1][0].name)
        if asked[-1] == "next_waiting" and await system.state(child) == JobState.AVAILABLE:
            await system.run(kind="app.other")
        return found

    monkeypatch.setattr(system.database, "fetch_all", ask_and_run)
    page = await insights.jobs(PENDING, limit=3, before=None, budget=MINUTE)
    assert [job.id for job in page.jobs] == [child]
    assert "next_waiting" in asked
    assert await system.state(child) == JobState.COMPLETED


async def test_a_child_that_waited_for_parents_that_are_forgotten_is_found_as_pending(system: System) -> None:
    """Whether it waits still, or was cancelled since."""
    waits, ended = [await system.add(after=[await system.add()]) for _ in range(2)]
    await system.add_many(10)
    then = await moment(system)
    await system.act.cancel(ended, actor="ada")
    await system.sql.execute("DELETE FROM perdure.job_dependencies")
    page = await system.read.jobs("state:pending", limit=3, as_of=then)
    assert [job.id for job in page.jobs] == [ended, waits]


async def _read_rows(connection: Any) -> tuple[int, int]:
    row = await connection.fetchrow(
        "SELECT sum(seq_tup_read)::int, sum(idx_tup_fetch)::int FROM pg_stat_xact_user_tables"
        " WHERE relname ~ '^(jobs|job_executions)' "
    )
    return row[0], row[1]


async def test_a_cancellation_that_began_before_the_attempt_ended_comes_after_it(system: System) -> None:
    """Its transaction is the older one, yet it has seen what the other had committed: that order is the history's."""
    job_id = await system.add()
    (lease,) = await system.claim()
    cancel = statements("control")["cancel_waiting"].numbered()
    async with system.sql.acquire() as older:
        async with older.transaction():
            await older.execute("SELECT now()")
            await system.end(lease, Interrupted(cause="deploy"))
            cancelled = await older.fetch(cancel, [job_id], "tester", "")
            assert [row["state"] for row in cancelled] == ["available"]
        cut = await older.fetchval("SELECT pg_current_snapshot()::text")
        then = "SELECT state FROM perdure.standing_at($1, $2::text::pg_snapshot)"
        assert await older.fetchval(then, job_id, cut) == "cancelled"
