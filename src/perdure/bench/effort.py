"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Numbers of jobs, callers and seconds of one round, and the number of rounds."""

    repeat: int = 3
    single_enqueues: int = 5_000
    callers: int = 50
    bulk_jobs: int = 50_000
    bulk_call: int = 5_000
    drained_jobs: int = 20_000
    backlog_jobs: int = 1_000_000
    pinned_jobs: int = 50_000
    pinned_s: float = 0.0
    pinned_counted_s: float = 0.0
    history_jobs: int = 10_000_000
    processes_max: int = 100
    steady_s: float = 20.0
    steady_jobs_per_s: int = 50
    idle_s: float = 3.0
    commits: int = 400


THOROUGH = Effort()
LONG = Effort(backlog_jobs=10_000_000, pinned_s=600.0, pinned_counted_s=60.0)
QUICK = Effort(
    repeat=1,
    single_enqueues=50,
    callers=10,
    bulk_jobs=500,
    bulk_call=100,
    drained_jobs=500,
    backlog_jobs=1_500,
    pinned_jobs=500,
    history_jobs=1_500,
    processes_max=2,
    steady_s=1.0,
    idle_s=0.5,
    commits=20,
)
"""Enough to see that everything works; its figures mean nothing."""
