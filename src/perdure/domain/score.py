"""The health score of a worker, 0.0 to 1.0, what it is made of, and how much work it gets.

The score is a straight map of the calibrated probability of failure: 1.0 at the fleet's base rate, 0.3 exactly where evacuating
becomes the cheapest thing to do.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from perdure.domain.prediction import EVACUATE_AT, Prediction
from perdure.domain.worker import WorkerId

FAILED_AT = 0.3
HEALTHY_AGAIN_AT = 0.5
LOOKS = 3
FULL_SHARE_AT = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What takes how much from a score of 1.0."""

    what: str
    takes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score and its parts, the heaviest first; they need not add up, since one reason can hide another."""

    value: float
    parts: tuple[Part, ...] = ()


def score_of(prediction: Prediction, *, suspect: bool = False) -> Score:
    """The score that goes with a prediction; a suspect has at most 0.3."""
    value = mapped(prediction.probability, prediction.base)
    parts = [
        Part(what=reason.what, takes=round(mapped(reason.probability_without, prediction.base) - value, 3))
        for reason in prediction.reasons
    ]
    if suspect:
        parts.append(Part(what="it misses heartbeats", takes=round(max(value - FAILED_AT, 0.0), 3)))
        value = min(value, FAILED_AT)
    return Score(value=round(value, 3), parts=tuple(sorted(parts, key=lambda part: -part.takes)))


def mapped(probability: float, base: float) -> float:
    """1.0 at the base rate and below, 0.3 at the cost-optimal point of evacuation, 0.0 far beyond it."""
    base = min(base, EVACUATE_AT / 2)
    return min(1.0, max(0.0, 1 - (1 - FAILED_AT) * (probability - base) / (EVACUATE_AT - base)))


@dataclass(slots=True)
class Steady:
    """Whether each worker counts as healthy: not from below 0.3 on, and again after three looks in a row above 0.5."""

    _sick: dict[WorkerId, int] = field(default_factory=dict)

    def observe(
        self, scores: Mapping[WorkerId, float], *, sick: frozenset[WorkerId] = frozenset()
    ) -> set[WorkerId]:
        """Take one look at all that live and give the sick ones; `sick` are those that counted as such before the first look."""
        counts = {}
        for worker_id, score in scores.items():
            before = self._sick.get(worker_id, 0 if worker_id in sick else None)
            if score < FAILED_AT:
                counts[worker_id] = 0
            elif before is not None and (looks := before + 1 if score > HEALTHY_AGAIN_AT else 0) < LOOKS:
                counts[worker_id] = looks
        self._sick = counts
        return set(counts)


def shares(
    scores: Mapping[WorkerId, float],
    sick: set[WorkerId],
    stand_ins: Mapping[WorkerId, Collection[WorkerId]],
) -> dict[WorkerId, float]:
    """Which share of its slots each worker may fill: all from 0.7 on, less below, none while it is sick.

    Work is kept from a worker only for a better one: where none of its `stand_ins`, those that can take all of its jobs, has a
    higher score, it fills all of its slots, since its jobs would only wait. And half of the fleet works whatever its health: when
    fewer do, the best of the sick go on at 0.3.
    """
    found = {}
    for worker_id, score in scores.items():
        if not any(scores[other] > score for other in stand_ins.get(worker_id, ()) if other in scores):
            found[worker_id] = 1.0
        else:
            found[worker_id] = 0.0 if worker_id in sick else min(1.0, max(score, FAILED_AT) / FULL_SHARE_AT)
    missing = math.ceil(len(found) / 2) - sum(share > 0 for share in found.values())
    idle = [worker_id for worker_id, share in found.items() if share == 0]
    for worker_id in sorted(idle, key=lambda one: (-scores[one], one))[: max(missing, 0)]:
        found[worker_id] = FAILED_AT
    return {worker_id: round(share, 2) for worker_id, share in found.items()}
