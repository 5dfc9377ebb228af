"""One process of a worker is killed while it works."""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil

from perdure.runtime.operations import SpawnedWorker
from perdure.stores.postgres.figures import PostgresFigures

PATIENCE_S = 60.0
LOOK_S = 0.01
UNDER_WAY_S = 0.05
"""Long enough for a result that was sent before the process froze to be settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A process that was killed, when, and how many jobs it held then."""

    number: int
    pid: int
    held: int
    at: datetime


async def kill_one_at_work(worker: SpawnedWorker, figures: PostgresFigures) -> Victim:
    """SIGKILL the process that holds most jobs; it is frozen first, so that what it holds is certain.

    Raises TimeoutError when none is seen at work for long.
    """
    async with asyncio.timeout(PATIENCE_S):
        return await _kill_one(worker, figures)


async def _kill_one(worker: SpawnedWorker, figures: PostgresFigures) -> Victim:
    while True:
        held = await figures.held(worker.worker_id)
        number = max(held, key=lambda one: held[one], default=0)
        process = _child(worker, number)
        if process is not None:
            process.suspend()
            await asyncio.sleep(UNDER_WAY_S)
            left = (await figures.held(worker.worker_id)).get(number, 0)
            if left:
                process.kill()
                return Victim(number=number, pid=process.pid, held=left, at=datetime.now(UTC))
            process.resume()
        await asyncio.sleep(LOOK_S)


def _child(worker: SpawnedWorker, number: int) -> psutil.Process | None:
    """The process of that number; None when it has just ended."""
    named = re.compile(rf"process {number}\b")
    try:
        for child in psutil.Process(worker.process.pid).children():
            if named.match(child.cmdline()[-1]):
                return child
    except (psutil.NoSuchProcess, IndexError):
        return None
    return None
