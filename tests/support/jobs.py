"""Jobs that the worker of the API tests runs: each does one thing that a test looks at."""

import asyncio
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psycopg

from perdure import (
    Backoff,
    Cancel,
    ClaimLost,
    Context,
    Delays,
    Fixed,
    GiveUp,
    Perdure,
    RetryAfter,
    Snooze,
    job,
)
from tests.support.arguments import Photo, Size

LOOK_S = 0.01
SOON = Fixed("10ms")


@dataclass(frozen=True)
class Order:
    id: UUID
    size: Size
    price: Decimal
    at: datetime
    within: timedelta
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class About:
    attempt: int
    max_attempts: int
    seconds_left: float | None
    kind: str
    queue: str
    pid: int
    cancelled: bool


class Never(Exception):
    """What a job raises that always fails."""


def about_of(ctx: Context) -> About:
    left = None if ctx.deadline is None else (ctx.deadline - datetime.now(UTC)).total_seconds()
    return About(ctx.attempt, ctx.max_attempts, left, ctx.kind, ctx.queue, os.getpid(), ctx.cancelled)


async def opened(gate: str) -> None:
    """Wait until the file exists."""
    while not await asyncio.to_thread(os.path.exists, gate):  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(LOOK_S)


def opened_sync(gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(LOOK_S)


@job
async def ship(order: Order, photo: Photo) -> tuple[Order, Photo]:
    return order, photo


@job
async def add(a: int, b: int = 1) -> int:
    return a + b


@job
async def about_async(ctx: Context) -> About:
    return about_of(ctx)


@job
def about_thread(ctx: Context) -> About:
    return about_of(ctx)


@job(mode="process")
def about_process(ctx: Context) -> About:
    return about_of(ctx)


@job
async def halfway_async(ctx: Context, gate: str) -> None:
    await ctx.progress(0.5, "half\x00way")
    await opened(gate)


@job
def halfway_thread(ctx: Context, gate: str) -> None:
    ctx.progress_sync(0.5, "halfway")
    opened_sync(gate)


@job(mode="process")
def halfway_process(ctx: Context, gate: str) -> None:
    ctx.progress_sync(0.5, "halfway")
    opened_sync(gate)


@job(retry=SOON, retries=2)
async def complete_async(ctx: Context, name: str, fail_first: bool = False) -> str:
    conn = await asyncpg.connect(os.environ["PERDURE_DATABASE_URL"])
    try:
        async with conn.transaction():
            await conn.execute("INSERT INTO effects VALUES ($1, $2)", name, ctx.attempt)
            await ctx.complete(conn, f"attempt {ctx.attempt}")
            if fail_first and ctx.attempt == 1:
                raise Never("after complete, before commit")
    finally:
        await conn.close()
    return "ignored"


@job(retry=SOON, retries=2)
def complete_thread(ctx: Context, name: str, fail_first: bool = False) -> str:
    with psycopg.connect(os.environ["PERDURE_DATABASE_URL"]) as conn:
        conn.execute("INSERT INTO effects VALUES (%s, %s)", (name, ctx.attempt))
        ctx.complete_sync(conn, f"attempt {ctx.attempt}")
        if fail_first and ctx.attempt == 1:
            raise Never("after complete, before commit")
    return "ignored"


@job(mode="process", retry=SOON, retries=2)
def complete_process(ctx: Context, name: str, fail_first: bool = False) -> str:
    with psycopg.connect(os.environ["PERDURE_DATABASE_URL"]) as conn:
        conn.execute("INSERT INTO effects VALUES (%s, %s)", (name, ctx.attempt))
        ctx.complete_sync(conn, f"attempt {ctx.attempt}")
        if fail_first and ctx.attempt == 1:
            raise Never("after complete, before commit")
    return "ignored"


@job(retry=SOON)
async def complete_then_fail(ctx: Context, name: str) -> None:
    conn = await asyncpg.connect(os.environ["PERDURE_DATABASE_URL"])
    async with conn.transaction():
        await conn.execute("INSERT INTO effects VALUES ($1, $2)", name, ctx.attempt)
        await ctx.complete(conn)
    await conn.close()
    raise Never("after commit")


@job(retry=SOON)
async def complete_silently_undone(ctx: Context) -> int | None:
    conn = await asyncpg.connect(os.environ["PERDURE_DATABASE_URL"])
    transaction = conn.transaction()
    await transaction.start()
    await ctx.complete(conn, ctx.attempt)
    await (transaction.rollback() if ctx.attempt == 1 else transaction.commit())
    await conn.close()
    return None


@job(retry=SOON)
async def complete_late(ctx: Context, name: str, gate: str) -> None:
    """The first attempt loses its lease while it waits; its transaction must leave nothing."""
    conn = await asyncpg.connect(os.environ["PERDURE_DATABASE_URL"])
    try:
        async with conn.transaction():
            await conn.execute("INSERT INTO effects VALUES ($1, 1)", name)
            await opened(gate)
            await ctx.complete(conn)
    except ClaimLost:
        await conn.execute("INSERT INTO effects VALUES ($1, 0)", f"{name} lost")
        raise
    finally:
        await conn.close()


STEERS: dict[str, Any] = {
    "retry": lambda: RetryAfter("20ms", "later"),
    "snooze": lambda: Snooze("20ms"),
    "cancel": lambda: Cancel("not needed"),
    "give up": lambda: GiveUp("hopeless"),
}


@job
def steer(ctx: Context, how: str, marker: str, by_raising: bool = False) -> str | None:
    """Steers once; the file remembers that it did, since a snooze counts no attempt."""
    if Path(marker).exists():
        return f"done at attempt {ctx.attempt}"
    Path(marker).touch()
    steered: Any = STEERS[how]()
    if by_raising:
        raise steered
    return steered  # type: ignore[no-any-return] # a handler returns it, but it is no result


@job(retries=2, retry=Delays(["20ms", "40ms"]))
async def always_fails(text: str = "no") -> None:
    raise Never(text)


@job(retries=50, retry=Fixed("60ms", horizon="150ms"))
async def fails_past_its_horizon() -> None:
    raise Never("still no")


@job(retry=Backoff(base="10ms", cap="20ms"), retries=3)
def fails_twice(ctx: Context) -> int:
    if ctx.attempt < 3:
        raise Never(f"attempt {ctx.attempt}")
    return ctx.attempt


class BrokenPolicy:
    """What a mistake in a user's own policy looks like."""

    horizon = None

    def delay(self, failures: int, draw: float) -> timedelta:
        raise KeyError("no such customer")


@job(retries=1, retry=BrokenPolicy())
async def fails_with_its_policy(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise Never("at first")
    return ctx.attempt


@job(timeout="100ms", retries=0)
async def slow_async() -> None:
    await asyncio.sleep(60)


@job(timeout="100ms", retries=0)
def slow_thread(ctx: Context) -> None:
    while not ctx.cancelled:
        time.sleep(LOOK_S)


@job(timeout="100ms", retries=0)
def stuck_thread(gate: str) -> None:
    opened_sync(gate)


@job(timeout="200ms", retries=0, mode="process")
def slow_process() -> None:
    while True:
        pass


@job(timeout="100ms", retries=0)
async def swallows_cancelling(gate: str) -> None:
    while True:
        try:
            await opened(gate)
        except asyncio.CancelledError:
            continue
        return


@job(timeout="100ms", retries=0)
async def blocks_the_loop(gate: str) -> None:
    opened_sync(gate)


@job
async def wait_async(ctx: Context, gate: str, farewell: str = "") -> None:
    try:
        await opened(gate)
    except asyncio.CancelledError:
        if farewell:
            await asyncio.to_thread(Path(farewell).write_text, f"cancelled: {ctx.cancelled}")
        raise


@job
def wait_thread(ctx: Context, gate: str) -> str:
    while not ctx.cancelled and not Path(gate).exists():
        time.sleep(LOOK_S)
    return "ended"


@job(mode="process")
def wait_process(gate: str) -> None:
    opened_sync(gate)


@job(retries=0)
async def exits_async() -> None:
    raise SystemExit(3)


@job(retries=0)
def exits_thread() -> None:
    raise SystemExit(3)


@job(retries=0, mode="process")
def exits_process() -> None:
    raise SystemExit(3)


@job(retries=0)
async def interrupts_async() -> None:
    raise KeyboardInterrupt


@job(retries=0)
def interrupts_thread() -> None:
    raise KeyboardInterrupt


@job(retries=0, mode="process")
def interrupts_process() -> None:
    raise KeyboardInterrupt


@job
async def huge() -> str:
    return "x" * (2 * 1024 * 1024)


@job(mode="process")
def huge_process() -> str:
    return "x" * (2 * 1024 * 1024)


@job
async def unencodable() -> object:
    return object()


@job
async def not_a_number() -> float:
    return float("nan")


@job
async def enqueues_another(a: int) -> int:
    async with Perdure() as app:
        return await (await app.enqueue(add, a, 2)).result("10s")


@job(mode="process", retries=0, crash_limit=1)
def dies() -> None:
    os._exit(9)


@job(queue="elsewhere")
async def never_served() -> None:
    return None


@job(unique_key="only one", queue="elsewhere")
async def unique_one(n: int = 0) -> None:
    return None


@job
async def count_items(items: list[int]) -> int:
    return len(items)
