"""More of everything: jobs that wait, jobs that are due, workers that start at once."""

import asyncio

from perdure.runtime.new_ids import new_id
from perdure.torture import jobs
from perdure.torture.place import Place
from perdure.torture.scenario import Scenario, story

BACKLOG, CHUNK = 100_000, 5_000
TRICKLE, TRICKLE_EVERY_S = 200, 0.1
URGENT = 5
WAIT_P99_MS = 1_000.0
DELAYED, FIRST_DUE_MS, DUE_FOR_MS = 20_000, 5_000, 20_000
LAG_P99_MS = 1_000.0
HOSTS = 8
IDLE_S = 5.0
COMMITS_PER_HOST_S = 50
DRAIN_WITHIN_S = 300.0


@story(
    Scenario(
        name="backlog-and-trickle",
        numbers=(23,),
        produced="100,000 jobs of priority 1 wait, one host works them off, and 10 a second of priority 5 come meanwhile",
        holds="99 of 100 urgent jobs start within a second, though all cores are busy",
        within_s=DRAIN_WITHIN_S,
        long=True,
    )
)
async def backlog_and_trickle(place: Place) -> None:
    low, urgent = place.app.using(priority=1), place.app.using(priority=URGENT)
    for _ in range(BACKLOG // CHUNK):
        await place.load.store([low.prepare(jobs.nap, 1) for _ in range(CHUNK)])
    await place.host()
    for _ in range(TRICKLE):
        await place.load.store([urgent.prepare(jobs.nap, 1)])
        await place.pause(TRICKLE_EVERY_S)
    left = await place.evidence.unfinished(new_id())
    await place.recover(within_s=DRAIN_WITHIN_S)
    p50, p99 = await place.evidence.waits_ms(URGENT)
    place.remarks.append(
        f"urgent ones waited {p50:.0f} ms (median) and {p99:.0f} ms (99 of 100), {left:,} others to the end"
    )
    place.expect(p99 < WAIT_P99_MS, f"one in a hundred urgent jobs waited {p99:.0f} ms")


@story(
    Scenario(
        name="many-delayed",
        numbers=(25,),
        produced="20,000 delayed jobs, of which 1,000 a second become due",
        holds="99 of 100 start within a second of their time",
        long=True,
    )
)
async def many_delayed(place: Place) -> None:
    await place.host(concurrency=100)
    await place.warm()
    for _ in range(DELAYED // CHUNK):
        delays = [FIRST_DUE_MS + place.rng.randrange(DUE_FOR_MS) for _ in range(CHUNK)]
        await place.load.store([place.app.using(delay=f"{ms}ms").prepare(jobs.nap, 0) for ms in delays])
    await place.pause((FIRST_DUE_MS + DUE_FOR_MS) / 1000)
    await place.recover()
    p50, p99 = await place.evidence.lags_ms()
    place.remarks.append(f"they started {p50:.0f} ms (median) and {p99:.0f} ms (99 of 100) after their time")
    place.expect(p99 < LAG_P99_MS, f"one in a hundred started {p99:.0f} ms late")


@story(
    Scenario(
        name="all-at-once",
        numbers=(43,),
        produced="eight hosts start at the same moment, find work, and are idle then",
        holds="all of them work; an idle host costs at most 50 transactions a second",
        within_s=60,
        long=True,
    )
)
async def all_at_once(place: Place) -> None:
    await asyncio.gather(*(place.host() for _ in range(HOSTS)))
    place.struck()
    await place.load.add(HOSTS * 50)
    await place.recover()
    before = await place.fleet.commits()
    await place.pause(IDLE_S)
    per_host = (await place.fleet.commits() - before) / IDLE_S / HOSTS
    place.remarks.append(f"{per_host:.0f} transactions a second and idle host")
    place.expect(await place.fleet.workers_in("active") == HOSTS, "not all of them live")
    place.expect(per_host < COMMITS_PER_HOST_S, f"an idle host costs {per_host:.0f} transactions a second")
