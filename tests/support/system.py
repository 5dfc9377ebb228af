"""A whole system on one database, without worker processes: a test enqueues, claims and settles by hand."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import time_ns
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from perdure.domain.ids import JobIds
from perdure.domain.job import Dependency, JobId
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Crashed, Ending, ErrorReport, Failed, Settlement, settle
from perdure.domain.worker import NewWorker, WorkerId
from perdure.ports import Claimer, Scope, Settled
from perdure.services.act import Act
from perdure.services.read import Read
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.control import PostgresControl
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.insights import PostgresInsights
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.past import PostgresPast
from perdure.stores.postgres.workers import PostgresWorkers
from tests.support.new_jobs import job_of

new_id = JobIds(time_ns, os.urandom)


@dataclass(frozen=True, kw_only=True)
class System:
    """Stores and services of one database, and short words for what tests do with them."""

    database: PooledDatabase
    sql: asyncpg.Pool
    jobs: PostgresJobs
    workers: PostgresWorkers
    control: PostgresControl
    insights: PostgresInsights
    past: PostgresPast
    read: Read
    act: Act

    async def add(self, kind: str = "app.work", *, queue: str = "default", **options: Any) -> JobId:
        """Enqueue one job."""
        parents = tuple(Dependency(parent_id=parent) for parent in options.pop("after", ()))
        job = job_of(id=new_id(), kind=kind, queue=queue, **{"depends_on": parents, **options})
        return (await self.jobs.enqueue([job]))[0].job_id

    async def add_many(self, count: int, kind: str = "app.work", **options: Any) -> list[JobId]:
        """Enqueue that many jobs at once."""
        jobs = [job_of(id=new_id(), kind=kind, queue="default", **options) for _ in range(count)]
        return [enqueued.job_id for enqueued in await self.jobs.enqueue(jobs)]

    async def worker(self, name: str = "w1", **options: Any) -> WorkerId:
        """Register a worker of the default queue that knows kind app.work."""
        fields = {"kinds": ("app.work",), "queues": ("default",), "capacity": 10, "host": "host", **options}
        worker = NewWorker(id=WorkerId(uuid4()), name=name, pid=1, **fields)
        await self.workers.register(worker)
        await self.workers.make_known(worker.queues)
        return worker.id

    async def claim(
        self, worker_id: WorkerId | None = None, *, kind: str = "app.work", limit: int = 1
    ) -> list[Lease]:
        """Lease jobs of a kind in the default queue."""
        claimer = Claimer(worker_id=worker_id or await self.worker(), process=0)
        dispatch = PostgresDispatch(self.database)
        return list(await dispatch.claim(claimer, Scope(queues=("default",), kinds=(kind,)), limit=limit))

    async def end(self, lease: Lease, ending: Ending) -> Settled:
        return await self.jobs.settle([settle(lease, ending)])

    async def run(self, ending: Ending | None = None, *, kind: str = "app.work") -> UUID:
        """Claim the next job and end it, by default with success."""
        (lease,) = await self.claim(kind=kind)
        await self.end(lease, ending or Completed(result="null"))
        return lease.job_id

    async def dead(self, kind: str = "app.work", *, message: str = "boom", **options: Any) -> JobId:
        """A job in the dead letter queue, failed with this message."""
        job_id = await self.add(kind, **options)
        lease = await self.lease_of(job_id)
        await self.end(lease, failure(message, give_up=True))
        return job_id

    async def lease_of(self, job_id: UUID) -> Lease:
        """Lease everything until this job is among it, and give its lease; the others stay leased."""
        (row,) = await self.sql.fetch(
            "SELECT l.kind, l.queue, l.labels FROM perdure.jobs j JOIN perdure.lanes l USING (lane) WHERE j.id = $1",
            job_id,
        )
        scope = Scope(queues=(row["queue"],), kinds=(row["kind"],), labels=tuple(row["labels"]))
        claimer = Claimer(worker_id=await self.worker(), process=0)
        while found := await PostgresDispatch(self.database).claim(claimer, scope, limit=100):
            for lease in found:
                if lease.job_id == job_id:
                    return lease
        raise AssertionError(f"job {job_id} cannot be claimed")

    async def state(self, job_id: UUID) -> str | None:
        """Where a job stands, by the view that all agree on; two rows would be a broken law."""
        rows = await self.sql.fetch("SELECT state FROM perdure.job_states WHERE job_id = $1", job_id)
        assert len(rows) <= 1, rows
        return rows[0]["state"] if rows else None

    async def count(self, table: str, where: str = "true", *values: object) -> int:
        return int(await self.sql.fetchval(f"SELECT count(*) FROM perdure.{table} WHERE {where}", *values))


def failure(message: str = "boom", *, retry_in: float = 60, give_up: bool = False) -> Failed:
    report = ErrorReport(type="ValueError", message=message, traceback="", fingerprint=f"fp-{message}")
    return Failed(error=report, retry_in=timedelta(seconds=retry_in), give_up=give_up)


@asynccontextmanager
async def system_on(database_url: str) -> AsyncIterator[System]:
    database = await PooledDatabase.open(database_url, application_name="tests", most=8)
    sql = await asyncpg.create_pool(database_url, min_size=0, max_size=8)
    control, insights = PostgresControl(database), PostgresInsights(database)
    past = PostgresPast(database)
    try:
        yield System(
            database=database,
            sql=sql,
            jobs=PostgresJobs(database),
            workers=PostgresWorkers(database),
            control=control,
            insights=insights,
            past=past,
            read=Read(insights, past),
            act=Act(control, insights),
        )
    finally:
        await sql.close()
        await database.close()


__all__ = ["Crashed", "Settlement", "System", "failure", "new_id", "system_on"]
