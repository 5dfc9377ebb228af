"""PgQueuer on PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from driving import BIN, DATABASE_URL, DEFAULTS, Producer, concurrency, run
from pgqueuer import PgQueuer
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.models import Job


@asynccontextmanager
async def application() -> AsyncIterator[PgQueuer]:
    async with asyncpg.create_pool(DATABASE_URL) as pool:
        pgq = PgQueuer(AsyncpgPoolDriver(pool))

        @pgq.entrypoint("job")
        async def job(job: Job) -> None:
            await run(int(job.payload or b"0"))

        yield pgq


async def prepare() -> None:
    async with asyncpg.create_pool(DATABASE_URL, min_size=1) as pool:
        await Queries(AsyncpgPoolDriver(pool)).install()


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    async with asyncpg.create_pool(DATABASE_URL) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))

        async def one(n: int) -> None:
            await queries.enqueue("job", b"%d" % n)

        async def many(numbers: Sequence[int]) -> None:
            count = len(numbers)
            await queries.enqueue(["job"] * count, [b"%d" % n for n in numbers], [0] * count)

        yield Producer(one=one, many=many, many_at_a_time=5_000)


def worker() -> Sequence[str]:
    best = ["--batch-size", "100"]
    limits = ["--max-concurrent-tasks", str(concurrency(20))] if DEFAULTS else best
    return [str(BIN / "pgq"), "run", "--log-level", "WARNING", *limits, "pgqueuer_driver:application"]
