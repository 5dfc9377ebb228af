"""Whether the cost of a job stays what it is: with much waiting, with much history, with a horizon that stands still, with many."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import harmonic_mean
from time import monotonic

from perdure import Perdure
from perdure.bench.enqueueing import fill
from perdure.bench.figures import Sample
from perdure.bench.jobs import QUEUE, WARM, noop
from perdure.bench.stage import ACTOR, Stage
from perdure.runtime.operations import SpawnedWorker
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.measures import PostgresMeasures

MANY_QUEUES = tuple(f"{QUEUE}_{number}" for number in range(100))
ALONE = (QUEUE,)
TURNS = 3
"""So often the same is measured in a row: one alone lasts a second or a few, and a shared machine is not even."""
UNDER_WAY_S = 0.2
"""After so long hardly a claim is under way any more that began before the worker was cordoned."""


class Line:
    """A worker at work, and queues that are filled while it takes nothing."""

    def __init__(self, stage: Stage, app: Perdure, measures: PostgresMeasures, worker: SpawnedWorker) -> None:
        self.effort = stage.effort
        self._stage = stage
        self._app = app
        self._measures = measures
        self._worker = worker

    async def pace(
        self, waiting: int, *, counted: int, queues: Sequence[str] = ALONE, vacuumed: bool = False
    ) -> float:
        """Fill the queues, and give the jobs a second over the first `counted` that are settled then.

        With `vacuumed` the server has done before what storing left behind: autovacuum, and whoever has to write a page of others before it can
        read one, would slow down some drains by a quarter, and others not.
        """
        health, worker_id = self._app.health, self._worker.worker_id
        await health.cordon(worker_id, actor=ACTOR)
        await asyncio.sleep(UNDER_WAY_S)
        for queue in queues:
            await fill(self._app.using(queue=queue), waiting // len(queues), self.effort.bulk_call)
        if vacuumed:
            await self._stage.vacuum()
        # Where dead rows lie by the million a claim may have been under way for longer, and have taken some.
        counted = await self._measures.waiting(counted)
        since = await self._measures.now()
        await health.uncordon(worker_id, actor=ACTOR)
        await self._app.using(queue=WARM).enqueue(noop, 0)
        return await self._stage.settled(self._measures, self._worker, since, counted)

    async def empty(self, queues: Sequence[str] = ALONE) -> None:
        """Wait until nothing of the queues waits or runs."""
        for queue in queues:
            await self._stage.finished(self._measures, self._worker, queue)


@asynccontextmanager
async def line(stage: Stage, *, processes: int = 1, queues: Sequence[str] = ALONE) -> AsyncIterator[Line]:
    """An empty schema with a worker whose processes are all at work."""
    async with (
        stage.cleared() as measures,
        stage.producer() as app,
        stage.worker(app, processes=processes, queues=queues) as worker,
    ):
        await stage.warm(app, measures, worker, processes=processes)
        yield Line(stage, app, measures, worker)


async def backlog(stage: Stage) -> Sample:
    """A long backlog against a short one: each several times, for as many jobs take a second or two, and after a vacuum.

    Short ones before and after: until the long one has been stored, a shared machine may have changed its pace.
    """
    short, long = stage.effort.drained_jobs, stage.effort.backlog_jobs
    before = await _backlogs(stage, short)
    among = await _backlogs(stage, long)
    after = await _backlogs(stage, short)
    return Sample(values={"backlog_slowdown": harmonic_mean(among) / harmonic_mean([*before, *after])})


async def _backlogs(stage: Stage, waiting: int) -> list[float]:
    """The rates while so many wait, filled up between them."""
    async with line(stage) as one:
        return [*await _again(one, waiting, 1), *await _again(one, stage.effort.drained_jobs, TURNS - 1)]


async def _again(one: Line, waiting: int, turns: int) -> list[float]:
    """The rates of some drains, each after so many jobs more. The last tenth, after which nothing may wait, is not counted."""
    count = one.effort.drained_jobs
    return [await one.pace(waiting, counted=count - count // 10, vacuumed=True) for _ in range(turns)]


async def pinned(stage: Stage) -> Sample:
    """A transaction is held open, so that no row that is deleted can be vacuumed away, against the same without.

    While it is held, the queue is filled and drained until the time is up. What counts are the last drains, a few of them, or those of the
    last minute where it is held for long: the leader's duties come by the minute and slow down some of them. Nothing is vacuumed before them:
    what autovacuum does in vain meanwhile is a part of what is measured.
    """
    count, counted_s = stage.effort.pinned_jobs, stage.effort.pinned_counted_s
    async with line(stage) as one:
        free = await _drains(one, count, counted_s)
        await one.empty()
        holder = await PooledDatabase.open(stage.url, application_name="perdure bench: holder", most=1)
        try:
            async with holder.transaction() as connection:
                await PostgresMeasures.pin(connection)
                until = monotonic() + stage.effort.pinned_s - counted_s
                while monotonic() < until:
                    await one.pace(count, counted=count)
                held = await _drains(one, count, counted_s)
        finally:
            await holder.close()
    return Sample(values={"pinned_slowdown": harmonic_mean(held) / harmonic_mean(free)})


async def _drains(one: Line, count: int, seconds: float) -> list[float]:
    """The rates of as many drains as begin in that time, a few at least."""
    rates: list[float] = []
    until = monotonic() + seconds
    while len(rates) < TURNS or monotonic() < until:
        rates.append(await one.pace(count, counted=count))
    return rates


async def history(stage: Stage) -> Sample:
    """With a long history of executions, against new schemas before and after it: each several times, and after a vacuum."""
    count = stage.effort.drained_jobs
    before = await _backlogs(stage, count)
    async with line(stage) as one:
        await one.pace(stage.effort.history_jobs, counted=count)
        await one.empty()
        among = await _again(one, count, TURNS)
    after = await _backlogs(stage, count)
    return Sample(values={"history_slowdown": harmonic_mean(among) / harmonic_mean([*before, *after])})


async def queues(stage: Stage) -> Sample:
    """A hundred queues, each with its share, against one."""
    count, paces = stage.effort.drained_jobs, []
    for names in (ALONE, MANY_QUEUES):
        async with line(stage, queues=names) as one:
            paces.append(await one.pace(count, counted=count, queues=names, vacuumed=True))
    return Sample(values={"queues_slowdown": paces[1] / paces[0]})


async def fifty_processes(stage: Stage) -> Sample:
    """Fifty processes of one worker; the server must allow three connections for each."""
    return await _crowd(stage, 50, "drain_fifty_processes")


async def hundred_processes(stage: Stage) -> Sample:
    """A hundred processes of one worker."""
    return await _crowd(stage, 100, "drain_hundred_processes")


async def _crowd(stage: Stage, processes: int, name: str) -> Sample:
    count = stage.effort.drained_jobs
    async with line(stage, processes=min(processes, stage.effort.processes_max)) as one:
        return Sample(values={name: await one.pace(count, counted=count)})
