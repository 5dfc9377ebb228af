"""Worker hosts as real process trees, to be killed, frozen and watched; and what is true of the system afterwards."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import psutil

from perdure import Perdure
from perdure.runtime.operations import SpawnedWorker, WorkerConfig
from perdure.runtime.settings import Settings
from perdure.services.check import Check
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.history import PostgresHistory

APP = "tests.support.fault_jobs"
LOOK_S = 0.05
LIVE = """
    SELECT (SELECT count(*) FROM perdure.available_jobs) + (SELECT count(*) FROM perdure.scheduled_jobs)
        + (SELECT count(*) FROM perdure.leases) + (SELECT count(*) FROM perdure.blocked_jobs)
        + (SELECT count(*) FROM perdure.parked_jobs)
"""


@dataclass(kw_only=True)
class Fleet:
    """Hosts on one database; one host is one worker with its processes."""

    app: Perdure
    folder: Path
    application: str = APP
    settings: dict[str, object] = field(default_factory=dict)
    hosts: list[SpawnedWorker] = field(default_factory=list)

    async def host(self, **settings: object) -> SpawnedWorker:
        """Start a worker host and wait until it is ready."""
        log = self.folder / f"host-{len(self.hosts)}.log"
        config = WorkerConfig(
            app=self.application, settings={**self.settings, **settings}, log=log, bound=True
        )
        host = await self.app.workers.spawn(config)
        self.hosts.append(host)
        return host

    async def kill(self, host: SpawnedWorker) -> None:
        """SIGKILL for the supervisor and everything under it, as when a machine loses its power."""
        for process in tree(host):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await host.process.wait()

    async def stop(self) -> None:
        for host in self.hosts:
            if host.process.returncode is None:
                await self.kill(host)

    def log(self, number: int = 0) -> str:
        return (self.folder / f"host-{number}.log").read_text("utf-8")


def tree(host: SpawnedWorker) -> list[psutil.Process]:
    """The supervisor and its processes, those that start others first."""
    supervisor = psutil.Process(host.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def freeze(host: SpawnedWorker) -> None:
    for process in tree(host):
        process.suspend()


def thaw(host: SpawnedWorker) -> None:
    for process in reversed(tree(host)):
        process.resume()


async def until(holds: Callable[[], Awaitable[Any]], *, within_s: float, what: str) -> Any:
    """Look again and again until `holds` gives something true, for a bounded time."""
    end = monotonic() + within_s
    while True:
        # While a server is away a look may fail; the bound decides.
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if found := await holds():
                return found
        assert monotonic() < end, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(LOOK_S)


async def query(url: str, statement: str, *values: object) -> Any:
    """One value, on a connection of its own, so that a fault cannot leave it broken."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(statement, *values)
    finally:
        await connection.close()


async def drained(url: str, *, within_s: float) -> None:
    """L1: the backlog drains within a bound."""

    async def empty() -> bool:
        return await query(url, LIVE) == 0  # type: ignore[no-any-return]

    await until(empty, within_s=within_s, what="the backlog drains")


async def promises_hold(url: str, settings: Settings) -> None:
    """S1 to S7, judged by the one checker."""
    database = await PooledDatabase.open(url, application_name="check", most=2)
    try:
        report = await Check(PostgresHistory(database, schema=settings.schema)).run()
        assert report.ok, report.words()
    finally:
        await database.close()
