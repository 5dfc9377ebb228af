"""The store alone: enqueue in bulk, then claim and settle, without handlers and processes.

    python benchmarks/store.py DATABASE_URL [--jobs 50000] [--batch 100] [--planner-free] [--sync-claims]

Uses a schema of its own, which it drops afterwards. `--planner-free` lets the planner choose the plan of claims, and `--sync-claims`
has claims wait for the disk, to show what `CLAIM_SETTINGS` is worth (docs/decisions/0004-claim-plan.md).
"""

import argparse
import asyncio
import os
import random
import statistics
import time
import uuid

import asyncpg

from perdure.domain.ids import JobIds
from perdure.domain.job import NewJob, Shape
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, settle
from perdure.domain.worker import NewWorker, WorkerId
from perdure.ports import Claimer, Scope
from perdure.runtime.event_loop import quick_loop
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.dispatch import CLAIM_SETTINGS, PostgresDispatch
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.workers import PostgresWorkers

SCHEMA = "perdure_bench"
BULK = 1000
WORKER = WorkerId(uuid.uuid4())
SCOPE = Scope(queues=("bench",), kinds=("bench.noop",))


async def drop(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    await connection.close()


async def fill(jobs: PostgresJobs, count: int) -> float:
    ids = JobIds(time.time_ns, random.randbytes)
    began = time.perf_counter()
    for _ in range(0, count, BULK):
        await jobs.enqueue(
            [
                NewJob(id=ids(), shape=Shape(queue="bench", kind="bench.noop"), args='{"n":1}')
                for _ in range(BULK)
            ]
        )
    return count / (time.perf_counter() - began)


async def drain(dispatch: PostgresDispatch, jobs: PostgresJobs, batch: int) -> float:
    """Claim the next batch while the last one is settled, as a worker's process does."""
    claimer = Claimer(worker_id=WORKER, process=1)
    began = time.perf_counter()
    done = 0
    held: list[Lease] = list(await dispatch.claim(claimer, SCOPE, limit=batch))
    while held:
        settlements = [settle(lease, Completed()) for lease in held]
        claimed, settled = await asyncio.gather(
            dispatch.claim(claimer, SCOPE, limit=batch), jobs.settle(settlements)
        )
        done += len(settled.accepted)
        held = list(claimed)
    return done / (time.perf_counter() - began)


async def run(options: argparse.Namespace) -> None:
    settings = {"synchronous_commit": "off"} if options.planner_free else dict(CLAIM_SETTINGS)
    if options.sync_claims:
        settings["synchronous_commit"] = "on"
    enqueued, drained = [], []
    for _ in range(options.repeat):
        await drop(options.database_url)
        await migrate(options.database_url, schema=SCHEMA)
        claims = DedicatedDatabase(options.database_url, application_name="bench claims", settings=settings)
        others = DedicatedDatabase(options.database_url, application_name="bench")
        jobs = PostgresJobs(others, schema=SCHEMA)
        bench = NewWorker(id=WORKER, name="bench", host="here", pid=os.getpid())
        await PostgresWorkers(others, schema=SCHEMA).register(bench)
        enqueued.append(await fill(jobs, options.jobs))
        drained.append(await drain(PostgresDispatch(claims, schema=SCHEMA), jobs, options.batch))
        await claims.close()
        await others.close()
    await drop(options.database_url)
    print(f"enqueue in bulk  {statistics.median(enqueued):>9,.0f} jobs/s   {[round(x) for x in enqueued]}")
    print(f"claim and settle {statistics.median(drained):>9,.0f} jobs/s   {[round(x) for x in drained]}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database_url")
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--planner-free", action="store_true")
    parser.add_argument("--sync-claims", action="store_true")
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        runner.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
