"""Measures of a worker that drift towards a limit, and when they will reach it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from perdure.domain.health.crossing import Line, line
from perdure.domain.sample import Sample

FAILING_SHARE = 0.2
FAILING_TIMES = 3.0
FAILING_JOBS = 5
SLOW_TIMES = 5.0
LAG_FLOOR = 0.1
"""A lag up to such a share of its limit is that of any busy machine and counts as none, however fast it grew."""
SMOOTHED = 6
NEWEST = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One measure with its line and its limit; `sentence` names both as a person would."""

    sentence: str
    line: Line
    limit: float

    def reached(self, within_s: float) -> float:
        """The probability that the limit is reached within so many seconds."""
        return self.line.reaches(self.limit, within_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Beyond what a worker counts as failing: its loop's lag, and its share of failures beside that of the fleet."""

    lag_ms: float = 6_000.0
    fleet_failure_share: float = 0.0

    @property
    def failure_share(self) -> float:
        return min(max(FAILING_SHARE, FAILING_TIMES * self.fleet_failure_share), 1.0)


def drifts(samples: Sequence[Sample], limits: Limits) -> tuple[Drift, ...]:
    """The measures of a worker that have reached their limits or surely rise towards them; `samples` are oldest first."""
    recent = samples[-NEWEST:]
    at_s = [one.at.timestamp() for one in recent]
    measures = (
        ("memory fills", [_or_nan(one.memory_percent) for one in recent], 100.0),
        ("jobs fail", failure_shares(recent), limits.failure_share),
        ("jobs take longer", [_log(one.slowness) for one in recent], math.log(SLOW_TIMES)),
        (
            "its loop is blocked",
            [_lag(one.loop_lag_ms, LAG_FLOOR * limits.lag_ms) for one in recent],
            math.log1p(limits.lag_ms),
        ),
    )
    found = ((sentence, line(at_s, values), limit) for sentence, values, limit in measures)
    return tuple(
        Drift(sentence=sentence, line=fitted, limit=limit)
        for sentence, fitted, limit in found
        if fitted is not None and (fitted.surely_rises or fitted.level >= limit)
    )


def failure_shares(samples: Sequence[Sample]) -> list[float]:
    """For each sample the share of jobs that failed in it and the five before it; NaN for fewer than five jobs."""
    finished = [0, *accumulate(max(one.finished, 0) for one in samples)]
    failed = [0, *accumulate(max(one.failed, 0) for one in samples)]
    shares = []
    for end in range(1, len(samples) + 1):
        start = max(0, end - SMOOTHED)
        jobs = finished[end] - finished[start]
        shares.append(min((failed[end] - failed[start]) / jobs, 1.0) if jobs >= FAILING_JOBS else math.nan)
    return shares


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _log(value: float | None) -> float:
    return math.log(value) if value is not None and value > 0 else math.nan


def _lag(value: float | None, floor: float) -> float:
    return math.log1p(max(value, floor)) if value is not None and value >= 0 else math.nan
