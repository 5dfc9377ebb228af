"""The prediction for one worker by a trained model."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from perdure.domain.health.arrays import Floats, np
from perdure.domain.health.failure_model import FailureModel
from perdure.domain.health.features import FEATURES, MEASURES, features, without
from perdure.domain.health.foresight import SAMPLES_MIN, TELLING, Case
from perdure.domain.health.foresight import predict as predict_by_limits
from perdure.domain.prediction import FARTHEST, Prediction, Reason, cheapest


def predict(model: FailureModel, case: Case, *, horizon: timedelta, name: str) -> Prediction:
    """What `foresight.predict` gives, by a model of this name; by the limits as long as there are too few samples for it.

    A reason is a measure without which the model would expect less: its features are taken as not known.
    """
    by_limits = predict_by_limits(case, horizon=horizon)
    if len(case.samples) < SAMPLES_MIN:
        return by_limits
    row = features(case.samples)
    within_s = horizon.total_seconds()
    rows = [row, np.full(len(FEATURES), np.nan), *(without(row, measure) for measure in MEASURES)]
    probability, base, *others = (float(one) for one in model.probability(np.array(rows), within_s))
    low, median, high = _times(model, row)
    return replace(
        by_limits,
        method=name,
        probability=probability,
        base=base,
        low=low,
        median=median,
        high=high,
        action=cheapest(probability),
        reasons=_reasons(probability, others),
    )


def _times(model: FailureModel, row: Floats) -> tuple[timedelta | None, ...]:
    life = model.hazard.lifetime(row[np.newaxis])
    seconds = (float(one[0]) for one in (life.low, life.median, life.high))
    farthest = FARTHEST.total_seconds()
    return tuple(timedelta(seconds=one) if one <= farthest else None for one in seconds)


def _reasons(probability: float, others: Sequence[float]) -> tuple[Reason, ...]:
    found = [
        Reason(what=what, probability_without=other)
        for what, other in zip(MEASURES.values(), others, strict=True)
    ]
    telling = [one for one in found if probability - one.probability_without > TELLING]
    return tuple(sorted(telling, key=lambda one: one.probability_without))
