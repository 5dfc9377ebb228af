"""Snapshots: whole, cheap to continue, checked before anything is touched, and brought back as they were."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from perdure.domain.errors import InvalidOption, NotEmpty, NotFound, SnapshotsUnavailable, SnapshotUnusable
from perdure.domain.job import JobState, UniqueRule
from perdure.domain.settlement import Completed
from perdure.domain.snapshot import Manifest, Part, SnapshotKind, to_prune
from perdure.runtime.saving import AutomaticSnapshots, policy_of
from perdure.runtime.settings import Settings
from perdure.services.guard import Guard
from perdure.services.snapshot import Progress, Snapshots
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.alerts import PostgresAlerts
from perdure.stores.postgres.archive import PostgresArchive, PostgresPolicy
from perdure.stores.postgres.lineage import PostgresLineage
from tests.support.snapshots import NOWHERE, damage, manifest_of
from tests.support.store import Store
from tests.support.system import System, system_on
from tests.support.waiting import eventually
from tests.support.writers import Writers

WRITING_FAILS = """
import asyncio, resource, signal, sys
from perdure.runtime.saving import AutomaticSnapshots, policy_of
from perdure.runtime.settings import Settings
from perdure.services.snapshot import Snapshots
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.archive import PostgresArchive, PostgresPolicy
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
asyncio.run(Snapshots(PostgresArchive(sys.argv[1]), ObjectVault(sys.argv[2])).create())
"""


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


async def standings(system: System, cut: str) -> dict[UUID, tuple[Any, ...]]:
    rows = await system.sql.fetch(
        "SELECT j.id, s.state::text, s.run, s.attempt, s.crashes, s.interruptions, s.since, s.run_at"
        " FROM perdure.jobs j CROSS JOIN LATERAL perdure.standing_at(j.id, $1::text::pg_snapshot) s"
        " WHERE perdure.seen(j.xid, $1::text::pg_snapshot)",
        cut,
    )
    return {row["id"]: known_later(tuple(row)[1:]) for row in rows}


def known_later(standing: tuple[Any, ...]) -> tuple[Any, ...]:
    """A pending job's time to start is known only while it is pending."""
    return standing if standing[0] != JobState.PENDING else (*standing[:6], None)


async def present(system: System) -> dict[UUID, tuple[Any, ...]]:
    rows = await system.sql.fetch(
        "SELECT j.id, s.state::text, s.run, s.attempt, s.crashes, s.interruptions, s.since, s.run_at"
        " FROM perdure.jobs j CROSS JOIN LATERAL perdure.standing(j.id) s"
    )
    return {row["id"]: tuple(row)[1:] for row in rows}


def expected(standing: tuple[Any, ...]) -> tuple[Any, ...]:
    """What ran was given back by the restore and is available; since when is the restore's."""
    state, run, attempt, crashes, interruptions, since, run_at = standing
    if state == JobState.RUNNING:
        return (JobState.AVAILABLE.value, run, attempt - 1, crashes, interruptions, None, None)
    return (state, run, attempt, crashes, interruptions, since, None if state == JobState.PENDING else run_at)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("increments", [0, 2])
async def test_a_restored_snapshot_is_what_was_there_at_its_cut(
    system: System, snapshots: Snapshots, empty_database_url: str, seed: int, increments: int
) -> None:
    """Taken among concurrent writers, full or in increments; the past before it can be looked back to, and all promises hold."""
    writers = await Writers.of(system, seed)
    await writers.together(25)
    await writers.enqueue()
    await writers.claim()
    manifest = await snapshots.create()
    for _ in range(increments):
        manifest, _ = await asyncio.gather(snapshots.create(base=manifest.id), writers.together(25))
        await writers.together(5)
    then = await standings(system, manifest.cut)
    assert len({state for state, *_ in then.values()}) > 3, "the history is too tame to prove anything"

    await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=False, actor="test")

    async with system_on(empty_database_url) as restored:
        now = await present(restored)
        assert now.keys() == then.keys()
        requeued = {job_id for job_id, standing in then.items() if standing[0] == JobState.RUNNING}
        for job_id, standing in then.items():
            told = expected(now[job_id])
            wanted = expected(standing)
            assert (*told[:5], *(() if job_id in requeued else told[5:])) == (
                *wanted[:5],
                *(() if job_id in requeued else wanted[5:]),
            )
        assert await standings(restored, manifest.saved_cut) == then
        letters = "SELECT job_id, dead_at, cause FROM perdure.letters_at($1::text::pg_snapshot) ORDER BY 1"
        assert await system.sql.fetch(letters, manifest.cut) == await restored.sql.fetch(
            "SELECT job_id, dead_at, cause FROM perdure.dead_letter_queue ORDER BY 1"
        )
        assert {w.worker.state for w in await restored.read.workers()} <= {"stopped"}
        await restored.jobs.resolve(limit=1_000)
    await judged(empty_database_url)


