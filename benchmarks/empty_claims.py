"""What an idle process costs the server while very many dead rows cannot be removed.

    python -m benchmarks.empty_claims DATABASE_URL [--dead 400000] [--seconds 15]

A transaction is held open, so many jobs of the best ranks are made and deleted, and a claimer then asks an empty queue four times a
second, as an idle process does. Uses and drops the schema `perdure_empty_claims`.
"""

import argparse
import asyncio
import statistics
from time import monotonic
from uuid import uuid4

from perdure.domain.job import NewJob, Shape
from perdure.domain.worker import NewWorker, WorkerId
from perdure.ports import Claimer, Scope
from perdure.runtime.new_ids import new_id
from perdure.stores.postgres.connections import PooledDatabase, connect
from perdure.stores.postgres.dispatch import PostgresDispatch, claimer_database
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.workers import PostgresWorkers

SCHEMA = "perdure_empty_claims"
KIND, QUEUE = "empty_claims.noop", "default"
EVERY_S = 0.25
DEAD = f"""
INSERT INTO {SCHEMA}.available_jobs (job_id, rank, lane, band)
SELECT gen_random_uuid(), {SCHEMA}.rank_of(now(), 3::smallint) - $1::bigint + n, l.lane, 1
FROM generate_series(1, $1::integer) n, {SCHEMA}.lanes l WHERE l.kind = '{KIND}'
"""


async def measure(url: str, dead: int, seconds: float) -> list[float]:
    """How long each claim took, in seconds."""
    await migrate(url, schema=SCHEMA)
    database = await PooledDatabase.open(url, application_name="benchmark", most=2)
    jobs, worker_id = PostgresJobs(database, schema=SCHEMA), WorkerId(uuid4())
    worker = NewWorker(
        id=worker_id, name="idle", host="here", pid=1, queues=(QUEUE,), kinds=(KIND,), capacity=100
    )
    await PostgresWorkers(database, schema=SCHEMA).register(worker)
    job = NewJob(id=new_id(), shape=Shape(queue=QUEUE, kind=KIND))
    await jobs.enqueue([job])
    holder = await connect(url, application_name="benchmark: holder")
    claiming = claimer_database(url, application_name="benchmark: claimer")
    dispatch = PostgresDispatch(claiming, schema=SCHEMA)
    claimer, scope = Claimer(worker_id=worker_id, process=0), Scope(queues=(QUEUE,), kinds=(KIND,))
    took: list[float] = []
    try:
        async with holder.transaction(isolation="repeatable_read"):
            await holder.fetchval(f"SELECT count(*) FROM {SCHEMA}.available_jobs")
            other = await connect(url, application_name="benchmark")
            await other.execute(DEAD, dead)
            await other.execute(f"DELETE FROM {SCHEMA}.available_jobs WHERE job_id <> $1", job.id)
            await dispatch.claim(claimer, scope, limit=100)
            until = monotonic() + seconds
            while monotonic() < until:
                began = monotonic()
                await dispatch.claim(claimer, scope, limit=100)
                took.append(monotonic() - began)
                await asyncio.sleep(EVERY_S)
            await other.close()
    finally:
        for one in (holder, claiming, database):
            await one.close()
        dropping = await connect(url, application_name="benchmark")
        await dropping.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        await dropping.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--dead", type=int, default=400_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args()
    took = asyncio.run(measure(given.url, given.dead, given.seconds))
    print(
        f"{len(took)} claims of an empty queue over {given.dead:,} dead rows: {sum(took):.2f} s busy of {given.seconds:g}, "
        f"median {1000 * statistics.median(took):.1f} ms, most {1000 * max(took):.0f} ms"
    )


if __name__ == "__main__":
    main()
