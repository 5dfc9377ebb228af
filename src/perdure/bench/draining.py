"""How fast waiting jobs are run to their end by a real worker, and what each costs the database."""

from perdure.bench.enqueueing import fill, rows
from perdure.bench.figures import Sample
from perdure.bench.jobs import QUEUE, WARM, noop
from perdure.bench.stage import ACTOR, Stage
from perdure.domain.errors import Conflict


async def one_process(stage: Stage) -> Sample:
    """One process, and the costs of a job."""
    return await _drained(stage, "drain_one_process")


async def two_processes(stage: Stage) -> Sample:
    """Two processes of one worker."""
    return await _drained(stage, "drain_two_processes", processes=2)


async def with_redis(stage: Stage) -> Sample:
    """One process, with Redis in front of PostgreSQL."""
    return await _drained(stage, "drain_redis_one_process", redis=True)


async def _drained(stage: Stage, name: str, *, processes: int = 1, redis: bool = False) -> Sample:
    """The queue is filled while it is paused, and resumed when all processes are at work and idle.

    What is told is what the database says: from the first start to the last settling.
    """
    count = stage.effort.drained_jobs
    async with stage.cleared() as measures:
        async with stage.producer(redis=redis) as app:
            await fill(app.using(queue=QUEUE), count, stage.effort.bulk_call)
        async with stage.producer(redis=redis) as app:
            act = (await app.stores()).act
            await act.pause(QUEUE, actor=ACTOR)
            async with stage.worker(app, processes=processes) as worker:
                await stage.warm(app, measures, worker, processes=processes)
                before = await measures.costs()
                await act.resume(QUEUE, actor=ACTOR)
                await app.using(queue=WARM).enqueue(noop, 0)  # it rings the bell for all processes at once
                await stage.finished(measures, worker)
        jobs, seconds = await measures.settled(QUEUE)
        if jobs < count or not seconds:
            raise Conflict(f"only {jobs} of {count} jobs were completed")
        costs = (await measures.costs()).since(before)
        floor = await stage.floors.drain(rows(count), claimers=processes)
    beside = {f"drain_{what}_per_job": amount / count for what, amount in costs.items()}
    return Sample(
        values={name: jobs / seconds},
        floors={name: floor},
        beside=beside if name == "drain_one_process" else {},
    )
