"""Procrastinate on PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from driving import BIN, DATABASE_URL, DEFAULTS, Producer, concurrency, run
from procrastinate import App, PsycopgConnector

pool = {} if DEFAULTS else {"max_size": 20}
app = App(connector=PsycopgConnector(conninfo=DATABASE_URL, **pool))


@app.task(name="job")
async def job(n: int) -> None:
    await run(n)


async def prepare() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    async def one(n: int) -> None:
        await job.defer_async(n=n)

    async def many(numbers: Sequence[int]) -> None:
        await job.batch_defer_async(*({"n": n} for n in numbers))

    async with app.open_async():
        yield Producer(one=one, many=many)


def worker() -> Sequence[str]:
    options = ["--log-level", "warning", "worker", "--concurrency", str(concurrency(100))]
    return [str(BIN / "procrastinate"), "--app", "procrastinate_driver.app", *options]
