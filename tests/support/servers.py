"""Real PostgreSQL and Redis servers for tests: one shared set per run, and private ones that a test may break."""

import asyncio
import atexit
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

import psutil
import psycopg
import pytest
import redis

from perdure.runtime.embedded import postgres, run_as
from perdure.runtime.embedded import redis as embedded_redis
from perdure.runtime.embedded.binaries import PostgresBinaries, RedisBinary, find_postgres, find_redis
from perdure.runtime.embedded.errors import ServerBinariesMissing

POSTGRES_BIN = "PERDURE_TEST_POSTGRES_BIN"
REDIS_SERVER = "PERDURE_TEST_REDIS_SERVER"
FOLDER_PREFIX = "perdure-tests-"
SCHEMA = "perdure"
DATABASE = "perdure"
TEMPLATE = "migrated"
LEAST_FREE_IN_MEMORY = 2 * 1024**3

# A crash of the server loses nothing with fsync off: what it wrote is in the operating system's memory.
FAST: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
# Autovacuum would now and then hold the template, and CREATE DATABASE would wait for it.
SHARED: Mapping[str, str] = {**FAST, "autovacuum": "off", "checkpoint_timeout": "1h", "max_wal_size": "512MB"}


def postgres_binaries() -> PostgresBinaries:
    """The PostgreSQL under test; a missing one skips the test, or fails it in CI."""
    try:
        return find_postgres(named(POSTGRES_BIN))
    except ServerBinariesMissing as error:
        missing(error)


@cache
def runnable_postgres() -> PostgresBinaries:
    """The same, where the user that PostgreSQL runs as can reach it: root in a container may need a copy."""
    copies = fastest_parent() / f"{FOLDER_PREFIX}{os.getpid()}-binaries"
    found = run_as.reachable_binaries(postgres_binaries(), run_as_chosen(), copies)
    atexit.register(shutil.rmtree, copies, ignore_errors=True)
    return found


@cache
def run_as_chosen() -> run_as.RunAs:
    return run_as.choose_run_as()


def redis_binary() -> RedisBinary:
    """The Redis or Valkey under test; a missing one skips the test, or fails it in CI."""
    try:
        return find_redis(named(REDIS_SERVER))
    except ServerBinariesMissing as error:
        missing(error)


def named(variable: str) -> Path | None:
    return Path(os.environ[variable]) if os.environ.get(variable) else None


def missing(error: ServerBinariesMissing) -> NoReturn:
    why = f"{error.message}; {error.next_step}"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class PostgresServer:
    """A cluster in a folder of its own, made from nothing or copied from an image, that a test may break."""

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] = FAST, image: Path | None = None
    ) -> None:
        self.folder = folder
        if image:
            shutil.copytree(image, folder / "data", symlinks=True)
        run_as.hand_over(folder, run_as_chosen())
        self._server = postgres.PostgresServer(
            postgres.PostgresSetup(
                binaries=runnable_postgres(),
                run_as=run_as_chosen(),
                data=folder / "data",
                sockets=folder,
                log=folder / "postgres.log",
                settings=settings,
                throwaway=True,
            )
        )

    @property
    def url(self) -> str:
        """The database that Perdure uses by default."""
        return self.url_of(DATABASE)

    @property
    def running(self) -> bool:
        return self._server.running

    @property
    def log(self) -> str:
        return (self.folder / "postgres.log").read_text()

    def url_of(self, database: str) -> str:
        return self._server.url(database)

    def start(self) -> None:
        self._server.start()

    def stop(self, *, immediate: bool = False) -> None:
        """Stop; at once (`immediate`) clients are cut off and the next start recovers from the log."""
        self._server.stop(immediate=immediate)

    def restart(self, *, immediate: bool = False) -> None:
        """Stop if it still runs, and serve the same data at the same address again."""
        self.stop(immediate=immediate)
        self.start()

    def kill(self) -> None:
        """`kill -9` of the server and every process of it, as if the machine had lost its power."""
        if self._server.pid and self._server.running:
            parent = psutil.Process(self._server.pid)
            parent.suspend()  # so that it cannot start another process while they are counted
            victims = [parent, *parent.children(recursive=True)]
            for victim in victims:
                with suppress_gone():
                    victim.send_signal(signal.SIGKILL)
            wait_for(lambda: not any(alive(victim) for victim in victims), within_s=10)
        self._server.stop(immediate=True)

    def create_database(self, name: str, *, template: str = "template1") -> None:
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')

    def drop_database(self, name: str) -> None:
        """Drop it with whoever is still connected; those who just left get a moment, or DROP would wait 100 ms."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            users = "SELECT FROM pg_stat_activity WHERE datname = %s"
            wait_for(lambda: connection.execute(users, (name,)).rowcount == 0, within_s=0.1)
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


class RedisServer:
    """A Redis or Valkey server in a folder of its own, that a test may break."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._server = embedded_redis.RedisServer(
            embedded_redis.RedisSetup(
                binary=redis_binary(),
                data=folder / "data",
                socket=folder / "redis.sock",
                log=folder / "redis.log",
                settings=settings or {},
            )
        )

    @property
    def url(self) -> str:
        return self._server.url()

    @property
    def running(self) -> bool:
        return self._server.running

    def url_of(self, database: int) -> str:
        return self._server.url(database)

    def start(self) -> None:
        self._server.start()

    def stop(self, *, immediate: bool = False) -> None:
        self._server.stop(immediate=immediate)

    def restart(self, *, immediate: bool = False) -> None:
        """Stop if it still runs, and serve at the same address again what the append-only file holds."""
        self.stop(immediate=immediate)
        self.start()

    def kill(self) -> None:
        """`kill -9`: up to the last second of writes may be lost."""
        self._server.stop(immediate=True)

    def flush(self, database: int) -> None:
        with redis.Redis.from_url(self.url_of(database)) as connection:
            connection.flushdb()


def migrate(database_url: str) -> None:
    """Bring a database to the present schema, in a thread of its own because a loop may run in this one."""
    from perdure.stores.postgres.migrations import migrate as migrated

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(migrated(database_url, schema=SCHEMA))).result()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A short private folder, in memory where there is room, that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=fastest_parent()))
    if run_as_chosen() is run_as.RunAs.NOBODY:
        folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fastest_parent() -> Path:
    in_memory = Path("/dev/shm")  # noqa: S108 - the folder below it is private
    roomy = in_memory.is_dir() and shutil.disk_usage(in_memory).free >= LEAST_FREE_IN_MEMORY
    return in_memory if roomy and os.access(in_memory, os.W_OK) else Path(tempfile.gettempdir())


def remove_leftovers() -> None:
    """Remove the folders of test runs that were killed."""
    for folder in fastest_parent().glob(f"{FOLDER_PREFIX}*"):
        pid = folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def wait_for(holds: Callable[[], bool], *, within_s: float) -> bool:
    """Whether the condition came true in time; looks every 2 ms."""
    until = time.monotonic() + within_s
    while not (true := holds()) and time.monotonic() < until:
        time.sleep(0.002)
    return true


def alive(process: psutil.Process) -> bool:
    """Whether the process still does anything; one that only waits to be counted by its parent does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def suppress_gone() -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        return
