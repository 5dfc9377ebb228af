"""Jobs for the fault tests."""

import asyncio
import os
import signal
import time
from pathlib import Path

from perdure import Context, Fixed, job

AT_ONCE = Fixed("10ms")


@job(retries=5, retry=AT_ONCE)
async def nap(ms: int) -> int:
    await asyncio.sleep(ms / 1000)
    return ms


@job
async def noop(n: int) -> None:
    return None


@job(retries=5, retry=AT_ONCE)
async def poison() -> None:
    """Kill the process that runs it, every time."""
    os.kill(os.getpid(), signal.SIGKILL)


@job(retries=5, retry=AT_ONCE, mode="process")
def cpu_poison() -> None:
    """Die as by a segmentation fault."""
    os.kill(os.getpid(), signal.SIGSEGV)


@job(retries=0, timeout="1s")
async def hog() -> None:
    """Keep the interpreter busy for a minute: its own process cannot stop it."""
    time.sleep(60)  # noqa: ASYNC251 # blocking the loop is the fault


KEPT: list[bytearray] = []


@job
async def grow(megabytes: int) -> None:
    """Keep memory for as long as the process lives."""
    KEPT.append(bytearray(b"x" * (megabytes << 20)))


@job
async def tells(ctx: Context, ms: int) -> None:
    """Report progress, which takes a connection of its own."""
    await ctx.progress(0.5, "half")
    await asyncio.sleep(ms / 1000)


@job
async def tells_async(ctx: Context) -> None:
    await ctx.progress(0.5, "half")


@job
def tells_thread(ctx: Context) -> None:
    ctx.progress_sync(0.5, "half")


@job(mode="process")
def tells_process(ctx: Context) -> None:
    ctx.progress_sync(0.5, "half")


def asked_before(marker: str) -> bool:
    """Whether the file is there; it is from now on."""
    before = Path(marker).exists()
    Path(marker).touch()
    return before


def note(marker: str) -> None:
    Path(marker).write_text("asked")


@job(retries=5, retry=AT_ONCE)
async def stubborn(marker: str) -> None:
    """Heed no request to stop the first time; the file remembers that there was one."""
    again = asked_before(marker)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if again:
                raise
            note(marker)


@job
async def long_async(count: int) -> str:
    return "x" * count


@job
def long_thread(count: int) -> str:
    return "x" * count


@job(mode="process")
def long_process(count: int) -> str:
    return "x" * count


@job
async def keeps_the_interpreter(seconds: float) -> float:
    """Hold the interpreter lock all the time: a sort in C lets nobody else in between."""
    began = time.monotonic()
    while (took := time.monotonic() - began) < seconds:
        sorted(range(3_000_000, 0, -1), key=int)
    return took