async def judged(url: str) -> None:
    def judge() -> None:
        with Store(url) as store:
            report = store.run(store.check.run())  # the writers settle with the default limits
            assert report.ok, report.words()

    await asyncio.to_thread(judge)


async def test_a_system_goes_on_after_the_loss_of_its_database(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """New transactions have smaller numbers than those restored; lists of the past and of the present keep their order."""
    await system.past.mark()
    jobs = await system.add_many(6)
    await system.run()
    await system.claim()
    before = datetime.now(UTC)
    await asyncio.sleep(0.01)
    await system.past.mark()
    manifest = await snapshots.create()
    await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        moment = await restored.sql.fetchval("SELECT max(at) FROM perdure.moments")
        counts = {view.state.value: view.count for view in await restored.read.counts(as_of=moment)}
        assert (counts["completed"], counts["running"], counts["available"]) == (1, 1, 4)
        while leases := await restored.claim(limit=10):
            for lease in leases:
                await restored.end(lease, Completed(result="1"))
        assert {view.state for view in (await restored.read.jobs()).jobs} == {JobState.COMPLETED}
        assert (await restored.read.jobs(as_of=moment)).jobs[0].state == JobState.AVAILABLE
        await restored.past.mark()
        later = await restored.sql.fetchval("SELECT max(at) FROM perdure.moments")
        assert {view.state for view in (await restored.read.jobs(as_of=later)).jobs} == {JobState.COMPLETED}
        assert len((await restored.read.jobs(as_of=later)).jobs) == len(jobs)
        assert before < moment
        await restored.add("app.new")
        assert await restored.sql.fetchval("SELECT count(*) FROM perdure.lanes") == 2
    await judged(empty_database_url)
    # A second life can be saved and restored again, and remembers the first.
    again = await Snapshots(PostgresArchive(empty_database_url), snapshots._vault).create()
    assert (again.era, again.installation) == (1, manifest.installation)


NEXT_LANE = "SELECT nextval(pg_get_serial_sequence('perdure.lanes', 'lane'))"


async def test_numbers_that_the_database_gives_go_on_after_those_brought_back(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """A lane of a new kind, the first thing after a restore, takes no number of those that were there."""
    for kind in ("app.a", "app.b", "app.c"):
        await system.add(kind)
    manifest = await snapshots.create()
    await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        assert await restored.sql.fetchval(NEXT_LANE) > 3
        await restored.add("app.new")
        assert await restored.sql.fetchval("SELECT count(*) FROM perdure.lanes") == 4


async def test_who_remembers_more_than_the_snapshot_goes_on_and_tells_what_is_lost(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """Whoever brings a snapshot back adopts it, so that nobody is halted; leases of before are void, and their jobs hold their keys again."""
    producer = Guard(PostgresLineage(system.database), who="producer", marks=True)
    waiting = {JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE, JobState.RETRYABLE}
    await system.add(unique=UniqueRule(key="k", states=frozenset(waiting)))
    (lease,) = await system.claim()
    manifest = await snapshots.create()
    lost = await system.add()
    producer.note([lost])
    await producer.look()
    await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        later = Guard(PostgresLineage(restored.database), who="producer", memory=producer.memory)
        later.note([lost])
        await later.look()
        told = await restored.sql.fetch("SELECT job_id, lost FROM perdure.forgotten_jobs")
        assert [tuple(row) for row in told] == [(lost, "enqueue")]
        assert await restored.sql.fetchval("SELECT job_id FROM perdure.unique_keys") == lease.job_id
        settled = await restored.end(lease, Completed(result="1"))
        assert (settled.accepted, await restored.state(lease.job_id)) == (frozenset(), "available")


async def test_whether_a_parent_ended_unseen_is_found_out_anew(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """The transactions that the saved rows speak of are over, and their numbers are older than all of the restored database."""
    await system.add(after=[await system.add()])

    async def looked(system: System, until: str) -> bool:
        await system.sql.execute("UPDATE perdure.blocked_jobs SET look_at = now() WHERE NOT verified")
        await system.jobs.resolve(limit=10)
        return await system.count("blocked_jobs", until) == 1

    await eventually(lambda: looked(system, "looked_xid IS NOT NULL"))
    manifest = await snapshots.create()
    await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        assert await restored.count("blocked_jobs", "NOT verified") == 1
        await eventually(lambda: looked(restored, "verified"))


async def test_nobody_finds_a_table_to_write_into_before_all_rows_are_back(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    """Producers that wait for the lost database try all the while; a job of theirs in the empty tables would refuse the restore."""
    await system.add_many(3)
    manifest = await snapshots.create()
    producer = await asyncpg.connect(empty_database_url)
    seen: list[str | None] = []

    async def lines(manifest: Manifest, part: Part) -> AsyncIterator[bytes]:
        seen.append(await producer.fetchval("SELECT to_regclass('perdure.jobs')::text"))
        async for piece in snapshots._lines(manifest, part):
            yield piece

    await PostgresArchive(empty_database_url).bring_back([manifest], lines, fork=False, actor="test")
    assert set(seen) == {None}
    assert await producer.fetchval("SELECT count(*) FROM perdure.jobs") == 3
    await producer.close()


async def test_an_increment_holds_what_was_written_in_a_subtransaction_while_its_base_was_taken(
    system: System, snapshots: Snapshots, database_url: str, empty_database_url: str
) -> None:
    """Jobs that depend on each other are stored in one, and its number says nothing of its transaction."""
    await system.add()
    writer = await asyncpg.connect(database_url)
    try:
        async with writer.transaction():
            await writer.execute("SELECT pg_current_xact_id()")
            parent = await writer.fetchval("SELECT perdure.new_job_id()")
            await writer.execute(
                "SELECT perdure.enqueue_jobs(jsonb_build_array(jsonb_build_object('id', $1::uuid, 'kind', 'app.work'),"
                " jsonb_build_object('kind', 'app.work', 'parents', jsonb_build_array(jsonb_build_object('parent_id', $1)))))",
                parent,
            )
            await system.add()
            base = await snapshots.create()
    finally:
        await writer.close()
    manifest = await snapshots.create(base=base.id)
    await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=False, actor="test")
    async with system_on(empty_database_url) as restored:
        states = sorted(str(state) for state, *_ in (await present(restored)).values())
        assert states == ["available", "available", "available", "pending"]
    await judged(empty_database_url)


async def test_a_fork_is_a_paused_copy_with_a_name_of_its_own(
    system: System, snapshots: Snapshots, database_url: str
) -> None:
    job = await system.add()
    manifest = await snapshots.create()
    into = PostgresArchive(database_url, schema="copy")
    done = await snapshots.restore(manifest.id, into, fork=True, actor="kim")
    assert done.rows["jobs"] == 1
    rows = await system.sql.fetch("SELECT name, paused_by FROM copy.queues")
    assert [tuple(row) for row in rows] == [("default", "kim")]
    assert await system.sql.fetchval("SELECT id FROM copy.installation") != manifest.installation
    assert await system.state(job) == "available"
    with pytest.raises(NotEmpty, match="holds rows"):
        await snapshots.restore(manifest.id, into, fork=True, actor="kim")


async def test_a_live_system_is_never_restored_over(
    system: System, snapshots: Snapshots, database_url: str
) -> None:
    job = await system.add()
    manifest = await snapshots.create()
    with pytest.raises(NotEmpty):
        await snapshots.restore(manifest.id, PostgresArchive(database_url), fork=False, actor="test")
    assert await system.state(job) == "available"


@pytest.mark.parametrize("how", ["flipped", "truncated", "longer", "gone"])
@pytest.mark.parametrize("part", ["jobs", "job_executions", "lanes"])
async def test_a_damaged_file_is_named_before_anything_is_touched(
    system: System, snapshots: Snapshots, folder: Path, how: str, part: str
) -> None:
    """Not even a connection is opened: there is no such database."""
    await system.add_many(20)
    await system.run()
    manifest = await snapshots.create()
    assert [each.id for each in await snapshots.verify(manifest.id)] == [manifest.id]
    damage(folder / manifest.id / f"{part}.copy.zst", how)
    with pytest.raises(SnapshotUnusable, match=part) as refused:
        await snapshots.restore(manifest.id, NOWHERE, fork=False, actor="test")
    assert refused.value.part == part


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"migration": 9999}, "upgrade|knows up to"),
        ({"format": "other/1"}, "is not a perdure.snapshot"),
        ({"id": "20260101T000000Z-00000000"}, "is not a perdure.snapshot"),
        ({"parts": 3}, "cannot be read"),
        ({"base": "20260101T000000Z-00000000"}, "which is not there"),
    ],
)
async def test_a_manifest_that_is_not_ours_is_refused(
    system: System,
    snapshots: Snapshots,
    folder: Path,
    empty_database_url: str,
    change: dict[str, Any],
    words: str,
) -> None:
    await system.add()
    manifest = await snapshots.create()
    path = folder / manifest.id / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SnapshotUnusable, match=words):
        await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=False, actor="test")


