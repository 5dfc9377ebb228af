"""The prediction for one worker, from what it tells of itself and what its fleet has lived through."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from perdure.domain.health.drift import SMOOTHED, Drift, Limits, drifts, failure_shares
from perdure.domain.health.fleet import Fleet
from perdure.domain.prediction import (
    MODEST_FAILURES,
    Prediction,
    Reason,
    Survival,
    cheapest,
    quantile,
)
from perdure.domain.sample import Sample
from perdure.domain.vitals import Vitals
from perdure.domain.worker import WorkerId

RECENTLY = timedelta(hours=1)
TELLING = 0.005
SAMPLES_MIN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a prediction rests on: the worker's samples, oldest first, its age, its fleet and the limits."""

    worker_id: UUID
    at: datetime
    age: timedelta
    samples: Sequence[Sample]
    fleet: Fleet
    limits: Limits

    @property
    def failed_recently(self) -> bool:
        """Whether a process of it has crashed within the last hour of what it told."""
        newest = max((one.at for one in self.samples), default=self.at)
        return any(one.crashed > 0 and newest - one.at <= RECENTLY for one in self.samples)


def predict(case: Case, *, horizon: timedelta) -> Prediction:
    """The probability of a failure within `horizon`, the time to it, why, and what to do.

    The worker fails when it would as one of its fleet (`fleet`), or when a measure reaches its limit (`drift`), whichever is first.
    """
    found = drifts(case.samples, case.limits)
    recently = case.failed_recently
    survival = _survival(case, found, recently=recently)
    horizon_s = horizon.total_seconds()
    probability = 1 - survival(horizon_s)
    without = [
        (one.sentence, _survival(case, [other for other in found if other is not one], recently=recently))
        for one in found
    ]
    if recently:
        without.append(
            ("a process of it crashed within the last hour", _survival(case, found, recently=False))
        )
    reasons = [Reason(what=what, probability_without=1 - left(horizon_s)) for what, left in without]
    return Prediction(
        worker_id=case.worker_id,
        at=case.at,
        horizon=horizon,
        probability=probability,
        base=1 - _survival(case, (), recently=False)(horizon_s),
        median=quantile(survival, 0.5),
        low=quantile(survival, 0.9),
        high=quantile(survival, 0.1),
        action=cheapest(probability),
        reasons=tuple(
            sorted(
                (one for one in reasons if probability - one.probability_without > TELLING),
                key=lambda one: one.probability_without,
            )
        ),
        samples=len(case.samples),
        failures=case.fleet.failures,
        caution=_caution(case),
    )


def probability(case: Case, *, horizon: timedelta) -> float:
    """Only the probability of `predict`."""
    found = drifts(case.samples, case.limits)
    return 1 - _survival(case, found, recently=case.failed_recently)(horizon.total_seconds())


def _survival(case: Case, found: Sequence[Drift], *, recently: bool) -> Survival:
    age_s = case.age.total_seconds()

    def survival(within_s: float) -> float:
        left = case.fleet.survival(within_s, age_s=age_s, failed_recently=recently)
        for one in found:
            left *= 1 - one.reached(within_s)
        return left

    return survival


def _caution(case: Case) -> str:
    said = []
    if len(case.samples) < SAMPLES_MIN:
        said.append(f"only {len(case.samples)} samples of this worker: no drift can be seen yet")
    if case.fleet.failures < MODEST_FAILURES:
        said.append(
            f"only {case.fleet.failures} failures of this fleet are known: the base rate is mostly assumed"
        )
    return "; ".join(said)


def cases(
    living: Sequence[Vitals],
    samples: Mapping[WorkerId, Sequence[Sample]],
    fleet: Fleet,
    *,
    lag_max: timedelta,
) -> dict[WorkerId, Case]:
    """The case of each living worker; a share of failures counts beside the median of all."""
    shares = [newest for series in samples.values() if math.isfinite(newest := _newest_share(series))]
    limits = Limits(
        lag_ms=1000 * lag_max.total_seconds(),
        fleet_failure_share=statistics.median(shares) if shares else 0.0,
    )
    return {
        one.worker.id: Case(
            worker_id=one.worker.id,
            at=one.at,
            age=one.age,
            samples=samples.get(one.worker.id, ()),
            fleet=fleet,
            limits=limits,
        )
        for one in living
    }


def _newest_share(series: Sequence[Sample]) -> float:
    return failure_shares(series[-SMOOTHED:])[-1] if series else math.nan
