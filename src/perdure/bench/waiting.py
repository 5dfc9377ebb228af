"""How soon a job starts at light load, and what a worker weighs that waits for one."""

import asyncio
import statistics
from time import monotonic, monotonic_ns

import psutil

from perdure import Perdure
from perdure.bench.figures import Sample
from perdure.bench.jobs import QUEUE, arrive
from perdure.bench.stage import Stage
from perdure.domain.errors import Conflict

MIB = 2**20


async def latency(stage: Stage) -> Sample:
    """From the call of `enqueue` to the start of the handler, by the handler's own clock."""
    async with stage.cleared() as measures, stage.producer() as app:
        async with stage.worker(app, processes=1) as worker:
            await stage.warm(app, measures, worker, processes=1)
            await _send_steadily(app, stage.effort.steady_s, stage.effort.steady_jobs_per_s)
            await stage.finished(measures, worker)
        delays = await measures.results(QUEUE)
    hundredths = statistics.quantiles(delays, n=100, method="inclusive")
    return Sample(values={"latency_p50_ms": hundredths[49], "latency_p99_ms": hundredths[98]})


async def idle(stage: Stage) -> Sample:
    """Resident memory of the process that runs jobs, and of its supervisor."""
    async with stage.cleared(), stage.producer() as app, stage.worker(app, processes=1) as worker:
        await asyncio.sleep(stage.effort.idle_s)
        supervisor = psutil.Process(worker.process.pid)
        children = supervisor.children()
        if len(children) != 1:
            raise Conflict(f"the worker has {len(children)} processes in place of one")
        child_mb, supervisor_mb = (each.memory_info().rss / MIB for each in (children[0], supervisor))
    return Sample(values={"idle_rss_mb": child_mb}, beside={"idle_supervisor_rss_mb": supervisor_mb})


async def _send_steadily(app: Perdure, seconds: float, per_s: int) -> None:
    """Enqueue on time, whether or not the call before has been answered."""
    began = monotonic()
    async with asyncio.TaskGroup() as calls:
        for n in range(int(seconds * per_s)):
            await asyncio.sleep(began + n / per_s - monotonic())
            calls.create_task(_send(app))


async def _send(app: Perdure) -> None:
    await app.enqueue(arrive, monotonic_ns())
