"""Overload at full size. Each takes minutes and up to ten gigabytes of disk, so it is played only when it is asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from statistics import median, quantiles
from time import monotonic

from perdure import Perdure, job
from perdure.torture import jobs
from perdure.torture.pace import jobs_per_s
from perdure.torture.place import Place
from perdure.torture.scenario import Scenario, story

DURABLE = {"fsync": "on", "full_page_writes": "on"}
CHUNK = 5_000
URGENT = 5

BACKLOG = 1_000_000
TRICKLE, TRICKLE_EVERY_S = 600, 0.1
WAIT_P99_MS = 1_000.0

KEPT_BACK, LIMIT_KEPT_MS = 33_000, 600_000
ROUNDS = 5
LEAST_SHARE = 0.5

DELAYED, SPREAD_S = 10_000_000, 30 * 86_400.0
DUE, DUE_AFTER_S, DUE_FOR_S = 120_000, 20.0, 60.0
LAG_P99_MS = 1_000.0

HOSTS, PROCESSES = 34, 3
CONNECTIONS_OF_A_WORKER = 20
MANY = 20_000
IDLE_S = 10.0
COMMITS_PER_PROCESS_S = 10.0

FLOOD_S, CALLERS, EACH_EVERY_S, NAP_MS, PART_S = 600.0, 30, 0.05, 20, 60.0
SLOWER_MOST, RATE_LEAST, GROWTH_MOST_MB = 2.0, 0.7, 30.0


@job
async def nobody_here() -> None:
    """Workers import another file, so that none of them knows this kind."""


@story(
    Scenario(
        name="million-and-trickle",
        numbers=(23,),
        produced="a million jobs of priority 1 wait, one host with two processes works them off, and 10 a second of priority 5 come for a minute",
        holds="99 of 100 urgent jobs start within a second, though all cores are busy",
        postgres=DURABLE,
        flood=True,
    )
)
async def million_and_trickle(place: Place) -> None:
    low, urgent = place.app.using(priority=1), place.app.using(priority=URGENT)
    began = monotonic()
    for _ in range(BACKLOG // CHUNK):
        await place.load.store([low.prepare(jobs.nap, 1) for _ in range(CHUNK)])
    stored_s = monotonic() - began
    await place.host(processes=2, concurrency=100)
    await place.done_with(CHUNK)
    began, before = monotonic(), await _done(place)
    for _ in range(TRICKLE):
        await place.load.store([urgent.prepare(jobs.nap, 1)])
        await place.pause(TRICKLE_EVERY_S)
    rate = (await _done(place) - before) / (monotonic() - began)
    p50, p99 = await place.evidence.waits_ms(URGENT)
    place.remarks.append(
        f"urgent ones waited {p50:.0f} ms (median) and {p99:.0f} ms (99 of 100), while {rate:,.0f} jobs/s of the others were done; "
        f"the million was stored at {BACKLOG / stored_s:,.0f} jobs/s"
    )
    place.expect(p99 < WAIT_P99_MS, f"one in a hundred urgent jobs waited {p99:.0f} ms")


@story(
    Scenario(
        name="blocked-ahead",
        numbers=(24,),
        produced="99,000 older jobs of higher priority cannot run: a third waits for a full concurrency key, a third is of a paused queue, a third of a kind that no worker has",
        holds="those behind them are at least half as fast as without them",
        postgres=DURABLE,
        flood=True,
    )
)
async def blocked_ahead(place: Place) -> None:
    act = (await place.app.stores()).act
    await place.host(processes=2, concurrency=100, queues=("default", "paused"))
    await place.warm()
    free = median([await jobs_per_s(place) for _ in range(ROUNDS)])
    first, plain = place.app.using(priority=URGENT, concurrency_key="full"), place.app.using(priority=URGENT)
    paused = place.app.using(priority=URGENT, queue="paused")
    await place.load.store([paused.prepare(jobs.nap, 0)])
    await act.pause("paused", actor="torture")
    await place.load.store([first.prepare(jobs.shares, LIMIT_KEPT_MS) for _ in range(jobs.LIMIT)])
    for _ in range(KEPT_BACK // 1_000):
        await place.load.store([first.prepare(jobs.shares, 1) for _ in range(1_000)])
        await place.load.store([paused.prepare(jobs.nap, 1) for _ in range(1_000)])
        await place.load.store([plain.prepare(nobody_here) for _ in range(1_000)])
    behind = median([await jobs_per_s(place) for _ in range(ROUNDS)])
    place.remarks.append(f"{free:,.0f} jobs/s without them, {behind:,.0f} behind them")
    place.expect(behind >= LEAST_SHARE * free, f"{behind:,.0f} jobs/s are less than half of {free:,.0f}")


@story(
    Scenario(
        name="millions-delayed",
        numbers=(25,),
        produced="ten million jobs wait for their time within thirty days, and 2,000 others a second become due for a minute",
        holds="99 of 100 of them start within a second of their time",
        postgres=DURABLE,
        flood=True,
    )
)
async def millions_delayed(place: Place) -> None:
    for _ in range(DELAYED // CHUNK):
        await _delay(place.app, place.rng, CHUNK, after_s=3_600.0, for_s=SPREAD_S)
    await place.host(processes=2, concurrency=100)
    await place.warm()
    due = monotonic() + DUE_AFTER_S
    for _ in range(DUE // CHUNK):
        await _delay(place.app, place.rng, CHUNK, after_s=due - monotonic(), for_s=DUE_FOR_S, times=CHUNK)
    await place.pause(max(0.0, due + DUE_FOR_S - monotonic()))
    await place.done_with(DUE)
    p50, p99 = await place.evidence.lags_ms()
    place.remarks.append(f"they started {p50:.0f} ms (median) and {p99:.0f} ms (99 of 100) after their time")
    place.expect(p99 < LAG_P99_MS, f"one in a hundred started {p99:.0f} ms late")


async def _delay(
    app: Perdure, rng: Random, count: int, *, after_s: float, for_s: float, times: int = 10
) -> None:
    """Enqueue jobs that become due at so many moments drawn from a span; their ids are not remembered."""
    moments = [app.using(delay=f"{int(1000 * (after_s + rng.random() * for_s))}ms") for _ in range(times)]
    await app.enqueue_many([one.prepare(jobs.nap, 0) for one in moments for _ in range(count // times)])


@story(
    Scenario(
        name="hundred-processes",
        numbers=(43,),
        produced="thirty-four hosts with three processes each work 20,000 jobs off on one database and are idle then",
        holds="each worker has at most 20 connections, an idle process costs at most 10 transactions a second, and nothing is late",
        within_s=300,
        postgres={**DURABLE, "max_connections": str(HOSTS * CONNECTIONS_OF_A_WORKER + 50)},
        flood=True,
    )
)
async def hundred_processes(place: Place) -> None:
    for _ in range(HOSTS):
        await place.host(processes=PROCESSES)
    async with _most_sessions(place) as most:
        began = monotonic()
        for _ in range(MANY // CHUNK):
            await place.load.add(CHUNK)
        place.struck()
        await place.recover(within_s=300)
        rate = MANY / (monotonic() - began)
    before = await place.fleet.commits()
    await place.pause(IDLE_S)
    each = (await place.fleet.commits() - before) / IDLE_S / (HOSTS * PROCESSES)
    place.remarks.append(
        f"{rate:,.0f} jobs/s of all sorts, {max(most)} connections at most, {each:.1f} transactions a second and idle process"
    )
    place.expect(await place.fleet.workers_in("active") == HOSTS, "not all of them live")
    place.expect(max(most) <= HOSTS * CONNECTIONS_OF_A_WORKER, f"there were {max(most)} connections")
    place.expect(each <= COMMITS_PER_PROCESS_S, f"an idle process costs {each:.1f} transactions a second")


@asynccontextmanager
async def _most_sessions(place: Place) -> AsyncIterator[list[int]]:
    """How many connections workers had, looked at again and again meanwhile."""
    seen = [0]

    async def looking() -> None:
        while True:
            seen.append(await place.fleet.sessions_of_workers())
            await asyncio.sleep(0.25)

    task = asyncio.create_task(looking())
    try:
        yield seen
    finally:
        task.cancel()


@story(
    Scenario(
        name="fast-producers",
        numbers=(23,),
        produced="for ten minutes thirty producers enqueue one job after the other, three times as many as the one process of the only host can work off",
        holds="in the last minute an enqueue takes at most twice as long as in the second, 70 % of the pace stay, and the worker does not grow",
        postgres=DURABLE,
        flood=True,
    )
)
async def fast_producers(place: Place) -> None:
    host = await place.host(processes=1, concurrency=4)
    await place.warm()
    process = host.tree()[1]
    minutes: list[list[float]] = [[] for _ in range(int(FLOOD_S / PART_S))]
    done, grown = [await _done(place)], [process.memory_info().rss]
    producing = asyncio.gather(*(_produce(place, minutes) for _ in range(CALLERS)))
    for _ in minutes:
        await place.pause(PART_S)
        done.append(await _done(place))
        grown.append(process.memory_info().rss)
    await producing
    rates = [(after - before) / PART_S for before, after in pairwise(done)]
    first, last = (quantiles(minutes[at], n=100) for at in (1, -1))
    growth = (grown[-1] - grown[2]) / 2**20
    place.remarks.append(
        f"an enqueue took {first[49]:.1f} ms (99 of 100: {first[98]:.0f}) in the second minute and {last[49]:.1f} ms ({last[98]:.0f}) in the last; "
        f"{rates[1]:,.0f} jobs/s were done, and {rates[-1]:,.0f}; {len(place.load.acknowledged) - done[-1]:,} waited at the end; "
        f"the worker's process grew by {growth:.0f} MB"
    )
    place.expect(last[49] <= SLOWER_MOST * first[49], "an enqueue took more than twice as long")
    place.expect(rates[-1] >= RATE_LEAST * rates[1], "work slowed down")
    place.expect(growth <= GROWTH_MOST_MB, f"the worker's process grew by {growth:.0f} MB")


async def _produce(place: Place, minutes: list[list[float]]) -> None:
    """Enqueue one job after the other, and note by the minute how many milliseconds each took."""
    began = monotonic()
    while (at := monotonic() - began) < FLOOD_S:
        handle = await place.app.enqueue(jobs.nap, NAP_MS)
        took_s = monotonic() - began - at
        place.load.acknowledged.append(handle.id)
        minutes[int(at / PART_S)].append(took_s * 1000)
        await asyncio.sleep(max(0.0, EACH_EVERY_S - took_s))


async def _done(place: Place) -> int:
    return sum((await place.evidence.outcomes()).values())
