"""streaQ on Redis streams."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from driving import BIN, DEFAULTS, REDIS_URL, Producer, concurrency, run
from streaq import Worker

worker_app = Worker(redis_url=REDIS_URL, concurrency=concurrency(100), anyio_kwargs={"use_uvloop": True})


async def job(n: int) -> None:
    await run(n)


task = worker_app.task(job) if DEFAULTS else worker_app.task(ttl=0, silent=True)(job)


def prepare() -> None:
    """Nothing: its streams appear when they are needed."""


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    async def one(n: int) -> None:
        await task.enqueue(n)

    async def many(numbers: Sequence[int]) -> None:
        await worker_app.enqueue_many([task.enqueue(n) for n in numbers])

    async with worker_app:
        yield Producer(one=one, many=many)


def worker() -> Sequence[str]:
    return [str(BIN / "streaq"), "run", "streaq_driver:worker_app"]
