"""Runs one driver in the environment of its system: `drive.py MODULE prepare|worker|one|concurrent|bulk|fill|steady NUMBER…`.

It prints one line of JSON; `worker` becomes the worker instead. Drivers are imported by their names, under which workers
find their jobs again. Needs the standard library, and uvloop where the environment has it.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from driving import Producer


def main(module: str, what: str, *numbers: str) -> None:
    driver = importlib.import_module(module)
    if what == "worker":
        command = driver.worker()
        os.execvp(command[0], command)  # a worker as a user has it, without this program around it
    with asyncio.Runner(loop_factory=_quickest_loop()) as runner:
        answer = runner.run(_answer(driver, what, [int(number) for number in numbers]))
    sys.stdout.write(json.dumps(answer) + "\n")


def _quickest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _answer(driver: Any, what: str, numbers: list[int]) -> object:
    if what == "prepare":
        prepared = driver.prepare()
        if inspect.isawaitable(prepared):
            await prepared
        return {}
    async with driver.producer() as producer:
        ways = {"one": _one, "concurrent": _concurrent, "bulk": _bulk, "fill": _fill, "steady": _steady}
        return await ways[what](producer, *numbers)


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


if __name__ == "__main__":
    main(*sys.argv[1:])
