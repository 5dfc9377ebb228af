"""Dramatiq on Redis, with a blocking actor: its async middleware is slower."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from driving import BIN, REDIS_URL, Producer, concurrency, run_blocking

dramatiq.set_broker(RedisBroker(url=REDIS_URL))


@dramatiq.actor
def job(n: int) -> None:
    run_blocking(n)


def prepare() -> None:
    """Nothing: its lists appear when they are needed."""


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    yield Producer(one=job.send)


def worker() -> Sequence[str]:
    return [str(BIN / "dramatiq"), "-p", "1", "-t", str(concurrency(8)), "dramatiq_driver"]
