"""The stage of a measurement: a schema that is made for it and dropped after it, a producer, a worker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from time import monotonic

from pydantic import SecretStr

from perdure import Perdure
from perdure.bench import jobs
from perdure.bench.effort import Effort
from perdure.domain.errors import Conflict
from perdure.runtime.operations import SpawnedWorker, WorkerConfig
from perdure.runtime.remembering import memory_file
from perdure.runtime.settings import CONNECTIONS_OF_A_PROCESS, CONNECTIONS_OF_A_WORKER, Settings
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.figures import drop_schema
from perdure.stores.postgres.floors import PostgresFloors
from perdure.stores.postgres.measures import PostgresMeasures
from perdure.stores.postgres.migrations import migrate

SCHEMA = "perdure_bench"
ACTOR = "perdure bench"
VACUUM_WITHIN_S = 3_600.0
"""Ten million jobs and their history take minutes, on a slow disk many."""

REST_AFTER_VACUUM_S = 1.0
"""After a vacuum, long or short: a shared machine gives more to whoever has rested."""

WARM_JOBS = 300
WARM_WITHIN_S = 60.0
START_OF_A_PROCESS_S = 2.0
WARM_POLL_S = 0.05
LOOK_S = 0.1
LOOK_AT_LEAST_EVERY_S = 3.0
SHARE_OF_THE_REST = 0.8
STILL_S = 5.0


class Stage:
    """Where everything is measured; `settings` name the schema of measurements and the user's Redis, if any."""

    def __init__(self, settings: Settings, effort: Effort) -> None:
        self.settings = settings
        self.effort = effort
        self.url = settings.database_url.get_secret_value()
        self.redis_url = settings.redis_url.get_secret_value()
        self.floors = PostgresFloors(self.url, schema=SCHEMA)

    @asynccontextmanager
    async def cleared(self) -> AsyncIterator[PostgresMeasures]:
        """A schema in which nothing is yet, gone afterwards, and with it what workers remember of it on this host."""
        await drop_schema(self.url, SCHEMA)
        memory_file(self.settings).unlink(missing_ok=True)
        database = DedicatedDatabase(self.url, application_name="perdure bench")
        try:
            await migrate(self.url, schema=SCHEMA)
            yield PostgresMeasures(database, schema=SCHEMA)
        finally:
            await database.close()
            await drop_schema(self.url, SCHEMA)
            memory_file(self.settings).unlink(missing_ok=True)
            if self.redis_url:
                from perdure.stores.redis.erasing import erase

                await erase(self.redis_url, schema=SCHEMA)

    @asynccontextmanager
    async def producer(self, *, redis: bool = False) -> AsyncIterator[Perdure]:
        """An application that has connected; everything it has done is counted once it is closed."""
        redis_url = SecretStr(self.redis_url if redis else "")
        async with Perdure(self.settings.model_copy(update={"redis_url": redis_url})) as app:
            yield app

    @asynccontextmanager
    async def worker(
        self, app: Perdure, *, processes: int, queues: Sequence[str] = (jobs.QUEUE,)
    ) -> AsyncIterator[SpawnedWorker]:
        """A worker with the settings of the application; its warnings go to stderr."""
        needed = CONNECTIONS_OF_A_WORKER + CONNECTIONS_OF_A_PROCESS * processes
        settings = {
            "queues": [*queues, jobs.WARM],
            "labels": [],
            "processes": processes,
            "max_connections": max(self.settings.max_connections, needed),
            "log_level": "warning",
            "log_format": "auto",
        }
        worker = await app.workers.spawn(WorkerConfig(app=jobs.__name__, settings=settings, bound=True))
        try:
            yield worker
        finally:
            await worker.stop()

    async def warm(
        self, app: Perdure, measures: PostgresMeasures, worker: SpawnedWorker, *, processes: int
    ) -> None:
        """Return when every process of the worker has settled a job, so that none is still starting."""
        using = app.using(queue=jobs.WARM)
        within_s = WARM_WITHIN_S + processes * START_OF_A_PROCESS_S
        until = monotonic() + within_s
        while await measures.processes(worker.worker_id) < processes:
            if monotonic() > until:
                raise Conflict(f"the worker has not put {processes} processes to work in {within_s:g} s")
            await using.enqueue_many([using.prepare(jobs.noop, n) for n in range(WARM_JOBS)])
            await asyncio.sleep(WARM_POLL_S)
        await self.finished(measures, worker, jobs.WARM)

    async def vacuum(self) -> None:
        """Have the server do what storing left behind, which it would do at a time of its own, and for longer than a drain takes."""
        database = DedicatedDatabase(
            self.url,
            application_name="perdure bench: vacuum",
            settings={"statement_timeout": "0"},
            command_timeout=VACUUM_WITHIN_S,
        )
        try:
            await PostgresMeasures(database, schema=SCHEMA).vacuum()
        finally:
            await database.close()
        await asyncio.sleep(REST_AFTER_VACUUM_S)

    async def finished(
        self, measures: PostgresMeasures, worker: SpawnedWorker, queue: str = jobs.QUEUE
    ) -> None:
        """Return when no job of the queue waits or runs. Raises Conflict when the worker ends before that."""
        while await measures.busy(queue):
            await self._look_again(worker)

    async def settled(
        self, measures: PostgresMeasures, worker: SpawnedWorker, since: datetime, count: int
    ) -> float:
        """Jobs a second over the first `count` settled after `since`, those that wake the worker left out. Raises Conflict as `finished` does.

        What it asks grows with what was settled, and took a quarter of the machine when it asked ten times a second: it
        waits for most of what is left at the rate so far. Whether anything is left it asks only when nothing has been settled for seconds:
        where dead rows lie by the million that is a walk over all of them.
        """
        settled, moved_at = 0, monotonic()
        while True:
            was_busy = monotonic() < moved_at + STILL_S or await measures.anything_busy()
            before, (settled, seconds) = settled, await measures.pace(since, count, beside=jobs.WARM)
            if settled >= count and seconds:
                return settled / seconds
            if not was_busy:
                raise Conflict(f"only {settled} of {count} jobs were completed")
            moved_at = monotonic() if settled > before else moved_at
            left_s = (count - settled) * seconds / settled if settled else 0.0
            await self._look_again(worker, min(LOOK_AT_LEAST_EVERY_S, SHARE_OF_THE_REST * left_s))

    async def _look_again(self, worker: SpawnedWorker, pause_s: float = LOOK_S) -> None:
        if worker.process.returncode is not None:
            raise Conflict(f"the worker ended with code {worker.process.returncode}")
        await asyncio.sleep(max(LOOK_S, pause_s))
