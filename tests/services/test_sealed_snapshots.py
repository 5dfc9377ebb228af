"""Encrypted snapshots: all that plain ones can do, with the key alone; without it nothing is read, written or believed."""

import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from perdure import Perdure
from perdure.domain.errors import InvalidSettings, SnapshotLocked, SnapshotUnusable
from perdure.domain.job import JobState
from perdure.domain.sealing import Keyring
from perdure.domain.snapshot_sealing import PLAIN, SnapshotSealing
from perdure.runtime.saving import AutomaticSnapshots, policy_of
from perdure.runtime.settings import Settings
from perdure.services.snapshot import Snapshots
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.archive import PostgresArchive, PostgresPolicy
from tests.support.snapshots import KEYS, NEW, NOWHERE, OLD, damage
from tests.support.system import System, system_on

HERE = SnapshotSealing(Keyring.parse(OLD), on=True)
NO_KEY = SnapshotSealing(Keyring.parse(NEW))
WRONG_KEY = SnapshotSealing(Keyring({"old": bytes(32)}))
WORD = "an-unmistakable-word"
JOBS = "jobs.copy.zst.sealed"


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


With = Callable[[SnapshotSealing], Snapshots]


@pytest.fixture
def snapshots(database_url: str, folder: Path) -> With:
    """Snapshots with these keys and this switch; to be called with them."""
    return lambda sealing: Snapshots(PostgresArchive(database_url), ObjectVault(str(folder)), sealing)


def settings_with(keys: str, url: str, folder: Path) -> Settings:
    return Settings(
        database_url=SecretStr(url),
        snapshots=str(folder),
        encryption_keys=SecretStr(keys),
        snapshot_encryption=True,
    )


