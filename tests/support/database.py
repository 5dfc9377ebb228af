"""The PostgreSQL store of one database, and short words for what its tests do with it."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from time import time_ns
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from perdure.domain.ids import JobIds
from perdure.domain.job import Dependency, NewJob, OnParentFailure
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Ending, ErrorReport, Failed, Interrupted, settle
from perdure.domain.worker import NewWorker, WorkerId
from perdure.ports import Claimer, Place, Scope, Settled
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.dispatch import PostgresDispatch, claimer_database
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, in_schema
from perdure.stores.postgres.workers import PostgresWorkers
from tests.support.new_jobs import job_of

SCOPE = Scope(queues=("default",), kinds=("app.work",))
TABLES = (
    "jobs",
    "available_jobs",
    "parked_jobs",
    "scheduled_jobs",
    "blocked_jobs",
    "job_dependencies",
    "leases",
    "job_executions",
    "dead_letter_queue",
    "unique_keys",
    "job_events",
)
new_id = JobIds(time_ns, os.urandom)


def new_job(kind: str = "app.work", **options: Any) -> NewJob:
    """A job that is valid as it stands."""
    return job_of(**{"id": new_id(), "queue": "default", "kind": kind, **options})


def after(
    *parents: NewJob,
    on_failure: OnParentFailure = OnParentFailure.HOLD,
    kind: str = "app.work",
    **options: Any,
) -> NewJob:
    """A job that waits for these parents."""
    edges = tuple(Dependency(parent_id=parent.id, on_failure=on_failure) for parent in parents)
    return new_job(kind, depends_on=edges, **options)


def failure(*, give_up: bool = False, retry_in: timedelta = timedelta(0), message: str = "boom") -> Failed:
    """A failed attempt; a retry comes at once unless `retry_in` says otherwise."""
    report = ErrorReport(type="ValueError", message=message, fingerprint=f"fp-{message}")
    return Failed(error=report, retry_in=retry_in, give_up=give_up)


WORKERS = [WorkerId(uuid4()) for _ in range(16)]
"""Who claims in tests; each store knows them as workers that live."""
_turns = cycle(WORKERS)


def claimer(*, process: int = 0, isolated: bool = False) -> Claimer:
    """A claimer of a worker that lives; each call takes the next of a few."""
    return Claimer(worker_id=next(_turns), process=process, isolated=isolated)


@dataclass(frozen=True)
class Slot:
    """A slot of a concurrency key as one lease held it."""

    key: str
    number: int
    claimed: int
    settled: int
    limit: int
    job_id: UUID


@dataclass(frozen=True, kw_only=True)
class Store:
    """Jobs, claims and plain SQL of one database."""

    url: str
    schema: str
    database: PooledDatabase
    pool: Any
    jobs: PostgresJobs
    dispatch: PostgresDispatch

    async def sql(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Run SQL that is written for the default schema."""
        found: list[asyncpg.Record] = await self.pool.fetch(in_schema(statement, self.schema), *values)
        return found

    async def value(self, statement: str, *values: object) -> Any:
        return (await self.sql(statement, *values))[0][0]

    async def add(self, *jobs: NewJob) -> list[Place]:
        """Enqueue in one call, and give the places of those that may start."""
        _, places = await self.jobs.enqueue_placed(jobs)
        return list(places)

    async def claim(self, limit: int = 1, *, scope: Scope = SCOPE, isolated: bool = False) -> list[Lease]:
        return list(await self.dispatch.claim(claimer(isolated=isolated), scope, limit=limit))

    async def end(self, leases: Sequence[Lease], ending: Ending | None = None) -> Settled:
        return await self.jobs.settle([settle(lease, ending or Completed()) for lease in leases])

    async def finish(self, job: NewJob, ending: Ending | None = None) -> Settled:
        """Claim everything, give back all but this job, and end it."""
        leases = await self.claim(
            1000, scope=Scope(queues=(job.shape.queue,), kinds=(job.shape.kind,), labels=job.shape.labels)
        )
        (mine,) = [lease for lease in leases if lease.job_id == job.id]
        if others := [lease for lease in leases if lease.job_id != job.id]:
            await self.end(others, Interrupted(cause="not wanted now", started=False))
        return await self.end([mine], ending)

    async def drain(self, *, scope: Scope = SCOPE) -> list[UUID]:
        """Claim and complete until nothing comes, and give the jobs in the order of their claims."""
        done: list[UUID] = []
        while leases := await self.claim(500, scope=scope):
            done += [lease.job_id for lease in leases]
            await self.end(leases)
        return done

    async def state(self, job_id: UUID) -> str | None:
        """Where a job stands, by the view that all agree on; two rows would be a broken law."""
        rows = await self.sql("SELECT state FROM perdure.job_states WHERE job_id = $1", job_id)
        assert len(rows) <= 1, rows
        return rows[0]["state"] if rows else None

    async def states(self, *jobs: NewJob) -> list[str | None]:
        return [await self.state(job.id) for job in jobs]

    async def rerank(self, job_id: UUID, rank: int) -> None:
        """Give an available job another rank."""
        await self.sql("UPDATE perdure.available_jobs SET rank = $2 WHERE job_id = $1", job_id, rank)

    async def pause(self, queue: str) -> None:
        await self.sql("UPDATE perdure.queues SET paused_at = now() WHERE name = $1", queue)

    async def resume(self, queue: str) -> None:
        await self.sql("UPDATE perdure.queues SET paused_at = NULL WHERE name = $1", queue)

    async def set_worker(self, worker_id: WorkerId, state: str) -> None:
        """Have the row of a worker say that it is dead, stopped or draining."""
        await self.sql(
            "UPDATE perdure.workers SET state = $2::perdure.worker_state WHERE id = $1", worker_id, state
        )

    async def failures(self, job_id: UUID) -> int:
        """How many attempts an available job has used up."""
        return int(await self.value("SELECT attempt FROM perdure.available_jobs WHERE job_id = $1", job_id))

    async def slots(self) -> list[Slot]:
        """Who held the slots of concurrency keys, by key, slot and claim."""
        rows = await self.sql(
            "SELECT e.concurrency_key, e.slot, e.claim_xid::text::bigint, e.settle_xid::text::bigint, j.concurrency_limit, e.job_id"
            " FROM perdure.job_executions e JOIN perdure.jobs j ON j.id = e.job_id"
            " WHERE e.concurrency_key IS NOT NULL ORDER BY e.concurrency_key, e.slot, e.claim_xid"
        )
        return [Slot(*row) for row in rows]

    async def counts(self) -> dict[str, int]:
        """The number of rows of every table that holds something of a job."""
        return {table: await self.value(f"SELECT count(*) FROM perdure.{table}") for table in TABLES}


async def register_workers(database: PooledDatabase, *, schema: str = DEFAULT_SCHEMA) -> None:
    """Let the claimers of the tests be workers that live."""
    workers = PostgresWorkers(database, schema=schema)
    for number, worker_id in enumerate(WORKERS):
        await workers.register(NewWorker(id=worker_id, name=f"w{number}", host="here", pid=1))


@asynccontextmanager
async def store_on(database_url: str, *, schema: str = DEFAULT_SCHEMA) -> AsyncIterator[Store]:
    database = await PooledDatabase.open(database_url, application_name="tests", most=10)
    pool = await asyncpg.create_pool(database_url, min_size=0, max_size=4)
    claims = claimer_database(database_url, application_name="tests claim")
    try:
        await register_workers(database, schema=schema)
        yield Store(
            url=database_url,
            schema=schema,
            database=database,
            pool=pool,
            jobs=PostgresJobs(database, schema=schema),
            dispatch=PostgresDispatch(claims, schema=schema),
        )
    finally:
        await claims.close()
        await pool.close()
        await database.close()
