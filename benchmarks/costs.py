"""What a job costs in processor time, by process: a figure that other work on the machine hardly moves.

    python -m benchmarks.costs DATABASE_URL {one,several,bulk,drain,drain2} [--jobs 20000] [--repeat 3] [--statements]

The server must run on this machine (Linux). Uses the schema of `perdure bench`, which it drops afterwards. `--statements` also tells
of the statements that took the most time, by the extension pg_stat_statements. Microseconds a job, medians of the rounds.
"""

import argparse
import asyncio
import os
import statistics
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import asyncpg
import psutil
from pydantic import SecretStr

from perdure import Perdure
from perdure.bench.effort import Effort
from perdure.bench.enqueueing import fill
from perdure.bench.jobs import QUEUE, WARM, noop
from perdure.bench.stage import ACTOR, SCHEMA, Stage
from perdure.runtime.event_loop import quick_loop
from perdure.runtime.settings import Settings

CALLERS = 50
STATEMENTS = 8

Costs = dict[str, float]


def processor_ns(pid: int) -> int:
    """What the threads of a process that still live have used; 0 when it has ended."""
    total = 0
    for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(stat.read_text().split()[0])
        except (OSError, ValueError):
            continue
    return total


class Meter:
    """Reads the processor time of the processes that take part, by what they are."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", worker: int | None = None) -> None:
        self._connection = connection
        self._worker = worker

    async def read(self) -> Costs:
        """Nanoseconds since each process began, summed by role."""
        rows = await self._connection.fetch(
            "SELECT pid, CASE WHEN backend_type = 'client backend' THEN application_name ELSE backend_type END AS role"
            " FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'"
        )
        found = {int(row["pid"]): "server: " + str(row["role"]) for row in rows}
        found[os.getpid()] = "client: this process"
        if self._worker is not None:
            found[self._worker] = "client: supervisor"
            found |= {child.pid: "client: process" for child in psutil.Process(self._worker).children()}
        costs: Costs = {}
        for pid, role in found.items():
            costs[role] = costs.get(role, 0) + processor_ns(pid)
        return costs


def spent(before: Mapping[str, float], after: Mapping[str, float], jobs: int) -> Costs:
    """Microseconds a job, of the roles that took part."""
    return {role: (ns - before.get(role, 0)) / 1000 / jobs for role, ns in after.items()}


async def drained(stage: Stage, connection: "asyncpg.Connection[asyncpg.Record]", processes: int) -> Costs:
    """From the resuming of the queue until nothing waits or runs."""
    count = stage.effort.drained_jobs
    async with stage.cleared() as measures, stage.producer() as app:
        await fill(app.using(queue=QUEUE), count, stage.effort.bulk_call)
        act = (await app.stores()).act
        await act.pause(QUEUE, actor=ACTOR)
        async with stage.worker(app, processes=processes) as worker:
            await stage.warm(app, measures, worker, processes=processes)
            meter = Meter(connection, worker.process.pid)
            await connection.execute("SELECT pg_stat_statements_reset()")
            before = await meter.read()
            await act.resume(QUEUE, actor=ACTOR)
            await app.using(queue=WARM).enqueue(noop, 0)
            await stage.finished(measures, worker)
            after = await meter.read()
        jobs, seconds = await measures.settled(QUEUE)
        return {**spent(before, after, count), "jobs/s": jobs / seconds}


async def stored(
    stage: Stage,
    connection: "asyncpg.Connection[asyncpg.Record]",
    count: int,
    store: Callable[[Perdure], Awaitable[object]],
) -> Costs:
    """From the first call, once everything is connected, to the last answer."""
    loop = asyncio.get_running_loop()
    async with stage.cleared(), stage.producer() as app:
        await fill(app.using(queue=QUEUE), 200, 100)
        await app.enqueue(noop, 0)
        meter = Meter(connection)
        await connection.execute("SELECT pg_stat_statements_reset()")
        before, began = await meter.read(), loop.time()
        await store(app)
        seconds = loop.time() - began
        after = await meter.read()
    return {**spent(before, after, count), "jobs/s": count / seconds}


async def measured(stage: Stage, what: str, connection: "asyncpg.Connection[asyncpg.Record]") -> Costs:
    """One round."""
    count = stage.effort.drained_jobs

    async def calls(app: Perdure, first: int, step: int) -> None:
        for n in range(first, count, step):
            await app.enqueue(noop, n)

    match what:
        case "drain" | "drain2":
            return await drained(stage, connection, 1 if what == "drain" else 2)
        case "one":
            return await stored(stage, connection, count, lambda app: calls(app, 0, 1))
        case "several":

            def several(app: Perdure) -> Awaitable[object]:
                return asyncio.gather(*(calls(app, n, CALLERS) for n in range(CALLERS)))

            return await stored(stage, connection, count, several)
        case _:
            return await stored(
                stage,
                connection,
                count,
                lambda app: fill(app.using(queue=QUEUE), count, stage.effort.bulk_call),
            )


async def run(options: argparse.Namespace) -> None:
    settings = Settings(database_url=SecretStr(options.database_url), schema=SCHEMA)
    stage = Stage(settings, Effort(drained_jobs=options.jobs))
    connection = await asyncpg.connect(options.database_url)
    await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    rounds = []
    for _ in range(options.repeat):
        rounds.append(await measured(stage, options.what, connection))
        if options.statements:
            await tell_statements(connection, options.jobs)
    await connection.close()
    for role in sorted({role for one in rounds for role in one}):
        middle = statistics.median(one.get(role, 0) for one in rounds)
        if middle >= 0.05:
            print(f"{role:45} {middle:10.2f}")


async def tell_statements(connection: "asyncpg.Connection[asyncpg.Record]", jobs: int) -> None:
    rows = await connection.fetch(
        "SELECT total_exec_time * 1000 / $1 AS us, calls, total_plan_time, shared_blks_hit::float8 / $1 AS hits, wal_bytes::float8 / $1 AS wal,"
        " left(regexp_replace(query, '\\s+', ' ', 'g'), 90) AS query"
        " FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT $2",
        float(jobs),
        STATEMENTS,
    )
    for row in rows:
        print(
            f"  {row['us']:8.2f} us {row['calls']:6} calls {row['hits']:6.1f} pages {row['wal']:6.0f} B of WAL  {row['query']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database_url")
    parser.add_argument("what", choices=("one", "several", "bulk", "drain", "drain2"))
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--statements", action="store_true")
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        runner.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
