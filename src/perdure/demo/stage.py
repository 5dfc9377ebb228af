"""Sets the stage of the demonstration, has the story played on it, and takes it down."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from perdure import Perdure
from perdure.demo import jobs
from perdure.demo.decay import SOUND, Decay, Decayed
from perdure.demo.ending import chapters
from perdure.demo.fleet import WORKER_LOG, Fleet
from perdure.demo.screen import Screen
from perdure.demo.story import Happened, Scene, Story
from perdure.runtime.embedded import EmbeddedServers, ServerOptions, wait_until_stopped
from perdure.runtime.embedded.layout import Layout
from perdure.runtime.embedded.ownership import try_to_own
from perdure.runtime.plain_settings import plain
from perdure.runtime.settings import Settings
from perdure.services.check import Check
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.figures import PostgresFigures, drop_schema
from perdure.stores.postgres.history import PostgresHistory
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.statements import DEFAULT_SCHEMA

PROCESSES = 2
FIRST: Mapping[str, object] = {
    "queues": [jobs.QUEUE],
    "processes": PROCESSES,
    "cpu_processes": max(1, (os.cpu_count() or 1) // PROCESSES),
}
GRACE_S = 0.2
CONNECTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user asked for."""

    folder: Path
    work: Path
    keep: bool
    redis: bool


@contextmanager
def database(settings: Settings, wanted: Wanted, screen: Screen) -> Iterator[Settings]:
    """The settings with a database and a schema in which nothing is yet: the server named, or an embedded one."""
    if settings.database_url.get_secret_value():
        schema = f"perdure_demo_{token_hex(3)}"
        screen.say(f"using the PostgreSQL of the settings, in a schema of its own: {schema}")
        try:
            yield Settings.model_validate({**plain(settings), "schema": schema})
        finally:
            if not wanted.keep:
                asyncio.run(drop_schema(settings.database_url.get_secret_value(), schema))
        return
    servers = "PostgreSQL and Redis" if wanted.redis else "PostgreSQL"
    screen.say(f"starting an embedded {servers} in {wanted.work}")
    options = ServerOptions(throwaway=True, grace_s=GRACE_S)
    with EmbeddedServers(wanted.work, redis=wanted.redis, fresh=True, options=options) as urls:
        found = {"database_url": urls.database_url, "redis_url": urls.redis_url or ""}
        yield Settings.model_validate({**plain(settings), **found, "schema": DEFAULT_SCHEMA})
    if not wanted.keep and wait_until_stopped(wanted.work):
        _erase(wanted.work)


async def perform(settings: Settings, wanted: Wanted, screen: Screen) -> bool:
    """Migrate, start a worker, play the story, and tell what the history says; whether all of it is well."""
    url, schema = settings.database_url.get_secret_value(), settings.schema
    screen.say("migrating the database")
    await migrate(url, schema=schema)
    pool = await PooledDatabase.open(url, application_name="perdure demo", most=CONNECTIONS)
    try:
        return await _perform(settings, wanted, screen, pool)
    finally:
        screen.stop()
        await pool.close()


async def _perform(settings: Settings, wanted: Wanted, screen: Screen, pool: PooledDatabase) -> bool:
    figures = PostgresFigures(pool, schema=settings.schema)
    check = Check(PostgresHistory(pool, schema=settings.schema))
    scene = Scene(folder=wanted.folder, work=wanted.work)
    screen.say(
        f"starting worker w1 with {PROCESSES} processes; the workers' log is {wanted.work / WORKER_LOG}"
    )
    async with Perdure(settings) as app, Fleet(app, wanted.work) as fleet:
        first = await fleet.start(SOUND, FIRST)
        happened = await Story(app, scene, first.worker, figures, check, screen).play()
        decayed = await Decay(app, scene, fleet, figures, check, screen).play()
    screen.stop()
    return await _tell(happened, decayed, figures, check, screen)


async def _tell(
    happened: Happened, decayed: Decayed, figures: PostgresFigures, check: Check, screen: Screen
) -> bool:
    screen.ledger(await figures.ledger())
    told = await chapters(happened, decayed, figures)
    screen.chapters(told)
    report = await check.run()
    screen.promises(report)
    return report.ok and all(chapter.ok for chapter in told)


def _erase(work: Path) -> None:
    """Remove the servers' data; the report stays."""
    layout = Layout(work.resolve())
    lock = try_to_own(layout.lock)
    if lock is not None:
        layout.erase()
        os.close(lock)
