"""Fixtures for all tests: real servers, started once per run, with a fresh database for each test."""

import asyncio
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from perdure.runtime.embedded import ServerOptions
from tests.support.servers import (
    FAST,
    POSTGRES_BIN,
    REDIS_SERVER,
    SHARED,
    TEMPLATE,
    PostgresServer,
    RedisServer,
    migrate,
    named,
    postgres_binaries,
    redis_binary,
    remove_leftovers,
    scratch_folder,
)

REDIS_DATABASES = 16
SERVER_FIXTURES = frozenset(
    ["postgres_server", "redis_server", "private_postgres", "private_redis", "server_options"]
)

# Machines that run tests are busy, so a slow example proves nothing; the time limit per test still holds.
settings.register_profile("perdure", deadline=None, print_blob=True)
settings.load_profile("perdure")


def pytest_sessionstart() -> None:
    """Say that no loop is set, or looptime would make one for each sync test and leave it open.

    And write the log plainly: a traceback with the values of all variables takes a second to draw.
    """
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    )
    asyncio.set_event_loop(None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what is in its background deaf to Ctrl-C, and every command under test would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a server, for the second run against the oldest versions."""
    for item in items:
        if isinstance(item, pytest.Function) and SERVER_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.servers)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """How a test has the log set up, as commands do that run in its process, holds for that test alone."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The PostgreSQL that all tests share; do not stop it."""
    remove_leftovers()
    with scratch_folder() as folder:
        server = PostgresServer(folder, settings=SHARED)
        server.start()
        yield server
        server.stop(immediate=True)


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """The shared server's `postgres` database, for tests that make databases themselves."""
    return postgres_server.url_of("postgres")


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    postgres_server.create_database(TEMPLATE)
    migrate(postgres_server.url_of(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def database_names() -> Iterator[str]:
    return (f"test_{number}" for number in count(1))


@pytest.fixture
def database_url(
    postgres_server: PostgresServer, migrated_template: str, database_names: Iterator[str]
) -> Iterator[str]:
    """A database with all tables and nothing in them, for one test."""
    name = next(database_names)
    postgres_server.create_database(name, template=migrated_template)
    yield postgres_server.url_of(name)
    postgres_server.drop_database(name)


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer, database_names: Iterator[str]) -> Iterator[str]:
    """A database without any table, for one test."""
    name = next(database_names)
    postgres_server.create_database(name)
    yield postgres_server.url_of(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The Redis that all tests share; do not stop it."""
    remove_leftovers()
    with scratch_folder() as folder:
        server = RedisServer(folder, settings={"appendonly": "no", "databases": str(REDIS_DATABASES)})
        server.start()
        yield server
        server.stop(immediate=True)


@pytest.fixture(scope="session")
def redis_numbers() -> Iterator[int]:
    return (number % REDIS_DATABASES for number in count())


@pytest.fixture
def redis_url(redis_server: RedisServer, redis_numbers: Iterator[int]) -> str:
    """An empty Redis database, for one test; late writes of an earlier test go to another number."""
    number = next(redis_numbers)
    redis_server.flush(number)
    return redis_server.url_of(number)


@pytest.fixture(scope="session")
def migrated_image() -> Iterator[Path]:
    """The data of a stopped cluster with a migrated database, to be copied."""
    with scratch_folder() as folder:
        server = PostgresServer(folder)
        server.start()
        server.create_database("perdure")
        migrate(server.url)
        server.stop()
        yield folder / "data"


@pytest.fixture
def private_postgres(migrated_image: Path) -> Iterator[PostgresServer]:
    """A running server of this test's own, with a migrated database at `.url`, to kill, stop and restart."""
    with scratch_folder() as folder:
        server = PostgresServer(folder, settings=FAST, image=migrated_image)
        server.start()
        yield server
        server.stop(immediate=True)


@pytest.fixture
def private_redis() -> Iterator[RedisServer]:
    """A running server of this test's own, at `.url`, to kill, stop and restart."""
    with scratch_folder() as folder:
        server = RedisServer(folder)
        server.start()
        yield server
        server.stop(immediate=True)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short private folder on the fastest disk, whose sockets fit the system's limit."""
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def server_options() -> ServerOptions:
    """Embedded servers with the programs under test and a short grace time."""
    postgres_binaries()
    redis_binary()
    return ServerOptions(
        grace_s=0.1, throwaway=True, postgres_bin=named(POSTGRES_BIN), redis_server=named(REDIS_SERVER)
    )
