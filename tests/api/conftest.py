"""A database with a worker that runs the jobs of `tests.support.jobs`, shared by the tests of the public API."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from perdure import Perdure
from perdure.runtime.operations import WorkerConfig
from tests.support.servers import PostgresServer
from tests.support.waiting import Gate

JOBS = "tests.support.jobs"
QUICK = {
    "concurrency": 20,
    "thread_concurrency": 5,
    "cpu_processes": 2,
    "poll_interval_s": 0.02,
    "heartbeat_interval_s": 0.25,
    "suspect_after_s": 1.0,
    "dead_after_s": 3.0,
    "leader_ttl_s": 1.0,
    "drain_timeout_s": 1.0,
}


@pytest.fixture(scope="session")
def worked_url(
    postgres_server: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The database of a running worker."""
    postgres_server.create_database("worked", template=migrated_template)
    url = postgres_server.url_of("worked")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE effects (name text, attempt integer)")
    app = Perdure(database_url=url)
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    config = WorkerConfig(app=JOBS, settings=QUICK, log=log, bound=True)
    worker = app.run_sync(app.workers.spawn(config))
    yield url
    app.run_sync(worker.stop())
    app.close_sync()


@pytest.fixture
async def worked(worked_url: str) -> AsyncIterator[Perdure]:
    """An application on the database of a running worker."""
    async with Perdure(database_url=worked_url) as app:
        yield app


@pytest.fixture
async def worked_sql(worked_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(worked_url)
    yield connection
    await connection.close()


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Perdure]:
    """An application on an empty database that nobody works on."""
    async with Perdure(database_url=database_url) as app:
        yield app


@pytest.fixture
async def sql(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """What jobs wait for by its `path`; `gate.open()` lets them go on."""
    return Gate(tmp_path / "gate")
