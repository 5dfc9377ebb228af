"""What is measured of each system, each measurement on an empty store and within a bounded time."""

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from benchmarks.peers.programs import Gap, Program, tree, wait_until
from benchmarks.peers.runlog import RunLog, window

MIB = 2**20
WARM = 999_999
"""The number of a job that only shows that a worker is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    single_enqueues: int = 5_000
    callers: int = 50
    bulk_jobs: int = 50_000
    drained_jobs: int = 20_000
    drained_jobs_slow: int = 5_000
    steady_jobs_per_s: int = 50
    steady_s: int = 20
    idle_s: float = 3.0
    killed_jobs: int = 2_000
    killed_job_ms: int = 20
    killed_concurrency: int = 20
    killed_wait_s: float = 60.0
    step_s: float = 60.0
    """Longest time that one call of a driver or one wait for a worker may take."""
    settled_s: float = 60.0
    """Longest wait from the last start of a job until the store holds none."""


THOROUGH = Effort()
QUICK = Effort(
    single_enqueues=50,
    callers=10,
    bulk_jobs=500,
    drained_jobs=2_000,
    drained_jobs_slow=1_000,
    steady_s=1,
    idle_s=0.5,
    killed_jobs=200,
    killed_wait_s=30.0,
    step_s=30.0,
)
"""Enough to see that everything works; its figures mean nothing."""

Figures = Mapping[str, float]


def enqueue_one(program: Program, effort: Effort) -> Figures:
    """One after another, each acknowledged before the next."""
    return _enqueued(program, effort, "one", effort.single_enqueues)


def enqueue_concurrent(program: Program, effort: Effort) -> Figures:
    """Many callers at a time."""
    return _enqueued(program, effort, "concurrent", effort.single_enqueues, effort.callers)


def enqueue_bulk(program: Program, effort: Effort) -> Figures:
    """The system's best call for many jobs."""
    return _enqueued(program, effort, "bulk", effort.bulk_jobs)


def _enqueued(program: Program, effort: Effort, way: str, count: int, *more: int) -> Figures:
    prepare(program, effort)
    answer = program.ask(way, *map(str, (count, *more)), within_s=effort.step_s)
    if "seconds" not in answer:
        raise Gap("it has no call for many jobs")
    held = program.system.waiting(program.servers)
    if held < count:
        raise Gap(f"of {count} jobs that were enqueued its store holds {held}")
    return {f"enqueue_{way}": count / answer["seconds"]}


def drain_one_process(program: Program, effort: Effort) -> Figures:
    """Waiting jobs, one worker process, from the first start to the moment when the store says that nothing is left."""
    return {"drain_one_process": _drained(program, effort, 1)}


def drain_two_processes(program: Program, effort: Effort) -> Figures:
    """The same with two, as long as both are at work."""
    return {"drain_two_processes": _drained(program, effort, 2)}


def _drained(program: Program, effort: Effort, processes: int) -> float:
    prepare(program, effort)
    count = effort.drained_jobs_slow if program.system.slow else effort.drained_jobs
    program.ask("fill", str(count), within_s=effort.step_s)
    program.servers.settle()
    log = RunLog(program.folder / "run.log")
    with program.workers(processes, {"PEER_RUN_LOG": str(log.path)}) as workers:
        if not program.wait(workers, lambda: len(log) >= count, within_s=effort.step_s):
            raise Gap(
                f"{len(log)} of {count} jobs had started in {effort.step_s:g} s; {program.why(workers)}"
            )
        if not wait_until(lambda: program.system.waiting(program.servers) == 0, within_s=effort.settled_s):
            raise Gap(
                f"its store still held {program.system.waiting(program.servers)} jobs {effort.settled_s:g} s later"
            )
        ended_us = time.monotonic_ns() // 1000
    starts = log.entries()
    if len({entry.job for entry in starts}) != count:
        raise Gap(f"{len({entry.job for entry in starts})} of {count} jobs ran")
    whole = window(starts)
    if whole.processes < processes:
        raise Gap(f"only {whole.processes} of {processes} processes ran jobs")
    return whole.jobs / (ended_us - whole.began_us) * 1e6


def latency(program: Program, effort: Effort) -> Figures:
    """From the call that enqueues a job to its start, at light load."""
    prepare(program, effort)
    log = RunLog(program.folder / "run.log")
    count = effort.steady_jobs_per_s * effort.steady_s
    with program.workers(1, {"PEER_RUN_LOG": str(log.path)}) as workers:
        warm(program, effort, log, workers)
        pace = (str(effort.steady_jobs_per_s), str(effort.steady_s))
        answer = program.ask("steady", *pace, within_s=effort.step_s + effort.steady_s)
        if not program.wait(workers, lambda: len(log) > count, within_s=effort.step_s):
            raise Gap(f"{len(log) - 1} of {count} jobs had started; {program.why(workers)}")
    started = {entry.job: entry.at_us for entry in reversed(log.entries())}
    delays = [(started[n] - sent_us) / 1000 for n, sent_us in enumerate(answer["sent_us"])]
    hundredths = statistics.quantiles(delays, n=100, method="inclusive")
    return {"latency_p50_ms": hundredths[49], "latency_p99_ms": hundredths[98]}


def idle(program: Program, effort: Effort) -> Figures:
    """Resident memory of a worker that has run one job and waits for the next, with all its children."""
    prepare(program, effort)
    log = RunLog(program.folder / "run.log")
    with program.workers(1, {"PEER_RUN_LOG": str(log.path)}) as workers:
        warm(program, effort, log, workers)
        time.sleep(effort.idle_s)
        resident = 0
        for one in tree(workers[0]):
            with suppress(psutil.NoSuchProcess):
                resident += one.memory_info().rss
    return {"idle_mb": resident / MIB}


def prepare(program: Program, effort: Effort) -> None:
    """An empty store in which the system has made what it needs."""
    program.servers.empty()
    program.ask("prepare", within_s=effort.step_s)


def warm(program: Program, effort: Effort, log: RunLog, workers: Sequence[subprocess.Popen[str]]) -> None:
    """Return when the worker has started a job."""
    program.ask("one", "1", str(WARM), within_s=effort.step_s)
    if not program.wait(workers, lambda: len(log) > 0, within_s=effort.step_s):
        raise Gap(f"no job had started in {effort.step_s:g} s; {program.why(workers)}")


MEASUREMENTS: Mapping[str, Callable[[Program, Effort], Figures]] = {
    "enqueue_one": enqueue_one,
    "enqueue_concurrent": enqueue_concurrent,
    "enqueue_bulk": enqueue_bulk,
    "drain_one_process": drain_one_process,
    "drain_two_processes": drain_two_processes,
    "latency": latency,
    "idle": idle,
}