def stored_in(folder: Path) -> dict[str, bytes]:
    """Each file by its name, with what it holds."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


async def moment(system: System) -> datetime:
    await system.past.mark()
    found: datetime = await system.sql.fetchval("SELECT max(at) FROM perdure.moments")
    return found


async def test_who_has_the_key_restores_everything_and_nobody_else_reads_a_word(
    system: System, snapshots: With, folder: Path, database_url: str, empty_database_url: str
) -> None:
    """A full one, an increment, and a recovery to a time, which saves a further one; the switch is needed for the first alone."""
    await system.past.mark()
    await system.add(args=json.dumps({"x": WORD}))
    full = await snapshots(HERE).create()
    await system.add(args=json.dumps({"x": WORD}))
    increment = await snapshots(replace(HERE, on=False)).create(base=full.id)
    await system.run()
    then = await moment(system)
    await system.run()
    into = PostgresArchive(empty_database_url)
    later = replace(HERE, on=False)
    done = await snapshots(later).recover(then, into, fork=False, actor="test")
    assert (done.rows["jobs"], done.chain[:2], done.gap_s) == (2, (full.id, increment.id), 0.0)
    async with system_on(empty_database_url) as restored:
        assert [view.state for view in (await restored.read.jobs()).jobs].count(JobState.COMPLETED) == 1
    fork = PostgresArchive(database_url, schema="copy")
    assert (await snapshots(HERE).restore(increment.id, fork, fork=True, actor="kim")).rows["jobs"] == 2
    assert await system.sql.fetchval(f"SELECT count(*) FROM copy.jobs WHERE args::text ~ '{WORD}'") == 2
    for manifest in await snapshots(PLAIN).list():
        assert manifest.encryption is not None
        assert manifest.encryption.key == "old"
        for part in manifest.parts:
            stored = stored_in(folder)[f"{manifest.id}/{part.name}.copy.zst.sealed"]
            assert len(stored) == part.stored_bytes
            assert b"\x28\xb5\x2f\xfd" not in stored[:4], "no compressed text is left to be read"
    assert not any(WORD.encode() in stored for stored in stored_in(folder).values())


@pytest.mark.parametrize(
    ("sealing", "words"),
    [
        (NO_KEY, "'old', which is not here"),
        (PLAIN, "'old', which is not here"),
        (WRONG_KEY, "another key than the one that is called 'old' here"),
    ],
    ids=["other keys", "no keys", "another key of that id"],
)
async def test_without_its_key_nothing_is_done_with_it_and_the_key_is_named(
    system: System,
    snapshots: With,
    folder: Path,
    sealing: SnapshotSealing,
    words: str,
) -> None:
    """Neither verified, restored, recovered nor built on; lists and comparisons need no key."""
    await system.past.mark()
    await system.add()
    manifest = await snapshots(HERE).create()
    then = await moment(system)
    without = snapshots(sealing)
    files = stored_in(folder)
    for step in (
        lambda: without.trusted(manifest.id),
        lambda: without.verify(manifest.id),
        lambda: without.create(base=manifest.id),
        lambda: without.restore(manifest.id, NOWHERE, fork=False, actor="test"),
        lambda: without.recover(then, NOWHERE, fork=False, actor="test"),
    ):
        with pytest.raises(SnapshotLocked, match=words) as refused:
            await step()
        assert refused.value.key == "old"
        assert "encryption_keys" in refused.value.next_step
    assert stored_in(folder) == files
    assert await without.list() == [manifest]
    assert (await without.diff(manifest.id, manifest.id)).rows["jobs"] == (1, 1)
    await without.delete(manifest.id)


def exchanged(folder: Path, first: str, second: str) -> None:
    other = folder / "other"
    shutil.move(folder / first, other)
    shutil.move(folder / second, folder / first)
    shutil.move(other, folder / second)


def rewritten(folder: Path, first: str, change: dict[str, object]) -> None:
    path = folder / first / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda f, a, _: damage(f / a / JOBS, "flipped"), "jobs"),
        (lambda f, a, _: damage(f / a / JOBS, "truncated"), "jobs"),
        (lambda f, a, _: damage(f / a / JOBS, "longer"), "jobs"),
        (lambda f, a, _: damage(f / a / JOBS, "gone"), "jobs"),
        (lambda f, a, b: exchanged(f, f"{a}/{JOBS}", f"{b}/{JOBS}"), "jobs"),
        (lambda f, a, _: exchanged(f, f"{a}/{JOBS}", f"{a}/queues.copy.zst.sealed"), "jobs"),
        (lambda f, a, _: rewritten(f, a, {"parts": []}), "manifest.json"),
        (lambda f, a, _: rewritten(f, a, {"cut": "1:1:"}), "manifest.json"),
        (lambda f, a, _: (f / a / "manifest.hmac").unlink(), "manifest.json"),
        (lambda f, a, b: exchanged(f, f"{a}/manifest.hmac", f"{b}/manifest.hmac"), "manifest.json"),
        (lambda f, a, _: rewritten(f, a, {"encryption": None}), ""),
    ],
    ids=[
        *("flipped", "truncated", "longer", "gone", "that of another snapshot", "that of another table"),
        *("rows struck out", "cut changed", "no code", "code of another", "called plain"),
    ],
)
async def test_what_was_changed_is_refused_before_anything_is_touched(
    system: System,
    snapshots: With,
    folder: Path,
    change: Callable[[Path, str, str], object],
    part: str,
) -> None:
    await system.add_many(20)
    first, second = await snapshots(HERE).create(), await snapshots(HERE).create()
    change(folder, first.id, second.id)
    with pytest.raises(SnapshotUnusable) as refused:
        await snapshots(HERE).restore(first.id, NOWHERE, fork=False, actor="test")
    assert refused.value.part == part
    assert not isinstance(refused.value, SnapshotLocked)


async def test_keys_are_changed_and_a_chain_needs_each_that_is_in_it(
    system: System, snapshots: With, empty_database_url: str
) -> None:
    await system.add()
    full = await snapshots(HERE).create()
    await system.add()
    both = SnapshotSealing(Keyring.parse(KEYS), on=True)
    increment = await snapshots(both).create(base=full.id)
    assert increment.encryption is not None
    assert increment.encryption.key == "new"
    with pytest.raises(SnapshotLocked, match=f"{full.id}: it was encrypted with the key 'old'"):
        await snapshots(NO_KEY).verify(increment.id)
    done = await snapshots(both).restore(
        increment.id, PostgresArchive(empty_database_url), fork=False, actor="test"
    )
    assert done.rows["jobs"] == 2


async def test_where_snapshots_are_encrypted_a_plain_one_is_neither_built_on_nor_restored(
    system: System, snapshots: With, empty_database_url: str
) -> None:
    """It may be of anybody who can write where they are kept. Whoever knows better turns the switch off."""
    await system.past.mark()
    await system.add()
    plain = await snapshots(PLAIN).create()
    then = await moment(system)
    into = PostgresArchive(empty_database_url)
    for step in (
        lambda: snapshots(HERE).create(base=plain.id),
        lambda: snapshots(HERE).restore(plain.id, into, fork=False, actor="test"),
        lambda: snapshots(HERE).recover(then, into, fork=False, actor="test"),
    ):
        with pytest.raises(
            SnapshotUnusable, match="is not encrypted, and snapshot_encryption is on"
        ) as refused:
            await step()
        assert "turn snapshot_encryption off" in refused.value.next_step
    assert len(await snapshots(HERE).list()) == 1
    off = snapshots(replace(HERE, on=False))
    assert (await off.restore(plain.id, into, fork=False, actor="test")).rows["jobs"] == 1


async def test_automatic_snapshots_are_encrypted_too_and_without_a_key_nothing_is_begun(
    system: System, snapshots: With, database_url: str, folder: Path
) -> None:
    await PostgresPolicy(system.database).set(policy_of(timedelta(hours=1), 1), actor="kim")
    plain = settings_with("", database_url, folder)
    settings = settings_with(OLD, database_url, folder)
    assert any("no snapshot can be taken here" in caution for caution in plain.cautions)
    with pytest.raises(InvalidSettings, match="encryption_keys: is empty"):
        await AutomaticSnapshots(plain, system.database).run_once()
    assert stored_in(folder) == {}
    report = await AutomaticSnapshots(settings, system.database).run_once()
    assert report is not None
    (manifest,) = await snapshots(HERE).verify(report.created)
    assert (manifest.automatic, manifest.encryption is None) == (True, False)


async def test_a_restore_in_place_goes_by_no_cut_of_a_snapshot_that_it_cannot_trust(
    system: System, snapshots: With, database_url: str, folder: Path
) -> None:
    await system.past.mark()
    await system.add()
    manifest = await snapshots(HERE).create()
    async with Perdure(settings_with(NEW, database_url, folder)) as app:
        with pytest.raises(SnapshotLocked, match="'old', which is not here"):
            await app.state.plan_restore(manifest.id)
    async with Perdure(settings_with(OLD, database_url, folder)) as app:
        assert manifest.id in (await app.state.plan_restore(manifest.id)).source
