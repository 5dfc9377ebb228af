"""What a model sees of a worker: its newest samples as one row of features, the same live and in training."""

import hashlib
import math
from collections.abc import Sequence
from datetime import timedelta

from perdure.domain.health.arrays import Floats, np
from perdure.domain.health.drift import NEWEST, failure_shares
from perdure.domain.health.histories import FAST, SLOW, START, feature_names, filled
from perdure.domain.health.histories import WINDOW as SLOPE_OVER
from perdure.domain.sample import Sample

WINDOW = timedelta(hours=1)
"""Older samples tell nothing of now."""

MEASURES = {
    "memory": "memory fills",
    "failures": "jobs fail",
    "slowness": "jobs take longer",
    "lag": "its loop is blocked",
    "crashes": "its processes crash",
    "lateness": "its heartbeats come late",
    "database": "the database answers it slowly",
    "cpu": "its use of CPU",
    "files": "its open files",
}
"""What is measured, and how a person would say that it tells of a failure."""

FEATURES = feature_names(tuple(MEASURES))[:-1]
"""The columns of a row. Age is left out: what it says of workers older than those learnt from is made up."""

FEATURES_HASH = hashlib.sha256(repr((FEATURES, NEWEST, WINDOW)).encode()).hexdigest()


def features(samples: Sequence[Sample]) -> Floats:
    """One row from the newest of `samples`, oldest first: what `histories` gives for the newest of the last ninety, without the age."""
    newest = samples[-1].at
    recent = [one for one in samples[-NEWEST:] if newest - one.at <= WINDOW]
    measured = np.array(
        [_measures(one, share) for one, share in zip(recent, failure_shares(recent), strict=True)]
    )
    rows = filled(measured)
    fast, slow = _average(rows, FAST), _average(rows, SLOW)
    found = np.concatenate([fast, slow, fast - rows[:START].mean(axis=0), _slope(rows[-SLOPE_OVER:])])
    # A measure that this system does not have is missing, not 0: it then counts as the mean of what was learnt.
    unknown = np.isnan(measured).all(axis=0)
    found[np.tile(unknown, len(found) // len(MEASURES))] = np.nan
    return found


def _average(rows: Floats, memory: float) -> Floats:
    """The exponential moving average at the last row, corrected for its start."""
    weights = np.exp(-np.arange(len(rows) - 1, -1, -1) / memory)
    return np.asarray(weights @ rows / weights.sum())


def _slope(rows: Floats) -> Floats:
    """The least-squares slope per row."""
    at = np.arange(len(rows)) - (len(rows) - 1) / 2
    return np.asarray(at @ rows / max(float(at @ at), 1e-12))


def without(row: Floats, measure: str) -> Floats:
    """The row as of a worker of which this measure is not known."""
    index = list(MEASURES).index(measure)
    found = row.copy()
    found[index :: len(MEASURES)] = np.nan
    return found


def _measures(one: Sample, failing: float) -> tuple[float, ...]:
    return (
        _or_nan(one.memory_percent),
        failing,
        math.log(max(_or_nan(one.slowness), 1e-3)),
        math.log1p(_or_nan(one.loop_lag_ms)),
        float(one.crashed),
        math.log1p(_or_nan(one.beat_late_ms)),
        math.log1p(_or_nan(one.database_ms)),
        math.log1p(_or_nan(one.cpu_percent)),
        math.log1p(_or_nan(one.open_files)),
    )


def _or_nan(value: float | None) -> float:
    """Missing, or below what can be measured: not a number."""
    return math.nan if value is None or value < 0 else float(value)
