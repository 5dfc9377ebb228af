"""Upgrades while work goes on, with a migration between the versions; migrations that are killed half way."""

import asyncio
import shutil
import sys
from pathlib import Path

import perdure
from perdure.domain.errors import Conflict
from perdure.stores.postgres.migrations import migrate, migrations
from perdure.torture.place import Place
from perdure.torture.scenario import Scenario, story
from perdure.torture.servers import DATABASE

NEXT = "the_next_release"
STEP = "ALTER TABLE perdure.workers ADD COLUMN torture_note text;\n"
BACK = "ALTER TABLE perdure.workers DROP COLUMN torture_note;\n"
KILL_AFTER_S = (0.5, 0.9, 1.3)


def next_release(folder: Path) -> Path:
    """A copy of this program with one more migration; gives what PYTHONPATH must begin with."""
    package = Path(perdure.__file__).parent
    copy = folder / NEXT / "perdure"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    number = migrations()[-1].number + 1
    steps = copy / "stores" / "postgres" / "migrations"
    (steps / f"{number:04}_{NEXT}.sql").write_text(STEP)
    (steps / f"{number:04}_{NEXT}.rollback.sql").write_text(BACK)
    return copy.parent


async def migrated_by(release: Path | None, url: str) -> asyncio.subprocess.Process:
    """Have a release migrate, in a process of its own; None is this one."""
    path = () if release is None else ("env", f"PYTHONPATH={release}")
    command = (*path, sys.executable, "-m", "perdure", "db", "migrate", "--database-url", url)
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)


@story(
    Scenario(
        name="rolling-upgrade",
        numbers=(41,),
        produced="under load: the next release (this one with one more migration) migrates, then hosts of it replace the old "
        "ones one by one; a host of the old release is started too late",
        holds="old and new hosts work side by side on the new schema; the late one refuses to start and says why",
    )
)
async def rolling_upgrade(place: Place) -> None:
    release = await asyncio.to_thread(next_release, place.servers.folder)
    async with place.under_load():
        step = await migrated_by(release, place.servers.database_url)
        place.expect(await step.wait() == 0, "the migration of the next release failed")
        await place.goes_on(within_s=20)
        for host in place.living:
            await place.host(python=("env", f"PYTHONPATH={release}", sys.executable))
            await place.goes_on(within_s=20)
            await host.worker.stop()
        place.struck()
        try:
            await place.host()
        except Conflict:
            why = await place.last_words()
            place.expect(
                any("newest that this program knows" in line for line in why),
                f"it does not say why it refuses: {why}",
            )
        else:
            place.expect(False, "a host of the old release started on the newer schema")


@story(
    Scenario(
        name="migration-killed",
        numbers=(42,),
        produced="three migrations of an empty database at once, two of which are killed within the first seconds",
        holds="the third comes through, or the next one does; no lock is left behind",
    )
)
async def migration_killed(place: Place) -> None:
    url = place.servers.postgres.url("unmade")
    place.servers.postgres.ensure_database("unmade")
    running = [await migrated_by(None, url) for _ in KILL_AFTER_S]
    for after_s, process in zip(KILL_AFTER_S[1:], running[1:], strict=True):
        await place.pause(after_s)
        if process.returncode is None:
            process.kill()
    await asyncio.gather(*(process.wait() for process in running))
    place.expect(running[0].returncode == 0, "the migration that was let live failed")
    place.expect(await migrate(url) == [], f"something was left to do in {DATABASE}")
