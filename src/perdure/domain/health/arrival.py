"""Liveness from the times of heartbeats: a fixed limit, and phi-accrual (Hayashibara et al. 2004).

Phi is the negative logarithm, to base 10, of the probability that a beat which is this late still comes; 8 means one
in a hundred million under a normal law of the gaps. It is an opinion and may hold back new work; what takes work away
is a lease that has run out.
"""

import math
from collections import deque
from dataclasses import dataclass, field

GAPS = 1000
PHI_SUSPECT = 8.0
PHI_MAX = 300.0


@dataclass(slots=True)
class Arrivals:
    """The gaps between the beats of one worker, in seconds.

    `pause_s` is the lateness that is always forgiven, `spread_min_s` the least spread assumed: few or regular beats
    give no false certainty. Before any gap is known, `interval_s` is the expected one.
    """

    interval_s: float
    pause_s: float
    spread_min_s: float = 0.1
    _gaps: deque[float] = field(default_factory=lambda: deque(maxlen=GAPS))
    _sum: float = 0.0
    _squares: float = 0.0
    _latest: float | None = None

    def heard(self, now_s: float) -> None:
        """Note a beat. A clock that went back, or a beat out of order, teaches nothing."""
        if self._latest is not None:
            gap = now_s - self._latest
            if not gap > 0:
                return
            self._learn(gap)
        self._latest = now_s

    def phi(self, now_s: float) -> float:
        """How suspect the silence is at `now_s`, 0 to 300."""
        if self._latest is None:
            return 0.0
        mean, spread = self._law()
        late = (now_s - self._latest - mean - self.pause_s) / spread
        tail = 0.5 * math.erfc(late / math.sqrt(2))
        return min(PHI_MAX, -math.log10(tail)) if tail > 0 else PHI_MAX

    def silence_until(self, phi: float) -> float:
        """After how many seconds of silence phi is reached."""
        mean, spread = self._law()
        low, high = 0.0, 40.0  # erfc is 0 in floats from 38.5 standard deviations on
        for _ in range(60):
            middle = (low + high) / 2
            tail = 0.5 * math.erfc(middle / math.sqrt(2))
            low, high = (middle, high) if tail > 10**-phi else (low, middle)
        return mean + self.pause_s + high * spread

    def _law(self) -> tuple[float, float]:
        count = len(self._gaps)
        if count == 0:
            return self.interval_s, max(self.spread_min_s, self.interval_s / 4)
        mean = self._sum / count
        return mean, max(self.spread_min_s, math.sqrt(max(self._squares / count - mean * mean, 0.0)))

    def _learn(self, gap: float) -> None:
        if len(self._gaps) == GAPS:
            oldest = self._gaps[0]
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._gaps.append(gap)
        self._sum += gap
        self._squares += gap * gap


@dataclass(frozen=True, slots=True)
class Silence:
    """The three limits of a worker's silence, in seconds, as an observer applies them."""

    suspect_s: float
    dead_s: float
    stretch: float = 1.0

    def verdict(self, silent_s: float) -> str:
        """`alive`, `suspect` or `dead`; limits are stretched while the observer itself is slow."""
        if silent_s > self.dead_s * self.stretch:
            return "dead"
        return "suspect" if silent_s > self.suspect_s * self.stretch else "alive"
