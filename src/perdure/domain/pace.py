"""Jobs spread over time, at a rate."""

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from perdure.domain.errors import InvalidOption

RATE_MAX = 10_000.0


class Pace:
    """Spreads jobs over time: the n-th starts n / rate seconds after the first."""

    def __init__(self, rate: float | None, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._began: float | None = None
        self._given = 0

    def delays(self, job_ids: Sequence[UUID]) -> dict[UUID, timedelta]:
        elapsed = self._elapsed()
        first, self._given = self._given, self._given + len(job_ids)
        return {job_id: self._after(first + n, elapsed) for n, job_id in enumerate(job_ids)}

    def finishes_in(self, count: int) -> timedelta:
        return self._after(max(0, count - 1), self._elapsed())

    def _elapsed(self) -> float:
        now = self._monotonic()
        if self._began is None:
            self._began = now
        return now - self._began

    def _after(self, place: int, elapsed: float) -> timedelta:
        return timedelta(seconds=max(0.0, place / self._rate - elapsed)) if self._rate else timedelta(0)


def checked_rate(rate: float | None) -> float | None:
    """The rate, if it is one that can be kept. Raises InvalidOption."""
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= RATE_MAX):
        raise InvalidOption("rate", f"{rate} is outside 0 to {RATE_MAX:g} per second")
    return rate
