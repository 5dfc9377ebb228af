"""The jobs of a torture run. Importing this file is all that its workers know of them."""

import asyncio
import os
import signal
import time

import asyncpg

from perdure import Context, Fixed, Perdure, job
from perdure.stores.postgres.statements import statements

AT_ONCE = Fixed("10ms")
LIMIT = 2
"""Jobs of one concurrency key that may run at a time."""


@job(retries=5, retry=AT_ONCE)
async def nap(ms: int) -> int:
    """Work that takes some time."""
    await asyncio.sleep(ms / 1000)
    return ms


@job(retries=5, retry=AT_ONCE)
async def flaky(ctx: Context) -> int:
    """Fail once."""
    if ctx.attempt == 1:
        raise ValueError("the first attempt fails on purpose")
    return ctx.attempt


@job(retries=5, retry=AT_ONCE, concurrency_limit=LIMIT)
async def shares(ms: int) -> int:
    """Work of which only so much goes on at a time, by the key of the enqueue."""
    await asyncio.sleep(ms / 1000)
    return ms


@job(retries=5, retry=AT_ONCE)
async def effect(ctx: Context, database_url: str, ms: int = 0) -> None:
    """Leave a mark in a transaction of its own that settles the job too; so there is exactly one mark."""
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute(statements("faults")["leave_effect"].numbered(), ctx.job_id)
            await asyncio.sleep(ms / 1000)
            await ctx.complete(connection)
    finally:
        connection.terminate()


@job(retries=5, retry=AT_ONCE)
async def follows(ms: int) -> None:
    """Enqueue a job from here; its id carries the time of this process."""
    async with Perdure() as app:
        await app.enqueue(nap, ms)


@job(retries=5, retry=AT_ONCE)
async def poison() -> None:
    """Kill the process that runs it, every time."""
    os.kill(os.getpid(), signal.SIGKILL)


@job(retries=5, retry=AT_ONCE)
async def segfault() -> None:
    """Read what is no memory, every time."""
    import ctypes

    ctypes.string_at(0)


@job(retries=5, retry=AT_ONCE, timeout="60s")
async def gluttony(mb: int) -> int:
    """Take memory without end; whoever limits it ends the process."""
    eaten = []
    for _ in range(mb):
        eaten.append(bytearray(b"x" * (1 << 20)))
        await asyncio.sleep(0)
    return len(eaten)


@job(retries=0, timeout="1s")
async def hog(seconds: float) -> None:
    """Keep the interpreter to itself: its own process cannot stop it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sorted(range(10_000), key=int)
