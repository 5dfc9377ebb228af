"""Features of a unit's past: the same function serves training and the living worker."""

from collections.abc import Sequence

from perdure.domain.health.arrays import ArrayLike, Floats, matrix, np
from perdure.domain.health.deviation import BEYOND_SENSE

FAST, SLOW = 5.0, 20.0  # rows after which an average has forgotten all but 1/e
WINDOW = 30
START = 20
BLOCK = 64


def histories(X: ArrayLike) -> Floats:
    """For each row of one unit, oldest first, what its past says, using that row and earlier ones only.

    For each of the d columns: fast and slow moving average, shift of the fast one from the unit's own first rows,
    slope over the last rows; then the age in rows. The shape is (rows, 4 d + 1). The spread over the last rows was tried and
    made forecasts worse. Values that are not finite
    repeat the last finite one, or 0.
    """
    rows = filled(matrix(X, field="X"))
    fast, slow = moving(rows, FAST), moving(rows, SLOW)
    age = np.arange(1.0, len(rows) + 1)
    start = np.cumsum(rows[:START], axis=0) / age[:START, np.newaxis]
    start = np.concatenate([start, np.repeat(start[-1:], max(len(rows) - START, 0), axis=0)])
    return np.column_stack([fast, slow, fast - start, slopes(rows, WINDOW), age])


def feature_names(metrics: Sequence[str]) -> tuple[str, ...]:
    """The columns of `histories`, in order."""
    parts = ("level", "slow_level", "shift", "slope")
    return (*(f"{metric}.{part}" for part in parts for metric in metrics), "age")


def filled(rows: Floats) -> Floats:
    """Rows in which what is not finite, or beyond 1e100, repeats the last finite value of its column, or 0."""
    finite = np.abs(rows) < BEYOND_SENSE
    latest = np.maximum.accumulate(np.where(finite, np.arange(len(rows))[:, np.newaxis], -1), axis=0)
    known = np.take_along_axis(rows, np.maximum(latest, 0), axis=0)
    return np.asarray(np.where(latest >= 0, known, 0.0))


def moving(rows: Floats, memory: float) -> Floats:
    """Exponential moving averages, corrected for their start."""
    age = np.arange(1.0, len(rows) + 1)[:, np.newaxis]
    return averages(rows, memory) / -np.expm1(-age / memory)


def averages(rows: Floats, memory: float) -> Floats:
    """Exponential moving averages that start at 0.

    Rows go by the block, as one product with the weights of the past; ten times as quick as row by row.
    """
    lag = np.arange(BLOCK)[:, np.newaxis] - np.arange(BLOCK)
    weights = np.where(lag >= 0, -np.expm1(-1 / memory) * np.exp(-np.maximum(lag, 0) / memory), 0.0)
    fading = np.exp(-np.arange(1.0, BLOCK + 1) / memory)[:, np.newaxis]
    found, last = np.empty_like(rows), np.zeros((1, rows.shape[1]))
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        found[start : start + BLOCK] = weights[: len(part), : len(part)] @ part + fading[: len(part)] * last
        last = found[start + len(part) - 1 : start + len(part)]
    return found


def slopes(rows: Floats, window: int) -> Floats:
    """Least-squares slope per row over the last `window` rows (fewer at the start)."""
    index = np.arange(len(rows), dtype=np.float64)[:, np.newaxis]
    parts = (np.ones_like(index), index, index**2, rows, rows * index)
    count, at, at_squared, total, product = (_windowed(part, window) for part in parts)
    variance = np.maximum(at_squared / count - (at / count) ** 2, 1e-12)
    slope = (product / count - (at / count) * (total / count)) / variance
    return np.asarray(np.where(count > 1, slope, 0.0))


def _windowed(part: Floats, window: int) -> Floats:
    total = np.cumsum(part, axis=0)
    total[window:] -= total[:-window].copy()
    return total
