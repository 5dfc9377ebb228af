"""When a measure that drifts will reach its limit: a straight line through its past, with honest doubt.

The line is fitted to the last 10, 30 or 90 values, whichever shows the surest drift; its errors grow with the correlation
of neighbouring residuals. A drift that is not three errors sure counts as none. And a line is believed the less, the further it is drawn
beyond what was seen: half of it at four times the length of its past.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WINDOWS = (10, 30, 90)
SURE = 3.0
VALUES_MIN = 5
BELIEVED_SPANS = 4.0


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line at its newest moment: level and its error, slope per second and its error, and the seconds it spans."""

    level: float
    level_error: float
    slope: float
    slope_error: float
    span_s: float

    @property
    def surely_rises(self) -> bool:
        return self.slope > SURE * self.slope_error

    def reaches(self, limit: float, within_s: float) -> float:
        """The probability that the line has reached `limit` after so many seconds; 0 when it does not surely rise."""
        if self.level >= limit:
            return 1.0
        if not self.surely_rises:
            return 0.0
        ahead = self.level + self.slope * within_s - limit
        doubt = math.hypot(self.level_error, self.slope_error * within_s)
        reached = 0.5 * math.erfc(-ahead / (doubt * math.sqrt(2))) if doubt > 0 else float(ahead >= 0)
        spans = (limit - self.level) / self.slope / (BELIEVED_SPANS * self.span_s)
        return reached / (1 + spans * spans)


def line(at_s: Sequence[float], values: Sequence[float]) -> Line | None:
    """The line through values at rising moments, by the window with the surest rise; None for fewer than five values.

    Values that are not finite are left out, and so are moments that do not rise: a clock that jumps teaches nothing.
    """
    points = _usable(at_s, values)
    found = [fitted for window in WINDOWS if (fitted := _fitted(points[-window:])) is not None]
    if not found:
        return None
    return max(found, key=lambda one: one.slope / max(one.slope_error, 1e-300))


def _usable(at_s: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for at, value in zip(at_s, values, strict=True):
        if math.isfinite(at) and abs(value) < 1e100 and (not points or at > points[-1][0]):
            points.append((at, value))
    return points


def _fitted(points: list[tuple[float, float]]) -> Line | None:
    count = len(points)
    if count < VALUES_MIN:
        return None
    end = points[-1][0]
    times = [at - end for at, _ in points]
    values = [value for _, value in points]
    mean_at, mean = math.fsum(times) / count, math.fsum(values) / count
    spread = math.fsum((at - mean_at) ** 2 for at in times)
    slope = (
        math.fsum((at - mean_at) * (value - mean) for at, value in zip(times, values, strict=True)) / spread
    )
    left = [value - mean - slope * (at - mean_at) for at, value in zip(times, values, strict=True)]
    squares = math.fsum(one * one for one in left)
    variance = squares / (count - 2) * _correlation_factor(left, squares)
    return Line(
        level=mean - slope * mean_at,
        level_error=math.sqrt(variance * (1 / count + mean_at**2 / spread)),
        slope=slope,
        # Few values leave the slope more in doubt than their scatter shows.
        slope_error=math.sqrt(variance / spread) * math.sqrt((count - 1) / (count - 3)),
        span_s=-times[0],
    )


def _correlation_factor(left: list[float], squares: float) -> float:
    """By how much neighbouring residuals that go together inflate the variance of what is fitted to them."""
    if squares <= 0:
        return 1.0
    together = math.fsum(one * other for one, other in pairwise(left)) / squares
    together = min(max(together, 0.0), 0.9)
    return (1 + together) / (1 - together)
