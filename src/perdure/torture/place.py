"""Where one scenario takes place: its servers, its worker hosts with their lines, its load, and what is known of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Self, TypeVar
from uuid import UUID

import psutil

from perdure import Perdure
from perdure.domain.errors import Unavailable
from perdure.runtime.new_ids import new_id
from perdure.runtime.operations import SpawnedWorker, WorkerConfig
from perdure.runtime.settings import Settings
from perdure.services.check import Check
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.faults import EVER, FleetEvidence, PostgresEvidence, PostgresFaults
from perdure.stores.postgres.history import PostgresHistory
from perdure.testing import faults
from perdure.torture import jobs
from perdure.torture.disk import SmallDisk
from perdure.torture.line import Line
from perdure.torture.load import Load
from perdure.torture.servers import DATABASE, Servers

T = TypeVar("T")

QUICK: Mapping[str, object] = {
    "heartbeat_interval_s": 0.5,
    "suspect_after_s": 2.0,
    "dead_after_s": 5.0,
    "leader_ttl_s": 2.0,
    "deadline_grace_s": 1.0,
    "drain_timeout_s": 1.0,
    "concurrency": 10,
}
"""A third of the default silence, so that a scenario takes seconds."""

LOOK_S = 0.05
WARM_JOBS = 20
WITHIN_S = 60.0
LOG_LINES = 12


class Broken(Exception):
    """A scenario found that something is not as it must be."""


class CannotBePlayed(Exception):
    """This machine or this user cannot produce the fault; the message says why."""


@dataclass(kw_only=True)
class Host:
    """A worker with its processes and its own lines to the servers, as on a machine of its own."""

    worker: SpawnedWorker
    postgres: Line
    redis: Line
    log: Path

    @property
    def alive(self) -> bool:
        return self.worker.process.returncode is None

    def tree(self) -> list[psutil.Process]:
        """The supervisor and its processes, those that start others first."""
        supervisor = psutil.Process(self.worker.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]


class Place:
    """Servers, hosts and load; a scenario breaks what it will and says with `struck` when its fault has ended."""

    def __init__(
        self,
        servers: Servers,
        *,
        seed: int,
        rate: float,
        settings: Mapping[str, object] = QUICK,
        disk: SmallDisk | None = None,
    ) -> None:
        self.servers = servers
        self.rng = Random(seed)
        self.hosts: list[Host] = []
        self._logs: list[Path] = []
        self.recovered_s: float | None = None
        self.remarks: list[str] = []
        self.disk = disk
        self.patience = 1.0
        """What bounds in time are multiplied with, where faults overlap and the bounds of single ones do not hold."""
        self._settings = settings
        self._rate = rate
        self._struck: tuple[float, UUID] | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        url = self.servers.database_url
        database = DedicatedDatabase(url, application_name="torture")
        self._open.push_async_callback(database.close)
        self.database = database
        self.evidence = PostgresEvidence(database)
        self.fleet = FleetEvidence(database)
        self.faults = PostgresFaults(database, url)
        await self.faults.make_effects()
        settings = Settings.model_validate({"database_url": url, "redis_url": self.servers.redis_url})
        self.app = await self._open.enter_async_context(Perdure(settings))
        self.load = Load(self.app, self.rng, database_url=url, rate=self._rate)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.load.stop()
        for host in self.hosts:
            self.kill(host)
        await asyncio.gather(*(host.worker.process.wait() for host in self.hosts))
        await self._open.aclose()

    # ------------------------------------------------------------------------------------- hosts

    async def host(self, app: str = jobs.__name__, python: Sequence[str] = (), **settings: object) -> Host:
        """Start a worker with lines of its own; returns when it is registered."""
        postgres = await self._open.enter_async_context(Line(self.servers.postgres_socket))
        redis = await self._open.enter_async_context(Line(self.servers.redis_socket))
        urls = {
            "database_url": f"postgresql://postgres@127.0.0.1:{postgres.port}/{DATABASE}?sslmode=disable",
            "redis_url": f"redis://127.0.0.1:{redis.port}/0",
        }
        log = self.servers.folder / f"host-{len(self._logs)}.log"
        self._logs.append(log)
        config = WorkerConfig(
            app=app, settings={**self._settings, **urls, **settings}, log=log, bound=True, python=python
        )
        worker = await self.app.workers.spawn(config)
        host = Host(worker=worker, postgres=postgres, redis=redis, log=log)
        self.hosts.append(host)
        return host

    @property
    def living(self) -> list[Host]:
        return [host for host in self.hosts if host.alive]

    async def replenish(self, count: int) -> None:
        """Start hosts until so many live."""
        while len(self.living) < count:
            await self.host()

    def any_host(self) -> Host:
        """One of those that live, by the seed."""
        return self.rng.choice(self.living)

    def kill(self, host: Host) -> None:
        """SIGKILL for everything of a host, as when a machine loses its power."""
        if host.alive:
            with suppress(psutil.NoSuchProcess):
                faults.crash(host.worker)

    def a_process_of(self, host: Host) -> psutil.Process:
        """One of the processes that run jobs, by the seed."""
        return self.rng.choice(host.tree()[1:])

    async def leader(self) -> Host:
        """The host whose supervisor leads, once one does."""

        async def found() -> Host | None:
            leader = await self.fleet.leader()
            return next((host for host in self.living if host.worker.process.pid == leader), None)

        return await self.until(found, what="one leads")

    # -------------------------------------------------------------------------------------- load

    @asynccontextmanager
    async def under_load(self, hosts: int = 2) -> AsyncIterator[None]:
        """Hosts at work on a load that goes on; at the end the recovery is awaited and the load ends."""
        await self.replenish(hosts)
        await self.warm()
        self.load.start()
        await self.done_with(len(self.load.acknowledged) + int(self._rate))
        yield
        await self.recover()
        await self.load.stop()

    async def warm(self) -> None:
        """Returns when jobs have been done."""
        await self.load.add(WARM_JOBS)
        await self.done_with(WARM_JOBS)

    async def done_with(self, count: int) -> None:
        """Returns when so many attempts have ended."""

        async def enough() -> bool:
            return sum((await self.evidence.outcomes()).values()) >= count

        await self.until(enough, what=f"{count} attempts have ended")

    async def holds(self, host: Host, count: int) -> None:
        """Returns when a host holds so many jobs."""

        async def enough() -> bool:
            return await self.evidence.held(host.worker.worker_id) >= count

        await self.until(enough, what=f"the host holds {count} jobs")

    async def goes_on(self, *, within_s: float) -> None:
        """Returns when jobs that were enqueued from now on have been done, though the fault lasts."""
        end = new_id()
        more = len(self.load.acknowledged) + 1

        async def done() -> bool:
            return len(self.load.acknowledged) > more and await self.evidence.unfinished(end) == 0

        await self.until(done, what="work goes on while the fault lasts", within_s=within_s)

    async def refused(self, before: int) -> None:
        """Returns when the producer has had to repeat a call since it had repeated so many."""

        async def again() -> bool:
            return self.load.repeated > before

        await self.until(again, what="an enqueue is refused")

    def struck(self) -> None:
        """The fault has ended, or the blow has fallen: the recovery counts from here. Only the first call counts."""
        if self._struck is None:
            self._struck = monotonic(), new_id()

    async def recover(self, *, within_s: float = WITHIN_S) -> float:
        """Returns the seconds from the end of the fault until all that was enqueued before it has ended."""
        self.struck()
        since, before = self._struck or (monotonic(), new_id())

        async def worked_off() -> bool:
            return await self.evidence.unfinished(before) == 0

        await self.until(
            worked_off, what="what was enqueued before the end of the fault has ended", within_s=within_s
        )
        self._struck = None
        self.recovered_s = monotonic() - since
        return self.recovered_s

    async def pause(self, seconds: float) -> None:
        """Let a fault last, while everything else goes on."""
        await asyncio.sleep(seconds)

    async def redis(self, *command: str) -> object:
        """The answer of Redis to a command, on a connection of its own."""
        from redis.asyncio import Redis

        connection: Any = Redis.from_url(self.servers.redis_url)
        async with connection:
            return await connection.execute_command(*command)

    # ----------------------------------------------------------------------------------- judging

    async def until(
        self, holds: Callable[[], Awaitable[T | None]], *, what: str, within_s: float = WITHIN_S
    ) -> T:
        """Look again and again until `holds` gives something true. Raises Broken when it does not in time."""
        within_s *= self.patience
        end = monotonic() + within_s
        while True:
            # While a server is away a look fails; the bound decides.
            with suppress(Unavailable, OSError):
                if found := await holds():
                    return found
            if monotonic() > end:
                raise Broken(f"not within {within_s:g} s: {what}")
            await asyncio.sleep(LOOK_S)

    def expect(self, holds: object, what: str) -> None:
        """Raises Broken when it does not hold."""
        if not holds:
            raise Broken(what)

    async def drained(self, since: UUID = EVER) -> None:
        """L1: returns when nothing is left to do, of what was made since a moment, that of an id."""
        end = new_id()

        async def empty() -> bool:
            return await self.evidence.unfinished(end, since) == 0

        await self.until(empty, what="the backlog drains")

    async def last_words(self) -> list[str]:
        """The oldest jobs that have not ended and the ends of the hosts' logs, for whoever looks for the reason."""
        lines = []
        with suppress(Unavailable, OSError):
            lines += [f"not ended: {words}" for words in await self.evidence.oldest_unfinished()]
        for log in self._logs:
            said = log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
            lines += [f"{log.stem}: {line}" for line in said]
        return lines

    async def judged(self, *, drained: bool = True) -> list[str]:
        """What is broken, in words: S1 to S7 and L1 by the checker, acknowledged jobs, effects that happen once."""
        report = await Check(PostgresHistory(self.database)).run(drained=drained)
        broken = report.words().splitlines()
        if lost := await self.evidence.missing(self.load.acknowledged):
            broken.append(f"{lost} jobs were acknowledged to their producer and are nowhere")
        if wrong := await self.evidence.wrong_effects(jobs.effect.name):
            broken.append(f"{wrong} jobs did not leave their mark exactly once when they completed")
        return broken
