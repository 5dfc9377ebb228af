"""Anomalies in many metrics together: how far a row lies from what the rows before it lead to expect.

A ridge regression foretells each row from the three before it and two slow averages (a vector autoregression); the score is
the root of the mean squared residual in units of its spread in training, the newest and a moving average in equal parts.
The training part needs no labels.
"""

import math
from dataclasses import dataclass

from perdure.domain.errors import InvalidInput
from perdure.domain.health.arrays import ArrayLike, Floats, matrix, np
from perdure.domain.health.deviation import BEYOND_SENSE
from perdure.domain.health.histories import averages, filled

LAGS = 3
MEMORIES = (12.0, 100.0)
RIDGE = 100.0
CLIP = 10.0  # standardised values beyond it are cut before they foretell anything
RESIDUAL_MAX = 30.0  # no single metric can count for more
SPREAD_MIN = 0.01
SCORE_MEMORY = 10.0
ROWS_MIN = 50


@dataclass(frozen=True, slots=True)
class ResidualModel:
    """A fitted detector. `score` takes whole series; `stream` takes rows as they come and says the same."""

    center: Floats
    scale: Floats
    weights: Floats
    offsets: Floats
    spread: Floats

    def score(self, X: ArrayLike) -> Floats:
        """One score for each row, from that row and earlier ones only; about 1 is usual."""
        return np.asarray(np.sqrt(self.contributions(X).mean(axis=1)))

    def contributions(self, X: ArrayLike) -> Floats:
        """How much each metric counts (rows, metrics); the score is the root of their mean."""
        rows = filled(matrix(X, field="X", columns=len(self.center)))
        now = _standardised(rows, self.center, self.scale)
        off = (now - _past(now) @ self.weights - self.offsets) / self.spread
        squares = np.minimum(off * off, RESIDUAL_MAX**2)
        squares[:LAGS] = 0.0
        return (squares + averages(squares, SCORE_MEMORY)) / 2

    def expected(self, X: ArrayLike) -> Floats:
        """What each row was expected to be, in the metrics' own units."""
        now = _standardised(filled(matrix(X, field="X", columns=len(self.center))), self.center, self.scale)
        return np.asarray((_past(now) @ self.weights + self.offsets) * self.scale + self.center)

    def stream(self) -> "ResidualStream":
        return ResidualStream(self)


class ResidualStream:
    """The detector for rows that come one by one; holds the few past rows that it needs."""

    def __init__(self, model: ResidualModel) -> None:
        metrics = len(model.center)
        self._model = model
        self._past = np.zeros((LAGS + len(MEMORIES), metrics))
        self._flat = self._past.ravel()
        self._gain = (1 - np.exp(-1 / np.array(MEMORIES)))[:, np.newaxis]
        self._score_gain = 1 - np.exp(-1 / SCORE_MEMORY)
        self._latest = model.center.copy()
        self._average = np.zeros(metrics)
        self._seen = 0

    def update(self, row: ArrayLike) -> tuple[float, Floats]:
        """The score of a row and what each metric counts; values that are not finite repeat the last one."""
        model = self._model
        values = np.asarray(row, dtype=np.float64)
        if not np.abs(values).max() < BEYOND_SENSE:
            values = np.where(np.abs(values) < BEYOND_SENSE, values, self._latest)
        self._latest = values
        now = _standardised(values, model.center, model.scale)
        off = (now - self._flat @ model.weights - model.offsets) / model.spread
        squares = np.minimum(off * off, RESIDUAL_MAX**2)
        if self._seen < LAGS:
            squares = np.zeros_like(squares)
        self._average += self._score_gain * (squares - self._average)
        self._remember(now)
        counts = (squares + self._average) / 2
        return math.sqrt(counts.sum() / len(counts)), counts

    def _remember(self, now: Floats) -> None:
        past = self._past
        past[1:LAGS] = past[: LAGS - 1]
        past[0] = now
        past[LAGS:] += self._gain * (now - past[LAGS:])
        self._seen += 1


def fit(X: ArrayLike, *, ridge: float = RIDGE) -> ResidualModel:
    """Learn what is usual from unlabelled rows (rows, metrics), oldest first, at equal distances in time.

    A metric that never varied is expected to stay within a tenth of its value (or 0.1, at 0). Values that are not finite
    repeat the last one. Raises InvalidInput for fewer than 50 rows.
    """
    rows = filled(matrix(X, field="X"))
    if len(rows) < ROWS_MIN:
        raise InvalidInput("X", f"has {len(rows)} rows; at least {ROWS_MIN} are needed to know what is usual")
    center, spread = rows.mean(axis=0), rows.std(axis=0)
    varies = spread > 1e-9 * (1 + np.abs(center))
    scale = np.where(varies, spread, np.maximum(0.1 * np.abs(center), 0.1))
    now = _standardised(rows, center, scale)
    past = _past(now)[LAGS:]
    design = np.column_stack([past, np.ones(len(past))])
    penalty = ridge * np.eye(design.shape[1])
    solution = np.asarray(
        np.linalg.solve(design.T @ design + penalty, design.T @ now[LAGS:]), dtype=np.float64
    )
    left = (now[LAGS:] - design @ solution).std(axis=0)
    usual = np.where(varies, np.maximum(left, SPREAD_MIN), 1.0)
    return ResidualModel(center, scale, solution[:-1], solution[-1], usual)


def _standardised(rows: Floats, center: Floats, scale: Floats) -> Floats:
    # Twice as quick as clip for a single row.
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is beyond the clip anyway
        return np.asarray(np.minimum(np.maximum((rows - center) / scale, -CLIP), CLIP))


def _past(now: Floats) -> Floats:
    """What is known before each row: the last rows, newest first, and the slow averages up to the last one."""
    padded = np.concatenate([np.zeros((LAGS, now.shape[1])), now])
    last = [padded[LAGS - back : LAGS - back + len(now)] for back in range(1, LAGS + 1)]
    slow = [np.concatenate([np.zeros((1, now.shape[1])), averages(now, memory)[:-1]]) for memory in MEMORIES]
    return np.column_stack([*last, *slow])
