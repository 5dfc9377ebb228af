"""Perdure, on PostgreSQL alone or, as the variant `redis`, with Redis in front of it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from driving import BIN, DATABASE_URL, DEFAULTS, REDIS_URL, VARIANT, Producer, concurrency, run

from perdure import Perdure, job


@job(name="noop", queue="bench")
async def noop(n: int) -> None:
    await run(n)


def settings() -> dict[str, str]:
    return {"database_url": DATABASE_URL, "redis_url": REDIS_URL if VARIANT == "redis" else ""}


async def prepare() -> None:
    command = [str(BIN / "perdure"), "db", "migrate", "--database-url", DATABASE_URL]
    process = await asyncio.create_subprocess_exec(*command, stdout=sys.stderr)
    if await process.wait():
        raise SystemExit(process.returncode)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    async with Perdure(**settings()) as app:

        async def one(n: int) -> None:
            await app.enqueue(noop, n)

        async def many(numbers: Sequence[int]) -> None:
            await app.enqueue_many([app.prepare(noop, n) for n in numbers])

        yield Producer(one=one, many=many, many_at_a_time=5_000, many_callers=3)


def worker() -> Sequence[str]:
    command = [
        str(BIN / "perdure"),
        "worker",
        "run",
        __file__,
        "--queues",
        "bench",
        "--database-url",
        DATABASE_URL,
    ]
    command += ["--processes", os.environ.get("PEER_PROCESSES", "1")]
    if VARIANT == "redis":
        command += ["--redis-url", REDIS_URL]
    return [*command, "--concurrency", str(concurrency(100))] if DEFAULTS else command
