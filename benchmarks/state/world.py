"""A system at work, to be lost: a long history, live jobs in every state, a worker and a producer in processes of their own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.state import work
from benchmarks.state.history import write_history
from benchmarks.state.work import QUEUE, hold, step
from perdure import Perdure
from perdure.runtime.app import Prepared, new_id
from perdure.runtime.operations import SpawnedWorker, WorkerConfig
from perdure.runtime.settings import Settings
from perdure.stores.postgres.migrations import migrate

HELD = 200
"""Jobs that run all the time; beside them there is room for as many as settle some hundreds a second."""
ROOM = 64
PER_CALL = 1_000
PARENTS_OF_A_CHILD = 2
LONG_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How many of the live jobs are what; the rest waits for a worker."""

    scheduled: float = 0.2
    blocked: float = 0.24
    keyed: float = 0.04
    limited: float = 0.02


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the system is, and where its snapshots, runs and promises are written."""

    settings: Settings
    folder: Path

    @property
    def url(self) -> str:
        return self.settings.database_url.get_secret_value()

    @property
    def ledger(self) -> Path:
        return self.folder / "promises"


async def make_world(place: Place, jobs: int, live: int) -> None:
    """`jobs` jobs, of which `live` have not ended."""
    await migrate(place.url)
    connection = await asyncpg.connect(place.url)
    await write_history(connection, jobs - live)
    async with Perdure(place.settings) as app:
        await _enqueue_all(app, _live_jobs(app, live, Shares()))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def _live_jobs(app: Perdure, live: int, shares: Shares) -> Iterator[list[Prepared[int]]]:
    """Jobs in calls of at most `PER_CALL`; children come in one call with their parents."""
    family = PARENTS_OF_A_CHILD + 2
    families = int(live * shares.blocked) // 2
    special = [
        (int(live * shares.scheduled), "delay"),
        (int(live * shares.keyed), "unique_key"),
        (int(live * shares.limited), "concurrency_key"),
    ]
    plain = live - families * family - sum(count for count, _ in special)
    for count, option in (plain, ""), *special:
        for start in range(0, count, PER_CALL):
            yield [_one(app, option, n) for n in range(start, min(start + PER_CALL, count))]
    per_call = PER_CALL // family
    for start in range(0, families, per_call):
        together = [_family(app) for _ in range(min(per_call, families - start))]
        yield [job for one in together for job in one]


def _one(app: Perdure, option: str, n: int) -> Prepared[int]:
    match option:
        case "delay":
            using = app.using(delay=3_600 + n % 3_600)
        case "unique_key":
            using = app.using(unique_key=f"key {n}")
        case "concurrency_key":
            using = app.using(concurrency_key=f"account {n % 50}", concurrency_limit=2)
        case _:
            using = app.using()
    return using.prepare(step, n)


def _family(app: Perdure) -> list[Prepared[int]]:
    """Parents that wait for a worker behind all others, and children that wait for them."""
    parents = [app.using(id=new_id(), priority=1).prepare(step, n) for n in range(PARENTS_OF_A_CHILD)]
    ids = [parent.id for parent in parents]
    return [*parents, *(app.using(depends_on=ids).prepare(step, n) for n in range(2))]


async def _enqueue_all(app: Perdure, calls: Iterator[list[Prepared[int]]]) -> None:
    async def call() -> None:
        for jobs in calls:
            await app.enqueue_many(jobs)

    await asyncio.gather(call(), call())


@asynccontextmanager
async def working(place: Place) -> AsyncIterator[SpawnedWorker]:
    """A worker with room for what is held and for some hundreds of settlements a second; killed in the end."""
    os.environ[work.FOLDER] = str(place.folder)
    settings = {"queues": [QUEUE], "processes": 1, "concurrency": HELD + ROOM, "log_level": "warning"}
    log = place.folder / f"worker-{time.monotonic_ns()}.log"
    async with Perdure(place.settings) as app:
        worker = await app.workers.spawn(
            WorkerConfig(app=work.__name__, settings=settings, log=log, bound=True)
        )
    try:
        yield worker
    finally:
        if worker.process.returncode is None:
            worker.process.terminate()
            worker.process.terminate()  # the second word: at once
            await worker.process.wait()


async def hold_some(place: Place) -> None:
    """Have as many long jobs running as the worker has room for beside the short ones."""
    async with Perdure(place.settings) as app:
        await app.enqueue_many([app.using(priority=5).prepare(hold, LONG_S) for _ in range(HELD)])


@contextmanager
def producing(place: Place, rate: float) -> Iterator[subprocess.Popen[bytes]]:
    """A producer that enqueues at this rate, whatever becomes of the database."""
    environment = {
        **os.environ,
        "PERDURE_DATABASE_URL": place.url,
        "PERDURE_REDIS_URL": place.settings.redis_url.get_secret_value(),
    }
    command = [sys.executable, "-m", "benchmarks.state.producing", str(place.ledger), str(rate)]
    with (place.folder / "producer.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:  # it waits for a database that is gone for good
                process.kill()


def beside(url: str, name: str) -> str:
    """Another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def name_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


async def lose(url: str) -> None:
    """Destroy a database with everything in it, whoever is connected, and make an empty one of that name."""
    name = name_of(url)
    connection = await asyncpg.connect(beside(url, "postgres"))
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()


@asynccontextmanager
async def second_database(url: str) -> AsyncIterator[str]:
    """An empty database of the same server, dropped in the end."""
    name = f"{name_of(url)}_second"
    connection = await asyncpg.connect(beside(url, "postgres"))
    await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await connection.execute(f'CREATE DATABASE "{name}"')
    yield beside(url, name)
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await connection.close()
