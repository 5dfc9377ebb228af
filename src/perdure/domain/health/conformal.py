"""Anomalies in one metric, streaming: how far a value lies from the nearest one ever seen.

The distance to the nearest earlier value is ranked among the earlier distances: a conformal p-value (Laxhammar and Falkman
2011), which needs no law of the data. Half the order of magnitude of the plain z is added, so that among values that are
all new the larger ones count for more. Nothing is scaled, so units do not matter.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

from perdure.domain.health.deviation import BEYOND_SENSE

MEMORY = 20_000
WARM_UP = 10
WEIGHT_Z = 0.5


class LoneMetric:
    """The detector for one metric; at most `memory` values are remembered.

    A score is -log10 of the p-value plus 0.5 log10(1 + |z|): 0 for what is usual, about 3 for what happens once in a
    thousand rows. The first 10 values score 0.
    """

    def __init__(self, *, memory: int = MEMORY) -> None:
        self._order: deque[tuple[float, float]] = deque()
        self._memory = memory
        self._values: list[float] = []
        self._distances: list[float] = []
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def update(self, value: float) -> float:
        """Score a value, then learn it. One that is not finite, or beyond 1e100, scores 0 and teaches nothing."""
        if not abs(value) < BEYOND_SENSE:
            return 0.0
        distance = self._nearest(value)
        score = self._score(value, distance) if self._count >= WARM_UP else 0.0
        self._learn(value, distance)
        return score

    def score(self, values: Iterable[float]) -> list[float]:
        """Score values in order, learning each after it was scored."""
        return [self.update(float(value)) for value in values]

    def _nearest(self, value: float) -> float:
        at = bisect_left(self._values, value)
        around = self._values[max(at - 1, 0) : at + 1]
        return min((abs(value - one) for one in around), default=0.0)

    def _score(self, value: float, distance: float) -> float:
        known = len(self._distances)
        at_least = known - bisect_left(self._distances, distance)
        spread = math.sqrt(self._squares / self._count)
        z = abs(value - self._mean) / max(spread, 1e-9 * (1 + abs(self._mean)))
        return math.log10((known + 1) / (at_least + 1)) + WEIGHT_Z * math.log10(1 + z)

    def _learn(self, value: float, distance: float) -> None:
        self._order.append((value, distance))
        insort(self._values, value)
        insort(self._distances, distance)
        if len(self._order) > self._memory:
            old_value, old_distance = self._order.popleft()
            del self._values[bisect_left(self._values, old_value)]
            del self._distances[bisect_left(self._distances, old_distance)]
        self._count += 1
        off = value - self._mean
        self._mean += off / self._count
        self._squares += off * (value - self._mean)
