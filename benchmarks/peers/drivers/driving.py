"""What the Python drivers use: addresses, the run log, the bodies of jobs. Needs the standard library alone.

A driver is a module that says how its system is used, by three functions that `drive.py` calls:

- `prepare()` makes what the system keeps in its store, which is empty,
- `producer()` gives a connected `Producer` for as long as it is entered,
- `worker()` names the command that becomes the worker, as the system's documentation has it.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DATABASE_URL = os.environ.get("PEER_DATABASE_URL", "")
REDIS_URL = os.environ.get("PEER_REDIS_URL", "")
VARIANT = os.environ.get("PEER_VARIANT", "")
JOB_S = float(os.environ.get("PEER_JOB_MS", "0")) / 1000
DEFAULTS = bool(os.environ.get("PEER_CONCURRENCY"))
"""Whether the worker shall run at its default settings, at the concurrency given."""
BIN = Path(sys.executable).parent


def concurrency(best: int) -> int:
    """How many jobs a worker runs at a time: `best` when speed is measured."""
    return int(os.environ.get("PEER_CONCURRENCY") or best)


class RunLog:
    """One record of 30 bytes for each start of a job and, when jobs last, each end; many processes append."""

    def __init__(self) -> None:
        path = os.environ.get("PEER_RUN_LOG") or os.devnull
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def started(self, n: int) -> None:
        self._append("S", n)

    def ended(self, n: int) -> None:
        self._append("E", n)

    def _append(self, what: str, n: int) -> None:
        record = f"{what}{n:06d} {os.getpid():07d} {time.monotonic_ns() // 1000:013d}\n"
        os.write(self._file, record.encode())


run_log = RunLog()


async def run(n: int) -> None:
    """The body of every job of an async system."""
    run_log.started(n)
    if JOB_S:
        await asyncio.sleep(JOB_S)
        run_log.ended(n)


def run_blocking(n: int) -> None:
    """The body of every job of a system whose jobs block a thread or a process."""
    run_log.started(n)
    if JOB_S:
        time.sleep(JOB_S)
        run_log.ended(n)


@dataclass
class Producer:
    """How jobs are enqueued: one, answered when the system says so, and many by its best bulk call, if it has one."""

    one: Callable[[int], object]
    many: Callable[[Sequence[int]], Awaitable[object]] | None = None
    many_at_a_time: int = 1_000
    many_callers: int = 1
