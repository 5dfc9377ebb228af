"""What one claim costs the server: of a lone job, of a full batch, and with more days kept.

    python -m benchmarks.claims DATABASE_URL [--batches 1 100] [--days 0 30] [--claims 500]

Days are partitions of `jobs` beside those that a new schema has. The processor time is that of the claiming session, where the server runs
on this machine and Linux tells it. Batches and days take turns, claim by claim. Uses and drops schemas named `perdure_claims_…`.
"""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import monotonic
from uuid import UUID, uuid4

from perdure.domain.job import NewJob, Shape
from perdure.domain.worker import NewWorker, WorkerId
from perdure.ports import Claimer, Scope
from perdure.runtime.new_ids import new_id
from perdure.stores.postgres.connections import PooledDatabase, connect
from perdure.stores.postgres.dispatch import PostgresDispatch, claimer_database
from perdure.stores.postgres.figures import drop_schema
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.workers import PostgresWorkers

KIND, QUEUE = "claims.noop", "default"
SCOPE = Scope(queues=(QUEUE,), kinds=(KIND,))
LIMIT = 100
WARM = 20
SESSION = "SELECT pid FROM pg_stat_activity WHERE application_name = $1"
DAY = """
CREATE TABLE {schema}.jobs_kept_{day} PARTITION OF {schema}.jobs FOR VALUES FROM ('{first}') TO ('{last}')
"""


class Line:
    """A schema with so many days more, and one claimer."""

    def __init__(self, url: str, days: int) -> None:
        self._url = url
        self._days = days
        self._schema = f"perdure_claims_{days}"
        self._claimer = Claimer(worker_id=WorkerId(uuid4()), process=0)
        self._took: dict[int, list[tuple[float, float]]] = {}

    async def open(self) -> None:
        await drop_schema(self._url, self._schema)
        await migrate(self._url, schema=self._schema)
        self._connection = await connect(self._url, application_name="benchmark")
        for day in range(self._days):
            first, last = (UUID(int=(day + at) << 96) for at in (0, 1))
            await self._connection.execute(DAY.format(schema=self._schema, day=day, first=first, last=last))
        self._database = await PooledDatabase.open(self._url, application_name="benchmark", most=2)
        self._jobs = PostgresJobs(self._database, schema=self._schema)
        worker = NewWorker(
            id=self._claimer.worker_id,
            name="one",
            host="here",
            pid=1,
            queues=SCOPE.queues,
            kinds=SCOPE.kinds,
            capacity=LIMIT,
        )
        await PostgresWorkers(self._database, schema=self._schema).register(worker)
        self._claiming = claimer_database(self._url, application_name=self._schema)
        self._dispatch = PostgresDispatch(self._claiming, schema=self._schema)

    async def claim(self, batch: int) -> None:
        """Store so many jobs, and claim them."""
        await self._jobs.enqueue(
            [NewJob(id=new_id(), shape=Shape(queue=QUEUE, kind=KIND)) for _ in range(batch)]
        )
        await self._dispatch.lanes(SCOPE)
        pid = await self._connection.fetchval(SESSION, self._schema)
        worked, began = processor_s(pid), monotonic()
        leases = await self._dispatch.claim(self._claimer, SCOPE, limit=LIMIT)
        self._took.setdefault(batch, []).append((monotonic() - began, processor_s(pid) - worked))
        if len(leases) != batch:
            raise SystemExit(f"{len(leases)} jobs were claimed where {batch} waited")

    def report(self) -> None:
        for batch, took in self._took.items():
            elapsed, worked = (1e6 * median(column) for column in zip(*took[WARM:], strict=True))
            print(
                f"{self._days:4} days more, {batch:4} jobs: {worked:6,.0f} µs of the server's processor, answered after {elapsed:6,.0f} µs"
            )

    async def close(self) -> None:
        for one in (self._claiming, self._database, self._connection):
            await one.close()
        await drop_schema(self._url, self._schema)


def processor_s(pid: int) -> float:
    """How long a process has run; 0 where that is not told."""
    told = Path(f"/proc/{pid}/schedstat")
    return int(told.read_text().split()[0]) / 1e9 if told.exists() else 0.0


async def measure(url: str, days: Sequence[int], batches: Sequence[int], claims: int) -> None:
    lines = [Line(url, more) for more in days]
    try:
        for line in lines:
            await line.open()
        for number in range(WARM + claims):
            for batch in batches:
                for line in lines if number % 2 else reversed(lines):
                    await line.claim(batch)
        for line in lines:
            line.report()
    finally:
        for line in lines:
            await line.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, LIMIT])
    parser.add_argument("--days", type=int, nargs="+", default=[0, 30])
    parser.add_argument("--claims", type=int, default=500)
    given = parser.parse_args()
    asyncio.run(measure(given.url, given.days, given.batches, given.claims))


if __name__ == "__main__":
    main()
