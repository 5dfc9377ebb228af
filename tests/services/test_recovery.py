"""Recovery to the exact commit: what comes back at a time is what had been committed then, and what is lost is told."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from perdure.domain.errors import NotEmpty, PastUnknown
from perdure.domain.job import Dependency, JobState, OnParentFailure, UniqueRule
from perdure.domain.settlement import Completed
from perdure.ports import By
from perdure.services.snapshot import Snapshots
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.archive import PostgresArchive
from tests.support.store import Store
from tests.support.system import System, failure, system_on
from tests.support.writers import Writers

STANDINGS = """
SELECT j.id, s.state::text, s.run, s.attempt, s.crashes, s.interruptions, s.since, s.run_at
FROM perdure.jobs j LEFT JOIN LATERAL {standing} s ON true WHERE {seen}
"""
THEN = STANDINGS.format(standing="perdure.standing(j.id)", seen="true")
NOW = STANDINGS.format(
    standing="perdure.standing_at(j.id, $1::text::pg_snapshot)",
    seen="perdure.seen(j.xid, $1::text::pg_snapshot)",
)
TABLES = {
    "dead letters": "SELECT job_id, dead_at, run, attempt, cause, error::text FROM perdure.dead_letter_queue ORDER BY 1",
    "queues": "SELECT name, paused_at, paused_by FROM perdure.queues ORDER BY 1",
    "executions": "SELECT job_id, token, run, attempt, outcome::text, state::text FROM perdure.job_executions"
    " WHERE cause IS DISTINCT FROM $1 ORDER BY 1, 3, settled_at, 2",
    "events": "SELECT job_id, at, event, actor FROM perdure.job_events WHERE event NOT IN ('restored', 'epoch_opened') ORDER BY 2, 1, 3",
    "waiting for parents": """
        SELECT b.job_id, b.waiting, (SELECT array_agg(d.parent_id ORDER BY d.parent_id) FROM perdure.job_dependencies d
            WHERE d.child_id = b.job_id AND d.state = 'waiting')
        FROM perdure.blocked_jobs b ORDER BY 1""",
    "keys": "SELECT key, job_id, states, expires_at FROM perdure.unique_keys ORDER BY 1",
    "available": "SELECT job_id, lane, band, run, gated FROM perdure.available_jobs WHERE suspicion = 0 ORDER BY 1",
}
HOUR = timedelta(hours=1)
FROM_NOW_ON = (
    "INSERT INTO perdure.moments (at, cut, newest, open_since) VALUES ($1, $2::text::pg_snapshot, $3, $4)"
)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def snapshots(database_url: str, folder: Path) -> Snapshots:
    return Snapshots(PostgresArchive(database_url), ObjectVault(str(folder)))


class Truth:
    """What all tables said at one cut, which is remembered as a moment."""

    at: datetime
    standings: dict[UUID, tuple[Any, ...]]
    tables: dict[str, list[tuple[Any, ...]]]

    @classmethod
    async def of(cls, connection: Any) -> "Truth":
        truth = cls()
        async with connection.transaction(isolation="repeatable_read"):
            cut = await connection.fetchval("SELECT pg_current_snapshot()::text")
            truth.standings = standings(await connection.fetch(THEN))
            truth.tables = {name: await rows_of(connection, name) for name in TABLES}
            truth.at = await connection.fetchval("SELECT clock_timestamp()")
        since = truth.at - timedelta(seconds=30)
        await connection.execute(FROM_NOW_ON, truth.at, cut, UUID(int=2**128 - 1), since)
        return truth


def standings(rows: list[asyncpg.Record]) -> dict[UUID, tuple[Any, ...]]:
    return {row["id"]: comparable(tuple(row)[1:]) for row in rows}


def comparable(standing: tuple[Any, ...]) -> tuple[Any, ...]:
    """A pending job's time to start is known only while it is pending."""
    return standing if standing[0] != JobState.PENDING else (*standing[:6], None)


async def rows_of(connection: Any, name: str, cause: str = "none says this") -> list[tuple[Any, ...]]:
    values = [cause] if "$1" in TABLES[name] else []
    return [tuple(row) for row in await connection.fetch(TABLES[name], *values)]


