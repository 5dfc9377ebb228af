"""The jobs of the loss: they take a while, and write down each time that they run."""

import asyncio
import os
import time
from pathlib import Path
from typing import TextIO

from perdure import Context, job

QUEUE = "loss"
FOLDER = "PERDURE_BENCH_RUNS"
STEP_S = 0.25


class _Runs:
    """A file of each process: a line for each run, with its time and the job's id."""

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def note(self, job_id: object) -> None:
        if self._file is None:
            path = Path(os.environ[FOLDER]) / f"runs-{os.getpid()}"
            self._file = path.open("a", buffering=1)
        self._file.write(f"{time.time():.3f} {job_id}\n")


_runs = _Runs()
loss_job = job(queue=QUEUE)


@loss_job
async def step(n: int, context: Context) -> int:
    """What most jobs are."""
    _runs.note(context.job_id)
    await asyncio.sleep(STEP_S)
    return n


@loss_job
async def hold(seconds: float, context: Context) -> None:
    """Runs until the database is lost, and longer."""
    _runs.note(context.job_id)
    await asyncio.sleep(seconds)


def runs_of(folder: Path) -> list[tuple[float, str]]:
    """All runs so far, by time."""
    found = []
    for path in folder.glob("runs-*"):
        for line in path.read_text().splitlines():
            at, _, job_id = line.partition(" ")
            if len(job_id) == 36:  # the last line may be half written
                found.append((float(at), job_id))
    return sorted(found)