async def test_a_half_snapshot_is_never_offered(
    system: System, snapshots: Snapshots, folder: Path, database_url: str
) -> None:
    """The disk is full in the middle: what was written has no manifest, is listed as half, and can be deleted."""
    await system.sql.execute(
        "SELECT perdure.enqueue_jobs(jsonb_build_array(jsonb_build_object('kind', 'k', 'args',"
        " jsonb_build_object('x', md5(n::text) || md5((n + 1)::text))))) FROM generate_series(1, 500) n"
    )
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", WRITING_FAILS, database_url, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SnapshotsUnavailable" in ended.stderr
    assert "File too large" in ended.stderr
    assert await snapshots.list() == []
    (half,) = await snapshots.half()
    with pytest.raises(NotFound):
        await snapshots.verify(half.id)
    await snapshots.delete(half.id)
    assert await snapshots.half() == []


async def test_an_increment_holds_what_changed_and_no_more(system: System, snapshots: Snapshots) -> None:
    await system.add_many(500)
    full = await snapshots.create()
    await system.add("app.other")
    await system.run()
    increment = await snapshots.create(base=full.id)
    rows = {part.name: part.rows for part in increment.parts}
    assert (rows["jobs"], rows["job_executions"], rows["available_jobs"]) == (1, 1, 1)
    assert increment.kind is SnapshotKind.INCREMENTAL
    with pytest.raises(SnapshotUnusable, match="is needed by"):
        await snapshots.delete(full.id)
    with pytest.raises(NotFound):
        await snapshots.create(base="20260101T000000Z-00000000")
    with pytest.raises(InvalidOption, match="not the id"):
        await snapshots.get("../elsewhere")


