"""What a worker tells of itself from time to time, and what in it is unusual."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from perdure.domain.health.deviation import deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One worker in about ten seconds: counts in that time, the rest as it was at the end. None: not known on this system.

    `crashed` counts processes of the worker that ended unasked, `retried` failures that get another attempt. `memory_percent` is
    the resident memory beside what the worker may have. `slowness` is how long attempts take beside what is usual for their kind; 1 is as always.
    `claims` were asked for in that time, and took `claim_ms` altogether; no judgement rests on these two.
    """

    worker_id: UUID
    at: datetime
    running: int
    finished: int
    failed: int
    timed_out: int
    retried: int = 0
    crashed: int = 0
    cpu_percent: float | None = None
    resident_mb: float | None = None
    memory_percent: float | None = None
    open_files: int | None = None
    loop_lag_ms: float | None = None
    beat_late_ms: float | None = None
    database_ms: float | None = None
    slowness: float | None = None
    queue_wait_ms: float | None = None
    claims: int = 0
    claim_ms: int = 0


METRICS = (
    "running",
    "finished",
    "failed",
    "timed_out",
    "retried",
    "crashed",
    "cpu_percent",
    "resident_mb",
    "memory_percent",
    "open_files",
    "loop_lag_ms",
    "beat_late_ms",
    "database_ms",
    "slowness",
    "queue_wait_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A metric whose newest value lies off: from 2 (advisory: more than two standard deviations) to 5.

    `share` is how much of the detector's score it makes up; 1 where it was judged alone.
    """

    metric: str
    value: float
    expected: float
    severity: int
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What the detector found in the newest sample: by which `method`, learnt from how many `rows`.

    `severity` is 0 (nothing), 3 (a score above `warning`, which what was learnt from passes once a day), 4 (alarm) or 5.
    """

    method: str
    rows: int
    score: float = 0.0
    warning: float = 0.0
    severity: int = 0
    anomalies: tuple[Anomaly, ...] = ()


def anomalies(samples: Sequence[Sample]) -> tuple[Anomaly, ...]:
    """What is unusual in the newest of `samples` (oldest first), each metric by the hundred before it; the worst first."""
    found = []
    for metric in METRICS:
        values = [math.nan if (value := getattr(one, metric)) is None else float(value) for one in samples]
        if (off := deviation(values)) is not None:
            found.append(
                Anomaly(metric=metric, value=off.value, expected=off.expected, severity=off.severity)
            )
    return tuple(sorted(found, key=lambda one: -one.severity))
