"""The two servers that all systems are measured on: the same programs, settings and disk for everybody."""

import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from perdure.runtime.embedded import postgres, run_as
from perdure.runtime.embedded import redis as embedded_redis
from perdure.runtime.embedded.binaries import (
    PostgresBinaries,
    RedisBinary,
    find_postgres,
    find_redis,
    postgres_in,
    redis_at,
)

DEBIAN_POSTGRES = Path("/usr/lib/postgresql/15/bin")
DEBIAN_REDIS = Path("/usr/bin/redis-server")
DATABASE = "peers"
LOOPBACK = "127.0.0.1"
POSTGRES_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_connections": "200",
}
REDIS_SETTINGS: Mapping[str, str] = {"appendonly": "yes", "appendfsync": "everysec"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Two running servers: `postgres_url` names the server's own database, `database_url` the one of the system."""

    postgres_url: str
    database_url: str
    redis_url: str
    versions: Mapping[str, str]

    def empty(self) -> None:
        """Have a new database and an empty Redis. The old database's files are gone before anything is measured."""
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            name = psycopg.sql.Identifier(_database_of(self.database_url))
            connection.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(name))
            connection.execute("CHECKPOINT")
        with redis.Redis.from_url(self.redis_url) as connection:
            connection.flushdb()

    def settle(self) -> None:
        """Collect statistics of filled tables, as autovacuum would have done by and by."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("ANALYZE")


@contextmanager
def started_servers() -> Iterator[Servers]:
    """Debian's PostgreSQL 15 and Redis 7 where they are installed, otherwise those of the wheels; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="perdure-peers-", dir="/var/tmp"))  # a disk, as servers have one
    try:
        with (
            _postgres(folder) as (postgres_port, postgres_version),
            _redis(folder) as (redis_port, redis_version),
        ):
            address = f"postgresql://{postgres.SUPERUSER}@{LOOPBACK}:{postgres_port}"
            yield Servers(
                postgres_url=f"{address}/postgres",
                database_url=f"{address}/{DATABASE}",
                redis_url=f"redis://{LOOPBACK}:{redis_port}/0",
                versions={"postgresql": postgres_version, "redis": redis_version},
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _postgres(folder: Path) -> Iterator[tuple[int, str]]:
    place = folder / "postgres"
    place.mkdir()
    user = run_as.choose_run_as()
    if user is run_as.RunAs.NOBODY:
        folder.chmod(0o711)
    run_as.hand_over(place, user)
    binaries = run_as.reachable_binaries(_postgres_binaries(), user, folder / "binaries")
    port = _free_port()
    server = postgres.PostgresServer(
        postgres.PostgresSetup(
            binaries=binaries,
            run_as=user,
            data=place / "data",
            sockets=place,
            log=folder / "postgres.log",
            settings={**POSTGRES_SETTINGS, "listen_addresses": LOOPBACK, "port": str(port)},
            throwaway=True,
        )
    )
    try:
        server.start()
        yield port, binaries.version
    finally:
        server.stop(immediate=True)


@contextmanager
def _redis(folder: Path) -> Iterator[tuple[int, str]]:
    binary = _redis_binary()
    port = _free_port()
    server = embedded_redis.RedisServer(
        embedded_redis.RedisSetup(
            binary=binary,
            data=folder / "redis",
            socket=folder / "redis.sock",
            log=folder / "redis.log",
            settings={**REDIS_SETTINGS, "bind": LOOPBACK, "port": str(port)},
        )
    )
    try:
        server.start()
        yield port, f"{binary.product} {binary.version}"
    finally:
        server.stop(immediate=True)


def _postgres_binaries() -> PostgresBinaries:
    return postgres_in(DEBIAN_POSTGRES, "Debian") or find_postgres()


def _redis_binary() -> RedisBinary:
    return redis_at(DEBIAN_REDIS, "Debian") or find_redis()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _database_of(url: str) -> str:
    found = re.search(r"/([^/?]+)(?:\?|$)", url)
    if found is None:
        raise ValueError(f"{url} names no database")
    return found[1]
