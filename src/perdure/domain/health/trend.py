"""The baseline `trend`: a straight line through the last health scores.

It is the rule of the specification that Perdure started from, kept as the baseline that a trained model has to beat.
Its known flaw is kept too: the size of the slope raises the probability for a worker that recovers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SCORES = 10
SCORES_MIN = 3
FAILED_AT = 0.3
SECONDS_PER_SCORE = 30.0


class TrendAction(StrEnum):
    """What the baseline recommends."""

    CONTINUE = "continue"
    WATCH = "watch"
    PREEMPTIVE_RESTART = "preemptive_restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A probability in 0..1, the seconds until the line reaches 0.3 (None: it never does), and what to do."""

    probability: float
    time_to_failure_s: float | None
    action: TrendAction


def trend(scores: Sequence[float], *, seconds_per_score: float = SECONDS_PER_SCORE) -> Trend:
    """Extrapolate health scores, oldest first; the last 10 count.

    With the newest score s and the mean drop per score r, the probability is (1 - s) (1 + 2 |r|) cut to 0..1, and the time
    to failure (s - 0.3) / r scores. Fewer than 3 scores say nothing: probability 0.1.
    """
    known = list(scores)[-SCORES:]
    if len(known) < SCORES_MIN:
        return Trend(probability=0.1, time_to_failure_s=None, action=TrendAction.CONTINUE)
    newest = known[-1]
    drop = (known[0] - newest) / (len(known) - 1)
    probability = min(1.0, max(0.0, (1 - newest) * (1 + 2 * abs(drop))))
    return Trend(
        probability=probability,
        time_to_failure_s=_time_to_failure(newest, drop, seconds_per_score),
        action=_action(probability),
    )


def _time_to_failure(newest: float, drop: float, seconds_per_score: float) -> float | None:
    if drop <= 0:
        return None
    return 0.0 if newest <= FAILED_AT else (newest - FAILED_AT) / drop * seconds_per_score


def _action(probability: float) -> TrendAction:
    if probability > 0.7:
        return TrendAction.PREEMPTIVE_RESTART
    return TrendAction.WATCH if probability > 0.4 else TrendAction.CONTINUE