async def test_nothing_can_be_built_on_a_snapshot_of_another_system(
    system: System, snapshots: Snapshots, empty_database_url: str
) -> None:
    manifest = await snapshots.create()
    await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=True, actor="test")
    other = Snapshots(PostgresArchive(empty_database_url), snapshots._vault)
    with pytest.raises(SnapshotUnusable, match="of another system"):
        await other.create(base=manifest.id)


async def test_progress_is_told_and_a_place_that_cannot_be_used_is_named(
    system: System, snapshots: Snapshots, database_url: str
) -> None:
    await system.add_many(3)
    heard: list[Progress] = []
    manifest = await snapshots.create(heard=heard.append)
    assert [each.parts for each in heard] == list(range(1, len(manifest.parts) + 1))
    assert heard[-1].rows == manifest.rows
    nowhere = Snapshots(PostgresArchive(database_url), ObjectVault("/proc/version/snapshots"))
    with pytest.raises(SnapshotsUnavailable, match="cannot be used"):
        await nowhere.create()


def test_only_automatic_snapshots_are_pruned_and_none_that_another_builds_on() -> None:
    manifests = [
        manifest_of(1, automatic=False),
        manifest_of(2, automatic=True),
        manifest_of(3, automatic=True),
        manifest_of(4, automatic=True),
        manifest_of(5, automatic=False, base="s2"),
        manifest_of(6, automatic=True),
    ]
    assert to_prune(manifests, 2) == ["s3"]
    assert to_prune(manifests, 1) == ["s4", "s3"]
    assert to_prune(manifests, 9) == []