async def moment(system: System) -> datetime:
    await system.past.mark()
    found: datetime = await system.sql.fetchval("SELECT max(at) FROM perdure.moments")
    return found


async def judged(url: str) -> None:
    def judge() -> None:
        with Store(url) as store:
            report = store.run(store.check.run())  # the writers settle with the default limits
            assert report.ok, report.words()

    await asyncio.to_thread(judge)


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_recovered_at_a_cut_is_what_was_true_then(
    system: System, snapshots: Snapshots, empty_database_url: str, seed: int
) -> None:
    """Among concurrent writers, who go on after it: every job, dead letter, queue, attempt, event, edge and key; and all promises hold."""
    writers = await Writers.of(system, seed)
    await writers.together(20)
    await system.past.mark()
    await snapshots.create()
    if seed:
        await writers.together(10)
        await snapshots.create(base=(await snapshots.list())[0].id)
    truths: list[Truth] = []
    over = asyncio.Event()

    async def recorder() -> None:
        async with system.sql.acquire() as connection:
            while not over.is_set():
                truths.append(await Truth.of(connection))
                await asyncio.sleep(0)

    recording = asyncio.create_task(recorder())
    await writers.together(30)
    over.set()
    await recording
    await writers.together(10)
    truth = writers.dice.choice(truths[len(truths) // 4 :])

    done = await snapshots.recover(truth.at, PostgresArchive(empty_database_url), fork=False, actor="test")

    assert (done.at, done.gap_s, done.why) == (truth.at, 0.0, "")
    async with system_on(empty_database_url) as restored:
        (manifest, *_) = [each for each in await snapshots.list() if each.recorded]
        told = standings(await restored.sql.fetch(NOW, manifest.saved_cut))
        assert told == truth.standings
        present = standings(await restored.sql.fetch(THEN))
        ran = {job for job, standing in truth.standings.items() if standing[0] == JobState.RUNNING}
        assert {job: now for job, now in present.items() if job not in ran} == {
            job: then for job, then in truth.standings.items() if job not in ran
        }
        assert {present[job][:3] for job in ran} <= {
            (JobState.AVAILABLE.value, run, attempt - 1)
            for _, run, attempt, *_ in map(truth.standings.__getitem__, ran)
        }
        cause = f"restored from snapshot {manifest.id}"
        for name in TABLES.keys() - {"available"}:
            assert await rows_of(restored.sql, name, cause) == truth.tables[name], name
        available = {row[0]: row for row in await rows_of(restored.sql, "available")}
        assert [available[row[0]] for row in truth.tables["available"]] == truth.tables["available"]
        await restored.jobs.resolve(limit=1_000)
    await judged(empty_database_url)


async def test_an_edge_that_was_satisfied_as_its_child_came_stays_so_though_the_parent_was_replayed_since(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """Its parent had ended before the child was there, and runs again: nothing but the edge itself tells that it was let go."""
    await system.past.mark()
    await snapshots.create()
    ended, other = await system.dead(), await system.add()
    parents = [Dependency(parent_id=ended, on_failure=OnParentFailure.RUN), Dependency(parent_id=other)]
    child = await system.add(depends_on=tuple(parents))
    await system.control.replay({ended: timedelta(0)}, By(actor="test", reason="mended"))
    then = await moment(system)
    truth = await rows_of(system.sql, "waiting for parents")
    assert truth == [(child, 1, [other])]
    edges = {edge.job_id: edge.edge for edge in (await system.read.job(child, as_of=then)).parents}
    assert edges == {ended: "satisfied", other: "waiting"}
    await snapshots.recover(then, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        assert await rows_of(restored.sql, "waiting for parents") == truth


async def test_a_child_that_nothing_holds_any_more_goes_on_where_it_is_brought_back(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """As when all that is left of its edges is what their parents had become."""
    await system.past.mark()
    parent = await system.add()
    at_once, later = await system.add(after=[parent]), await system.add(after=[parent], delay=HOUR)
    await system.sql.execute("UPDATE perdure.blocked_jobs SET waiting = 0")
    await system.sql.execute("UPDATE perdure.job_dependencies SET state = 'satisfied'")
    await snapshots.create()
    then = await moment(system)
    await snapshots.recover(then, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        assert [await restored.state(each) for each in (at_once, later)] == ["available", "scheduled"]


async def test_a_child_whose_edge_is_told_to_have_doomed_it_ends_by_a_look_at_its_parent(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """As when its parent ended unseen while it was written, and nothing but that end tells of the edge: it must not start."""
    await system.past.mark()
    parent = await system.dead()
    child = await system.add(after=[parent])
    await system.sql.execute("UPDATE perdure.blocked_jobs SET waiting = 0, verified = true")
    await system.sql.execute("UPDATE perdure.job_dependencies SET state = 'cancelled', on_failure = 'cancel'")
    await snapshots.create()
    then = await moment(system)
    await snapshots.recover(then, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        assert await restored.state(child) == "pending"
        await restored.jobs.resolve(limit=10)
        assert await restored.state(child) == "cancelled"
    await judged(empty_database_url)


async def test_an_edge_that_ended_its_child_is_told_so_though_the_child_runs_again_since(
    system: System,
) -> None:
    await system.past.mark()
    parent, other = await system.add(), await system.add()
    edges = [Dependency(parent_id=parent, on_failure=OnParentFailure.CANCEL), Dependency(parent_id=other)]
    child = await system.add(depends_on=tuple(edges))
    await system.end(await system.lease_of(parent), failure(give_up=True))
    assert await system.state(child) == "cancelled"
    then = await moment(system)
    await system.control.replay({child: timedelta(0)}, By(actor="test", reason="all the same"))
    told = {edge.job_id: edge.edge for edge in (await system.read.job(child, as_of=then)).parents}
    assert told == {parent: "cancelled", other: "waiting"}


async def test_a_cut_in_the_middle_of_a_restore_is_not_told_by_rows_that_it_may_open_again(
    system: System,
) -> None:
    """Until the end of a restore is seen, its steps may still have come after."""
    restore = """INSERT INTO perdure.restores (cut_at, open_since, cut, newest, source, actor, reason, scope, policy, before)
        VALUES (now(), now(), pg_current_snapshot(), gen_random_uuid(), 'here', 'test', '', '{}', '{}', pg_current_snapshot())"""
    asked = "SELECT perdure.restored_since($1::text::pg_snapshot)"
    await system.sql.execute(restore)
    middle = await system.sql.fetchval("SELECT pg_current_snapshot()::text")
    await system.sql.execute("UPDATE perdure.restores SET end_xid = pg_current_xact_id()")
    after = await system.sql.fetchval("SELECT pg_current_snapshot()::text")
    assert [await system.sql.fetchval(asked, cut) for cut in (middle, after)] == [True, False]


async def test_a_unique_key_is_held_by_whoever_held_it_then(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """Of a job that ended, and of one that came back to find it taken, as long as the key's period lasts."""
    waiting = frozenset({JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE, JobState.RETRYABLE})
    rule = UniqueRule(key="k", states=waiting)
    whole = waiting | {JobState.RUNNING, JobState.COMPLETED}
    ended = UniqueRule(key="ended", states=whole, period=timedelta(hours=1))
    let_go = UniqueRule(key="let go", states=waiting | {JobState.COMPLETED})
    await system.past.mark()
    await snapshots.create()
    done = await system.add(unique=ended)
    await system.run()
    await system.add(unique=let_go)
    await system.run()
    back = await system.add(unique=rule)
    (lease,) = await system.claim()
    holder = await system.add(unique=rule)
    await system.end(lease, failure())
    then = await moment(system)
    truth = await rows_of(system.sql, "keys")
    assert [row[:2] for row in truth] == [("ended", done), ("k", holder)]
    assert await system.state(back) == "discarded", "it found its key taken"
    await system.run()
    assert [row[:2] for row in await rows_of(system.sql, "keys")] == [("ended", done)]
    await snapshots.recover(then, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        assert await rows_of(restored.sql, "keys") == truth


async def test_after_the_loss_of_the_database_the_snapshot_comes_back_and_the_gap_is_told(
    system: System, snapshots: Snapshots, empty_database_url: str, folder: Path
) -> None:
    """The vault is all that is left: what was committed after the last increment is named as lost."""
    await system.add()
    await system.past.mark()
    await snapshots.create()
    await system.add()
    increment = await snapshots.create(base=(await snapshots.list())[0].id)
    await system.add()
    then = await moment(system)
    lost = PostgresArchive(empty_database_url)
    done = await Snapshots(lost, ObjectVault(str(folder))).recover(then, lost, fork=False, actor="test")
    assert (done.snapshot, done.at, done.rows["jobs"]) == (increment.id, increment.at, 2)
    assert done.gap_s == (then - increment.at).total_seconds() > 0
    assert "no Perdure tables" in done.why
    with pytest.raises(NotEmpty):
        await snapshots.recover(then, lost, fork=False, actor="test")
    away = Snapshots(PostgresArchive("postgresql://nobody@127.0.0.1:1/nothing"), ObjectVault(str(folder)))
    reach = await away.reach(then)
    assert (reach.snapshot.id, reach.recorded) == (increment.id, None)
    assert reach.why


async def test_a_time_that_cannot_be_recovered_is_refused_with_one_that_can(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    into = PostgresArchive(empty_database_url)
    with pytest.raises(PastUnknown, match="there is no snapshot"):
        await snapshots.recover(datetime.now(UTC), into, fork=False, actor="test")
    await system.past.mark()
    manifest = await snapshots.create()
    with pytest.raises(PastUnknown, match="the earliest snapshot is of") as refused:
        await snapshots.recover(manifest.at - timedelta(hours=1), into, fork=False, actor="test")
    assert refused.value.earliest == manifest.at
    with pytest.raises(PastUnknown, match="has not come yet"):
        await snapshots.recover(datetime.now(UTC) + timedelta(hours=1), into, fork=False, actor="test")
    assert (await snapshots.list()) == [manifest], "nothing was saved for a recovery that was refused"


async def test_a_snapshot_that_is_younger_than_every_moment_before_the_time_is_brought_back_as_it_is(
    system: System, snapshots: Snapshots
) -> None:
    await system.past.mark()
    await system.add()
    manifest = await snapshots.create()
    reach = await snapshots.reach(datetime.now(UTC))
    assert (reach.snapshot.id, reach.recorded, reach.why) == (manifest.id, None, "")


async def test_a_recovered_system_can_be_saved_further_and_recovered_again(
    system: System, snapshots: Snapshots, empty_database_url: str, database_url: str
) -> None:
    """Increments lead over the recovery, on a base of before it, with all that the restore has written."""
    await system.past.mark()
    jobs = await system.add_many(5)
    base = await snapshots.create()
    await system.run()
    then = await moment(system)
    await snapshots.recover(then, PostgresArchive(empty_database_url), fork=False, actor="test")
    second = Snapshots(PostgresArchive(empty_database_url), snapshots._vault)
    async with system_on(empty_database_url) as restored:
        await restored.run(failure("boom", give_up=True))
        (lease,) = await restored.claim()
        await restored.add()
        for earlier in (base.id, (await second.list())[0].id):
            await second.create(base=earlier)
        later = await moment(restored)
        await restored.end(lease, Completed())
        truth = standings(
            await restored.sql.fetch(
                NOW,
                (await restored.sql.fetch("SELECT cut::text FROM perdure.moments ORDER BY at DESC LIMIT 1"))[
                    0
                ][0],
            )
        )
    for schema, newest in (("third", later), ("fourth", (await second.list())[0].at)):
        done = await second.recover(
            newest, PostgresArchive(database_url, schema=schema), fork=True, actor="test"
        )
        assert done.rows["jobs"] == len(jobs) + 1
        states = await system.sql.fetch(
            f"SELECT s.state::text, count(*) FROM {schema}.job_states s GROUP BY 1 ORDER BY 1"
        )
        assert [tuple(row) for row in states] == [("available", 4), ("completed", 1), ("discarded", 1)]
    assert sorted(standing[0] for standing in truth.values()) == [
        "available",
        "available",
        "available",
        "completed",
        "discarded",
        "running",
    ]


async def test_what_had_ended_by_then_stays_so_when_its_history_has_been_pruned_since(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """It waited in the snapshot; that it ended is told by nothing but its absence at the cut."""
    await system.past.mark()
    job = await system.add()
    await snapshots.create()
    await system.run()
    await system.sql.execute("DELETE FROM perdure.job_executions")
    then = await moment(system)
    await snapshots.recover(then, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        assert await restored.count("available_jobs", "job_id = $1", job) == 0
