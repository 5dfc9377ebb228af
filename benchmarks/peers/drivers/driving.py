"""What all Python drivers share: the run log, the ways of enqueueing, the command line.

It runs in the environment of each system, so it needs the standard library alone. A driver says how its system is used,
by three things that it hands to `drive`:

- `prepare()` makes what the system keeps in its store, which is empty,
- `producer()` gives a connected `Producer` for as long as it is entered,
- `worker()` names the command that becomes the worker, as the system's documentation has it.
"""

import asyncio
import inspect
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
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


Prepare = Callable[[], Awaitable[object] | None]
OpenProducer = Callable[[], AbstractAsyncContextManager[Producer]]
Worker = Callable[[], Sequence[str]]


def drive(*, prepare: Prepare, producer: OpenProducer, worker: Worker, uvloop: bool = True) -> None:
    """Do what the command line says and print one line of JSON; `worker` becomes the worker instead."""
    what, *numbers = sys.argv[1:]
    if what == "worker":
        command = worker()
        os.execvp(command[0], command)  # a worker as a user has it, without this program around it
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        answer = runner.run(_answer(what, [int(number) for number in numbers], prepare, producer))
    sys.stdout.write(json.dumps(answer) + "\n")


def _loop_factory(uvloop: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not uvloop:
        return None
    import uvloop as quick

    return quick.new_event_loop


async def _answer(what: str, numbers: list[int], prepare: Prepare, producer: OpenProducer) -> object:
    if what == "prepare":
        prepared = prepare()
        if inspect.isawaitable(prepared):
            await prepared
        return {}
    async with producer() as opened:
        ways = {"one": _one, "concurrent": _concurrent, "bulk": _bulk, "fill": _fill, "steady": _steady}
        return await ways[what](opened, *numbers)


async def _call(producer: Producer, n: int) -> None:
    answered = producer.one(n)
    if inspect.isawaitable(answered):
        await answered


async def _one(producer: Producer, count: int, first: int = 0) -> object:
    began = time.perf_counter()
    for n in range(first, first + count):
        await _call(producer, n)
    return {"seconds": time.perf_counter() - began}


async def _concurrent(producer: Producer, count: int, callers: int) -> object:
    await _call(producer, 0)  # connections are opened before the clock starts
    numbers = iter(range(1, count + 1))
    began = time.perf_counter()
    if inspect.iscoroutinefunction(producer.one):
        await asyncio.gather(*(_caller(producer, numbers) for _ in range(callers)))
    else:
        with ThreadPoolExecutor(callers) as threads:
            list(threads.map(producer.one, numbers))
    return {"seconds": time.perf_counter() - began}


async def _caller(producer: Producer, numbers: Iterator[int]) -> None:
    for n in numbers:
        await _call(producer, n)


async def _bulk(producer: Producer, count: int) -> object:
    many, size = producer.many, producer.many_at_a_time
    if many is None:
        return {}
    starts = iter(range(0, count, size))

    async def call() -> None:
        for start in starts:
            await many(range(start, min(start + size, count)))

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(producer.many_callers)))
    return {"seconds": time.perf_counter() - began}


async def _fill(producer: Producer, count: int) -> object:
    """Have so many jobs wait, by whatever is quickest."""
    return await (_bulk(producer, count) if producer.many else _concurrent(producer, count - 1, 20))


async def _steady(producer: Producer, per_s: int, seconds: int) -> object:
    """Enqueue on time, whether or not the call before has been answered; tell when each call was made."""
    sent_us: list[int] = []
    calls = []
    began = time.monotonic()
    for n in range(per_s * seconds):
        await asyncio.sleep(max(0.0, began + n / per_s - time.monotonic()))
        sent_us.append(time.monotonic_ns() // 1000)
        if inspect.iscoroutinefunction(producer.one):
            calls.append(asyncio.create_task(_call(producer, n)))
        else:
            producer.one(n)
    await asyncio.gather(*calls)
    return {"sent_us": sent_us}
