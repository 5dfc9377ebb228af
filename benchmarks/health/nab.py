"""NAB's own scoring (Lavin and Ahmad 2015): windows that reward early alarms, one threshold for the whole corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from archives import Series

# Weights of a true positive, a false positive and a false negative.
PROFILES = {"standard": (1.0, 0.11, 1.0), "low FP": (1.0, 0.22, 1.0), "low FN": (1.0, 0.11, 2.0)}
PROBATION_SHARE, PROBATION_MAX = 0.15, 750


def probation(rows: int) -> int:
    """Records at the start of a series that are not scored."""
    return int(min(np.floor(PROBATION_SHARE * rows), PROBATION_SHARE * 5000, PROBATION_MAX))


def _sigmoid(position: np.ndarray) -> np.ndarray:
    return np.where(position > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0)


@dataclass(frozen=True)
class Worth:
    """What an alarm at each record of a series is worth: in a window (its number, else -1), and how much."""

    window: np.ndarray
    reward: np.ndarray
    windows: int


def worth(series: Series) -> Worth:
    """Rewards at weight 1; outside of windows they are what a false alarm costs."""
    rows = len(series.at)
    window, reward = np.full(rows, -1), np.full(rows, -1.0)
    number = np.arange(rows)
    best = _sigmoid(np.array(-1.0))
    for index, (first_at, last_at) in enumerate(series.windows):
        first, last = (
            np.searchsorted(series.at, first_at),
            np.searchsorted(series.at, last_at, side="right") - 1,
        )
        width = last - first + 1
        inside = slice(first, last + 1)
        window[inside] = index
        reward[inside] = _sigmoid(-(last - number[inside] + 1) / width) / best
        after = slice(last + 1, rows)
        reward[after] = _sigmoid((number[after] - last) / max(width - 1, 1))
    start = probation(rows)
    reward[:start] = 0.0
    window[:start] = -2  # not scored
    return Worth(window, reward, len(series.windows))


@dataclass(frozen=True)
class Totals:
    """Raw scores of one series or more at each of the thresholds, with the bounds that normalise them."""

    raw: np.ndarray
    perfect: float
    null: float

    @property
    def normalised(self) -> np.ndarray:
        return 100 * (self.raw - self.null) / (self.perfect - self.null)


def totals(
    worths: Sequence[Worth], scores: Sequence[np.ndarray], thresholds: np.ndarray, profile: str
) -> Totals:
    """What alarms at `score >= threshold` earn."""
    hit, false, missed = PROFILES[profile]
    raw = np.zeros(len(thresholds))
    windows = 0
    for one, score in zip(worths, scores, strict=True):
        outside = one.window == -1
        order = np.argsort(score[outside])
        cost = np.concatenate([np.cumsum(one.reward[outside][order][::-1])[::-1], [0.0]])
        raw += false * cost[np.searchsorted(score[outside][order], thresholds)]
        windows += one.windows
        for index in range(one.windows):
            inside = one.window == index
            earliest = np.maximum.accumulate(score[inside])
            rewards = one.reward[inside]  # falls within the window: the first alarm is the best one
            first = np.searchsorted(earliest, thresholds) if len(earliest) else np.zeros(len(thresholds), int)
            raw += np.where(first < len(rewards), hit * np.append(rewards, 0.0)[first], -missed)
    return Totals(raw, hit * windows, -missed * windows)


def candidates(scores: Sequence[np.ndarray], count: int = 4000) -> np.ndarray:
    """Thresholds worth trying."""
    pooled = np.unique(np.concatenate(scores))
    pooled = pooled[pooled > 0]
    if len(pooled) > count:
        pooled = pooled[np.linspace(0, len(pooled) - 1, count).astype(int)]
    return np.append(pooled, np.inf)


def best_score(worths: Sequence[Worth], scores: Sequence[np.ndarray], profile: str) -> float:
    """The score with the threshold that suits the corpus best, as NAB reports it."""
    return float(totals(worths, scores, candidates(scores), profile).normalised.max())


def carried_score(series: Sequence[Series], worths: Sequence[Worth], scores: Sequence[np.ndarray]) -> float:
    """The standard score when each category's threshold is taken from the other categories."""
    thresholds = candidates(scores)
    raw = perfect = null = 0.0
    for category in sorted({one.category for one in series}):
        own = [one.category == category for one in series]
        parts = [
            totals(
                [w for w, mine in zip(worths, own, strict=True) if mine is wanted],
                [s for s, mine in zip(scores, own, strict=True) if mine is wanted],
                thresholds,
                "standard",
            )
            for wanted in (True, False)
        ]
        raw += parts[0].raw[parts[1].raw.argmax()]
        perfect, null = perfect + parts[0].perfect, null + parts[0].null
    return 100 * (raw - null) / (perfect - null)
