"""What a system does to the jobs of a worker that is killed: which are lost, which run twice, how long it takes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.peers.measurements import Effort, prepare
from benchmarks.peers.programs import Gap, Program, kill_tree, wait_until
from benchmarks.peers.runlog import RunLog, aftermath

QUIET_S = 3.0
"""An empty store and a log that has not grown for so long: nothing will come any more."""
LOOK_S = 0.05
BUSY_WITHIN_S = 2.0


def kill(program: Program, effort: Effort) -> dict[str, object]:
    """SIGKILL for the worker and its children once a quarter of the jobs has ended, and a new worker at once."""
    prepare(program, effort)
    count = effort.killed_jobs
    settings = {
        "PEER_RUN_LOG": str(program.folder / "run.log"),
        "PEER_JOB_MS": str(effort.killed_job_ms),
        "PEER_CONCURRENCY": str(effort.killed_concurrency),
    }
    program.ask("fill", str(count), within_s=effort.step_s, more=settings)
    program.servers.settle()
    log = RunLog(program.folder / "run.log")
    with program.workers(1, settings) as workers:
        if not program.wait(workers, lambda: len(log) >= count // 2, within_s=effort.step_s):
            raise Gap(f"{len(log)} records of {count} jobs in {effort.step_s:g} s; {program.why(workers)}")
        # A system that works in batches has moments when nothing runs; those would tell nothing.
        wait_until(lambda: log.running() >= effort.killed_concurrency // 2, within_s=BUSY_WITHIN_S)
        for process in workers:
            kill_tree(process)
        killed_at_us = time.monotonic_ns() // 1000  # what is in the log now is all that they did
    with program.workers(1, settings):
        waited_s = _wait_for_the_end(program, log, count, within_s=effort.killed_wait_s)
    told = aftermath(log.entries(), killed_at_us=killed_at_us, jobs=count)
    held = program.system.waiting(program.servers)
    return {**asdict(told), "jobs": count, "still_held": held, "waited_s": round(waited_s, 1)}


def _wait_for_the_end(program: Program, log: RunLog, count: int, *, within_s: float) -> float:
    """Until every job has ended or nothing can come any more; tells how long that was."""
    began = grown = time.monotonic()
    size = len(log)
    while time.monotonic() - began < within_s:
        time.sleep(LOOK_S)
        if len(log) != size:
            size, grown = len(log), time.monotonic()
            continue
        if time.monotonic() - grown > QUIET_S and program.system.waiting(program.servers) == 0:
            break
    return time.monotonic() - began


def cells(found: Mapping[str, Any]) -> Sequence[str]:
    """For the table: what was lost, what ran twice, until the last orphan ran again."""
    held = min(found["unfinished"], found["still_held"])
    lost = found["unfinished"] - held
    parts = [f"**{lost}**"] if lost else []
    parts += [f"{held} still held after {found['waited_s']:.0f} s"] if held else []
    last, again, orphans = found["last_again_s"], found["orphans_ran_again"], found["orphans"]
    when = "never" if last is None else f"{last:.1f} s"
    return [
        "; ".join(parts) or "0",
        str(found["doubled"]),
        f"{when} ({again} of {orphans})" if orphans else "-",
    ]
