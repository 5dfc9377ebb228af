"""How fast jobs are stored: one after another, by concurrent callers, in bulk."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import TypeVar

from perdure.bench.figures import Sample
from perdure.bench.jobs import QUEUE, noop
from perdure.bench.stage import Stage
from perdure.domain.errors import DatabaseUnavailable
from perdure.domain.ids import JobIds
from perdure.runtime.app import Enqueuer
from perdure.stores.postgres.floors import Row

T = TypeVar("T")

ARGS = '{"n":1}'
SHARE = 250
"""So many single enqueues in turn with as many bare inserts."""

REST_S = 0.03
"""Before each share. What was just stored is told to claimers meanwhile; and a machine that lends out its processors by the moment gives
more to whoever has rested, so both rest."""

BULK_TURNS = 3
"""So often a bulk enqueue in turn with a COPY of as many rows; each lasts less than a second."""

BULK_CALLERS = 3
"""Calls at a time: one is encoded while the server stores the others."""


async def one(stage: Stage) -> Sample:
    """Each job durable before the next is enqueued, in turn with bare inserts."""
    count = stage.effort.single_enqueues
    beside = rows(count)
    shares = [range(start, min(count, start + SHARE)) for start in range(0, count, SHARE)]
    async with stage.cleared(), stage.producer() as app, stage.floors.beside() as insert:

        async def enqueue(share: range) -> float:
            await asyncio.sleep(REST_S)
            began = perf_counter()
            for n in share:
                await app.enqueue(noop, n)
            return perf_counter() - began

        async def bare(share: range) -> float:
            await asyncio.sleep(REST_S)
            return await insert(beside[share.start : share.stop])

        await app.enqueue(noop, 0)
        ours_s, bare_s = await in_turn(shares, enqueue, bare)
        flush_ms = await stage.floors.flush_ms(rows(stage.effort.commits))
    return Sample(
        values={"enqueue_one": count / ours_s},
        floors={"enqueue_one": count / bare_s},
        beside={"flush_ms": flush_ms},
    )


async def concurrent(stage: Stage) -> Sample:
    """Many callers at a time, each answered when its job is durable."""
    count, callers = stage.effort.single_enqueues, stage.effort.callers

    async def call(numbers: Iterable[int]) -> None:
        for n in numbers:
            await app.enqueue(noop, n)

    async with stage.cleared(), stage.producer() as app:
        await app.enqueue(noop, 0)
        began = perf_counter()
        await asyncio.gather(*(call(range(caller, count, callers)) for caller in range(callers)))
        rate = count / (perf_counter() - began)
        floors = {}
        try:
            floors["enqueue_concurrent"] = await stage.floors.from_many(rows(count), connections=callers)
        except DatabaseUnavailable:  # the server allows fewer connections; the figure itself needs one
            floors.clear()
    return Sample(values={"enqueue_concurrent": rate}, floors=floors)


async def bulk(stage: Stage) -> Sample:
    """Large calls of `enqueue_many`, in turn with COPY, each into tables in which nothing is yet."""
    count = stage.effort.bulk_jobs

    async def enqueue(_: int) -> float:
        async with stage.cleared(), stage.producer() as app:
            await app.enqueue(noop, 0)
            await asyncio.sleep(REST_S)
            began = perf_counter()
            await fill(app.using(queue=QUEUE), count, stage.effort.bulk_call)
            return perf_counter() - began

    async def copy(_: int) -> float:
        async with stage.cleared():
            await asyncio.sleep(REST_S)
            return count / await stage.floors.in_bulk(rows(count))

    ours_s, bare_s = await in_turn(range(BULK_TURNS), enqueue, copy)
    done = BULK_TURNS * count
    return Sample(values={"enqueue_bulk": done / ours_s}, floors={"enqueue_bulk": done / bare_s})


async def in_turn(
    shares: Iterable[T], ours: Callable[[T], Awaitable[float]], bare: Callable[[T], Awaitable[float]]
) -> tuple[float, float]:
    """The seconds that each of the two took for all shares, in alternating order: a machine changes its pace from second to second."""
    spent = {ours: 0.0, bare: 0.0}
    order = [ours, bare]
    for share in shares:
        for way in order:
            spent[way] += await way(share)
        order.reverse()
    return spent[ours], spent[bare]


async def fill(using: Enqueuer, count: int, per_call: int) -> None:
    """Enqueue jobs that do nothing, in calls of this size."""
    starts = iter(range(0, count, per_call))

    async def call() -> None:
        for start in starts:
            numbers = range(start, min(count, start + per_call))
            await using.enqueue_many([using.prepare(noop, n) for n in numbers])

    await asyncio.gather(*(call() for _ in range(BULK_CALLERS)))


def rows(count: int) -> list[Row]:
    """Jobs as the bare statements store them."""
    ids = JobIds(time.time_ns, os.urandom)
    return [(ids(), number, ARGS) for number in range(count)]
