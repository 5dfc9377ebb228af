"""Sets the stage of the demonstration, has the story played on it, and takes it down."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex

from perdure import JobFailed, Perdure
from perdure.demo import jobs
from perdure.demo.decay import SOUND, Decay
from perdure.demo.ending import chapters
from perdure.demo.fleet import WORKER_LOG, Fleet
from perdure.demo.lookback import LookBack
from perdure.demo.screen import Screen
from perdure.demo.story import BROKEN, MENDED, PATIENCE, Scene, Story, poisoned
from perdure.domain.errors import ExtraMissing
from perdure.runtime.embedded import EmbeddedServers, ServerOptions, wait_until_stopped
from perdure.runtime.embedded.layout import Layout
from perdure.runtime.embedded.ownership import try_to_own
from perdure.runtime.plain_settings import plain
from perdure.runtime.settings import Settings
from perdure.runtime.vectors.finding import served
from perdure.runtime.vectors.serving import serving
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
EXTRAS = {
    "httpx": "memory",
    "qdrant_edge": "memory",
    "uvicorn": "memory",
    "fsspec": "state",
    "zstandard": "state",
}
SNAPSHOTS, VECTORS = "snapshots", "qdrant"
CONNECTIONS = 4


Dashboard = Callable[[Settings], AbstractAsyncContextManager[str]]
"""Serves the dashboard as long as it lasts, and gives its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user asked for; with a dashboard it is served from the beginning, and everything stays until Ctrl-C."""

    folder: Path
    work: Path
    keep: bool
    redis: bool
    dashboard: Dashboard | None = None


def require_extras() -> None:
    """Raise ExtraMissing unless everything is installed that the story shows."""
    for name, extra in EXTRAS.items():
        if find_spec(name) is None:
            raise ExtraMissing(name, extra=extra)


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


@contextmanager
def memory(settings: Settings, wanted: Wanted) -> Iterator[Settings]:
    """The settings with a memory of executions, and a place for snapshots, in the demonstration's own folder."""
    _forget(wanted.work)
    with serving(wanted.work):
        found = served(wanted.work)
        vectors = {} if found is None else {"qdrant_url": found.url, "qdrant_api_key": found.api_key}
        place = {"snapshots": str(wanted.work / SNAPSHOTS), "memory_embedder": "hashing"}
        yield Settings.model_validate({**plain(settings), **vectors, **place})
    if not wanted.keep:
        _forget(wanted.work)


async def perform(settings: Settings, wanted: Wanted, screen: Screen) -> bool:
    """Migrate, start a worker, play the story, and tell what the history says; whether all of it is well."""
    url, schema = settings.database_url.get_secret_value(), settings.schema
    screen.say("migrating the database")
    await migrate(url, schema=schema)
    pool = await PooledDatabase.open(url, application_name="perdure demo", most=CONNECTIONS)
    dashboard = nullcontext("") if wanted.dashboard is None else wanted.dashboard(settings)
    try:
        async with dashboard as address:
            if address:
                screen.say(f"the dashboard: {address}")
            return await _perform(settings, wanted, screen, pool, address)
    finally:
        screen.stop()
        await pool.close()


async def _perform(
    settings: Settings, wanted: Wanted, screen: Screen, pool: PooledDatabase, address: str
) -> bool:
    figures = PostgresFigures(pool, schema=settings.schema)
    check = Check(PostgresHistory(pool, schema=settings.schema))
    scene = Scene(folder=wanted.folder, work=wanted.work)
    screen.say(
        f"starting worker w1 with {PROCESSES} processes; the workers' log is {wanted.work / WORKER_LOG}"
    )
    async with Perdure(settings) as app, Fleet(app, wanted.work) as fleet:
        first = await fleet.start(SOUND, FIRST)
        happened = await Story(app, scene, first.worker, figures, check, screen).play()
        decayed = await Decay(app, scene, fleet, figures, check, screen).play(first)
        looked = await LookBack(app, scene, check, screen).play(happened)
        screen.stop()
        screen.ledger(await figures.ledger())
        told = await chapters(happened, decayed, looked, figures)
        screen.chapters(told)
        report = await check.run()
        screen.promises(report)
        if address:
            await _stay(app, wanted.work, screen, address)
    return report.ok and all(chapter.ok for chapter in told)


async def _stay(app: Perdure, work: Path, screen: Screen, address: str) -> None:
    """Until Ctrl-C, which ends a demonstration well that was told to its end; one failure is left for whoever looks around."""
    with suppress(asyncio.CancelledError):
        left = await poisoned(app, work, "poison_3.py", BROKEN)
        with suppress(JobFailed):
            await left.result(PATIENCE)
        work.joinpath("poison_3.py").write_text(MENDED)
        screen.say(
            f"look around: {address}; one more job gave up and its file is mended: its page tells what fixed those before, "
            "and Dead letters has the button; Ctrl-C ends everything"
        )
        await asyncio.Event().wait()


def _erase(work: Path) -> None:
    """Remove the servers' data; the report stays."""
    layout = Layout(work.resolve())
    lock = try_to_own(layout.lock)
    if lock is not None:
        layout.erase()
        os.close(lock)


def _forget(work: Path) -> None:
    for folder in (SNAPSHOTS, VECTORS):
        shutil.rmtree(work / folder, ignore_errors=True)
