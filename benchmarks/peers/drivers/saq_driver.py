"""SAQ on Redis or, as the variant `postgres`, on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop
from driving import BIN, DATABASE_URL, DEFAULTS, REDIS_URL, VARIANT, Producer, concurrency, run
from saq import Queue

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
queue = Queue.from_url(DATABASE_URL if VARIANT == "postgres" else REDIS_URL)


async def job(_context: object, *, n: int) -> None:
    await run(n)


settings = {"queue": queue, "functions": [job], "concurrency": concurrency(100)}


async def prepare() -> None:
    await queue.connect()
    await queue.disconnect()


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    options = {} if DEFAULTS else {"ttl": -1}

    async def one(n: int) -> None:
        await queue.enqueue("job", n=n, **options)

    await queue.connect()
    yield Producer(one=one)
    await queue.disconnect()


def worker() -> Sequence[str]:
    return [str(BIN / "saq"), "saq_driver.settings"]
