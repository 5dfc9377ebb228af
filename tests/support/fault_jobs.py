"""Jobs for the fault tests."""

import asyncio
import os
import signal
import time

from perdure import Fixed, job

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
