"""Oban for Python on PostgreSQL, its open edition."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from driving import BIN, DATABASE_URL, Producer, concurrency, run
from oban import Oban
from oban import worker as oban_worker
from oban.job import Job
from oban.schema import install


@oban_worker(queue="default")
class Noop:
    """The job; a function as a job would have its arguments bound twice."""

    async def process(self, job: Job) -> None:
        await run(job.args["n"])


async def prepare() -> None:
    pool = await Oban.create_pool(DATABASE_URL)
    await install(pool)
    await pool.close()


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    pool = await Oban.create_pool(DATABASE_URL)
    async with Oban(pool=pool) as oban:

        async def one(n: int) -> None:
            await oban.enqueue(Noop.new({"n": n}))

        async def many(numbers: Sequence[int]) -> None:
            await oban.enqueue_many(Noop.new({"n": n}) for n in numbers)

        yield Producer(one=one, many=many)
    await pool.close()


def worker() -> Sequence[str]:
    options = ["--queues", f"default:{concurrency(100)}", "--cron-modules", "oban_driver"]
    return [str(BIN / "oban"), "start", "--dsn", DATABASE_URL, "--log-level", "warning", *options]
