"""What is known of failures before a worker shows anything: how often workers of this fleet have failed so far.

The hazard falls with age as of real nodes (Weibull shape 0.6; 0.61 was measured on LANL's). Its scale is learnt from the fleet with a
gamma law, so that the probability is exact for the little that is known: with few failures the tail is heavy and the interval wide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SHAPE = 0.6
DAY_S = 86_400.0
FAILURES_BEFORE = 0.5
DAYS_BEFORE = 30.0
"""The prior: about half a failure in thirty days of a worker."""

FAILED_RECENTLY = 5.0
"""A node that has failed lately fails this much sooner again: of LANL's 8 % did in a week, of all 1.6 %."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Failures seen, and the exposure in which they were: the ages of all workers, living and gone, each to the power of the shape."""

    failures: int = 0
    exposure: float = 0.0

    def survival(self, within_s: float, *, age_s: float, failed_recently: bool = False) -> float:
        """The probability that a worker of that age outlives so many seconds more."""
        if within_s <= 0:
            return 1.0
        age, later = (max(one, 0.0) / DAY_S for one in (age_s, age_s + within_s))
        extra = (later**SHAPE - age**SHAPE) * (FAILED_RECENTLY if failed_recently else 1.0)
        known = FAILURES_BEFORE * DAYS_BEFORE**SHAPE / 0.5 + self.exposure
        return math.exp((FAILURES_BEFORE + self.failures) * -math.log1p(extra / known))


def fleet(ages_s: Sequence[float], *, failures: int) -> Fleet:
    """What workers of these ages teach, of which so many have failed; ages that make no sense count as none."""
    sound = [min(age, 3650 * DAY_S) for age in ages_s if age > 0]
    return Fleet(failures=max(failures, 0), exposure=math.fsum((age / DAY_S) ** SHAPE for age in sound))
