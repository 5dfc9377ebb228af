"""taskiq on Redis streams, whose messages are acknowledged."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from driving import BIN, REDIS_URL, Producer, concurrency, run
from taskiq_redis import RedisStreamBroker

# `0` makes the group read what was sent before its first worker came.
broker = RedisStreamBroker(url=REDIS_URL, consumer_id="0")


@broker.task(task_name="job")
async def job(n: int) -> None:
    await run(n)


async def prepare() -> None:
    await broker.startup()
    await broker.shutdown()


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    await broker.startup()
    yield Producer(one=job.kiq)
    await broker.shutdown()


def worker() -> Sequence[str]:
    options = [
        "--workers",
        "1",
        "--max-async-tasks",
        str(concurrency(100)),
        "--no-parse",
        "--log-level",
        "WARNING",
    ]
    return [str(BIN / "taskiq"), "worker", *options, "taskiq_driver:broker"]
