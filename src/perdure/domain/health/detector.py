"""The detector of a living worker: what in its newest samples is unusual, beside its own past or that of its like."""

from collections.abc import Sequence

from perdure.domain.health.alarm import budget
from perdure.domain.health.arrays import Floats, np
from perdure.domain.health.histories import filled
from perdure.domain.health.residual import ROWS_MIN, fit
from perdure.domain.health.signals import SIGNALS, in_units, signals
from perdure.domain.sample import Anomaly, Detection, Sample

NEWEST = 6
"""Rows that the detector does not learn from: an alarm must not teach it that what it sees is usual."""

FEW = ROWS_MIN + NEWEST
"""Fewer samples are not enough to learn from."""

ROBUST_Z = 4.0
ROBUST_MIN = 8
TO_SIGMA = 1.4826  # from the median absolute deviation to a standard deviation, under a normal law
PART_MIN = 0.05


def detect(
    samples: Sequence[Sample], others: Sequence[Sequence[Sample]], *, rows_per_day: float
) -> Detection:
    """Judge the newest of `samples` (oldest first) by those before it; by `others`, one series a worker, while these are few.

    Levels are set so that what was learnt from would have raised one warning a day and an alarm every four days. With fewer
    than fifty rows of any worker each metric is judged alone, by median and median deviation, at four.
    """
    rows = signals(samples)
    past = rows[:-NEWEST]
    method = "own past"
    if len(past) < ROWS_MIN:
        past = np.concatenate([past, *(signals(series) for series in others)]) if others else past
        method = "past of similar workers"
    if len(rows) == 0 or len(past) < ROWS_MIN:
        return _alone(rows)
    model = fit(past)
    levels = budget(model.score(past), rows_per_day=rows_per_day)
    scores, parts = model.score(rows[-2 * NEWEST :]), model.contributions(rows[-2 * NEWEST :])[-1]
    score = float(scores[-1])
    severity = int(levels.level(score))
    expected = model.expected(rows)[-1]
    return Detection(
        method=method,
        rows=len(past),
        score=round(score, 3),
        warning=round(levels.warning, 3),
        severity=severity,
        anomalies=_blamed(filled(rows)[-1], expected, parts, severity) if severity else (),
    )


def _blamed(newest: Floats, expected: Floats, parts: Floats, severity: int) -> tuple[Anomaly, ...]:
    """The metrics that make up the score, the largest share first; small shares are left out."""
    shares = parts / max(float(parts.sum()), 1e-12)
    order = np.argsort(-shares)
    return tuple(
        Anomaly(
            metric=SIGNALS[at],
            value=in_units(SIGNALS[at], float(newest[at])),
            expected=in_units(SIGNALS[at], float(expected[at])),
            severity=severity,
            share=round(float(shares[at]), 3),
        )
        for at in order
        if shares[at] >= PART_MIN
    )


def _alone(rows: Floats) -> Detection:
    """Each metric by itself, while nothing is known of how they go together."""
    if len(rows) <= ROBUST_MIN:
        return Detection(method="too few samples", rows=max(len(rows) - 1, 0))
    known = filled(rows)
    past, newest = known[:-1], known[-1]
    middle = np.median(past, axis=0)
    spread = TO_SIGMA * np.median(np.abs(past - middle), axis=0)
    # A metric that has hardly moved yet is no measure of how far it may move.
    z = (newest - middle) / np.maximum(spread, 0.05 * np.abs(middle) + 0.05)
    found = [
        Anomaly(
            metric=SIGNALS[at],
            value=in_units(SIGNALS[at], float(newest[at])),
            expected=in_units(SIGNALS[at], float(middle[at])),
            severity=3 if abs(z[at]) <= 2 * ROBUST_Z else 4,
        )
        for at in np.argsort(-np.abs(z))
        if abs(z[at]) > ROBUST_Z
    ]
    return Detection(
        method="each metric alone",
        rows=len(past),
        score=round(float(np.abs(z).max()), 3),
        warning=ROBUST_Z,
        severity=max((one.severity for one in found), default=0),
        anomalies=tuple(found),
    )
