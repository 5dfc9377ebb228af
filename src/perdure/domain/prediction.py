"""Whether and when a worker will fail, why, and what to do about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

HORIZON = timedelta(minutes=5)
FARTHEST = timedelta(days=7)
STEPS = 96
MODEST_FAILURES = 20
LIMITS = "limits"
"""The method that needs no training: measures that drift towards limits, and how others of the fleet have failed."""


class Action(StrEnum):
    """What may be done with a worker, the mildest first."""

    CONTINUE = "continue"
    WATCH = "watch"
    REDUCE = "reduce concurrency"
    RESTART = "restart after the current job"
    DRAIN = "drain"
    EVACUATE = "evacuate"


@dataclass(frozen=True, slots=True)
class Cost:
    """What an action costs, and which share of a failure's cost it saves, both beside that of a failure."""

    costs: float
    saves: float


COSTS: dict[Action, Cost] = {
    Action.CONTINUE: Cost(0.0, 0.0),
    Action.WATCH: Cost(0.01, 0.1),
    Action.REDUCE: Cost(0.05, 0.3),
    Action.RESTART: Cost(0.14, 0.6),
    Action.DRAIN: Cost(0.22, 0.8),
    Action.EVACUATE: Cost(0.32, 1.0),
}
"""The cheapest action changes at probabilities of 0.1, 0.2, 0.3, 0.4 and 0.5."""


def cheapest(probability: float) -> Action:
    """The action with the least expected cost; of equal ones the milder."""
    return min(COSTS, key=lambda one: (round(_expected(one, probability), 9), COSTS[one].costs))


def _expected(action: Action, probability: float) -> float:
    cost = COSTS[action]
    return cost.costs + probability * (1 - cost.saves)


EVACUATE_AT = next(step / 1000 for step in range(1001) if cheapest(step / 1000) is Action.EVACUATE)
"""The least probability at which nothing is cheaper than to evacuate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Something that makes a failure likelier, and what the probability would be without it."""

    what: str
    probability_without: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is to be expected of a worker.

    `probability` is that of a failure within `horizon`. Of the time to failure the median and the bounds that hold 80 % are given,
    None beyond a week. `method` says what foretold it: `limits` that measures drift towards, or a trained model by its number. `base` is the probability of a worker of this fleet of which nothing is known; `samples` and `failures` are how much
    it rests on, and `caution` says so in words when it is little.
    """

    worker_id: UUID
    at: datetime
    horizon: timedelta
    probability: float
    base: float
    median: timedelta | None
    low: timedelta | None
    high: timedelta | None
    action: Action
    reasons: tuple[Reason, ...]
    samples: int
    failures: int
    caution: str = ""
    method: str = LIMITS


Survival = Callable[[float], float]
"""The probability of outliving so many seconds."""


def quantile(survival: Survival, left: float) -> timedelta | None:
    """After how long the survival has fallen to `left`; None beyond a week. It is looked for on 96 steps and between them."""
    before_s = 0.0
    for at_s in grid():
        if survival(at_s) <= left:
            return timedelta(seconds=_between(survival, before_s, at_s, left))
        before_s = at_s
    return None


def grid() -> Sequence[float]:
    """Moments from one second to a week, each about 15 % later than the one before."""
    ratio = FARTHEST.total_seconds() ** (1 / (STEPS - 1))
    return [ratio**step for step in range(STEPS)]


def _between(survival: Survival, low_s: float, high_s: float, left: float) -> float:
    for _ in range(24):
        middle = (low_s + high_s) / 2
        low_s, high_s = (low_s, middle) if survival(middle) <= left else (middle, high_s)
    return high_s