async def overdue_s(system: System, *, set_ago: str) -> float:
    """What alerts are judged by, with a policy that was set so long ago."""
    await system.sql.execute(
        "UPDATE perdure.snapshot_policy SET set_at = now() - $1::text::interval", set_ago
    )
    return (await PostgresAlerts(system.database).vitals()).snapshot_late_s


async def test_an_automatic_snapshot_that_fails_becomes_overdue(
    system: System, database_url: str, folder: Path
) -> None:
    """From the interval after the newest whole one on; that one counts also when another leader or a restore knows of it."""
    assert (await PostgresAlerts(system.database).vitals()).snapshot_late_s == 0, "none is wanted"
    await PostgresPolicy(system.database).set(policy_of(timedelta(hours=1), 1), actor="kim")

    def kept_in(place: str) -> AutomaticSnapshots:
        return AutomaticSnapshots(
            Settings(database_url=SecretStr(database_url), snapshots=place), system.database
        )

    with pytest.raises(SnapshotsUnavailable):
        await kept_in("/proc/version/snapshots").run_once()
    assert await overdue_s(system, set_ago="59 minutes") == 0
    assert await overdue_s(system, set_ago="2 hours") == pytest.approx(3_600, abs=60)
    automatic = kept_in(str(folder))
    assert await automatic.run_once() is not None
    assert await overdue_s(system, set_ago="2 hours") == 0
    await system.sql.execute("UPDATE perdure.snapshot_policy SET newest_at = NULL")
    assert await overdue_s(system, set_ago="2 hours") > 0
    assert await automatic.run_once() is None
    assert await overdue_s(system, set_ago="2 hours") == 0


async def test_the_leader_takes_snapshots_when_they_are_due_and_prunes_its_own(
    system: System, snapshots: Snapshots, database_url: str, folder: Path
) -> None:
    await system.add()
    settings = Settings(database_url=SecretStr(database_url), snapshots=str(folder))
    automatic = AutomaticSnapshots(settings, system.database)
    assert await automatic.run_once() is None, "nobody has asked for any"
    policy = PostgresPolicy(system.database)
    await policy.set(policy_of(timedelta(hours=1), 1), actor="kim")
    by_hand = await snapshots.create()
    first = await automatic.run_once()
    assert first is not None
    assert await automatic.run_once() is None, "the next is due in an hour"
    assert await overdue_s(system, set_ago="2 hours") == 0, "a policy of long ago is kept to"
    path = folder / first.created / "manifest.json"
    path.write_text(path.read_text().replace(f"{datetime.now(UTC):%Y-%m-%d}T", "2020-01-01T"))
    second = await automatic.run_once()
    assert second is not None
    assert second.pruned == (first.created,)
    assert {each.id for each in await snapshots.list()} == {by_hand.id, second.created}
    assert await policy.drop()
    assert await automatic.run_once() is None
    for interval, keep in ((timedelta(seconds=1), 1), (timedelta(hours=1), 0)):
        with pytest.raises(InvalidOption):
            policy_of(interval, keep)
