"""A worker's samples as numbers for the models: one row a sample, the same for a living worker and in training."""

import math
from collections.abc import Sequence

from perdure.domain.health.arrays import Floats, np
from perdure.domain.health.histories import feature_names, filled, histories
from perdure.domain.sample import Sample

LOGGED = ("resident_mb", "open_files", "loop_lag_ms", "beat_late_ms", "database_ms", "queue_wait_ms")
PLAIN = ("cpu_percent", "memory_percent")
SIGNALS = (
    *LOGGED,
    *PLAIN,
    "slowness",
    "failure_share",
    "timeout_share",
    "retry_share",
    "crashed",
    "finished",
)
FEATURES = feature_names(SIGNALS)[:-1]
"""The columns of `features`. The age is left out: a model that is told it foretells from ages that it has never seen."""

WAIT_MAX = 1e12


def signals(samples: Sequence[Sample]) -> Floats:
    """One row for each sample, oldest first; what is unknown is NaN. Measures that span decades are logarithms."""
    rows = np.full((len(samples), len(SIGNALS)), np.nan)
    for row, one in zip(rows, samples, strict=True):
        row[:] = _row(one)
    return rows


def features(samples: Sequence[Sample]) -> Floats:
    """What the past of each sample says (`histories`), without the age; the columns are `FEATURES`."""
    return histories(signals(samples))[:, :-1]


def in_units(name: str, value: float) -> float:
    """A signal's value in the metric's own unit again."""
    if name in LOGGED or name == "finished":
        return math.expm1(min(value, 30.0))
    return math.exp(min(value, 30.0)) if name == "slowness" else value


def latest(rows: Floats) -> Floats:
    """The newest row, with what is unknown repeated from before."""
    return np.asarray(filled(rows)[-1])


def _row(one: Sample) -> list[float]:
    ended = max(one.finished, 0)
    return [
        *(_logged(getattr(one, name)) for name in LOGGED),
        *(_known(getattr(one, name)) for name in PLAIN),
        math.log(one.slowness) if one.slowness is not None and one.slowness > 0 else math.nan,
        *(max(count, 0) / ended if ended else math.nan for count in (one.failed, one.timed_out, one.retried)),
        float(one.crashed),
        math.log1p(ended),
    ]


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _logged(value: float | None) -> float:
    return math.nan if value is None or not value > -1 else math.log1p(min(value, WAIT_MAX))
