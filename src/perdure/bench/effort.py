"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Numbers of jobs, callers and seconds of one round, and the number of rounds."""

    repeat: int = 3
    single_enqueues: int = 5_000
    callers: int = 50
    bulk_jobs: int = 50_000
    bulk_call: int = 2_000
    drained_jobs: int = 20_000
    steady_s: float = 20.0
    steady_jobs_per_s: int = 50
    idle_s: float = 3.0
    commits: int = 400


THOROUGH = Effort()
QUICK = Effort(
    repeat=1,
    single_enqueues=50,
    callers=10,
    bulk_jobs=500,
    bulk_call=100,
    drained_jobs=500,
    steady_s=1.0,
    idle_s=0.5,
    commits=20,
)
"""Enough to see that everything works; its figures mean nothing."""
