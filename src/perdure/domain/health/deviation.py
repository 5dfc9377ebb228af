"""The advisory level for one metric: how many standard deviations the newest value lies off the earlier ones.

The baseline leaves the newest value out. With it inside, |z| could not exceed the root of n - 1, and nothing could be
reported with five samples or fewer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SAMPLES = 100
SAMPLES_MIN = 3
NOTICE_Z = 2.0
SEVERITY_MAX = 5
BEYOND_SENSE = 1e100  # no measure is that large; its square still fits a float


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A value that lies off; `severity` is the whole part of |z|, at most 5."""

    value: float
    expected: float
    z: float
    severity: int


def deviation(samples: Sequence[float], *, notice: float = NOTICE_Z) -> Deviation | None:
    """Judge the newest of `samples` (oldest first) by up to 100 before it; None when it is within `notice`.

    Values that are not finite, or beyond 1e100, are left out; None too when the newest is one of them or fewer than 3 remain before it.
    A baseline that never varied makes any other value infinite standard deviations off.
    """
    if not samples or not abs(samples[-1]) < BEYOND_SENSE:
        return None
    newest = float(samples[-1])
    baseline = [float(one) for one in samples[-1 - SAMPLES : -1] if abs(one) < BEYOND_SENSE]
    if len(baseline) < SAMPLES_MIN:
        return None
    mean = math.fsum(baseline) / len(baseline)
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in baseline) / len(baseline))
    z = _standardised(newest - mean, spread, abs(mean))
    if not abs(z) > notice:
        return None
    severity = int(min(SEVERITY_MAX, abs(z)))
    return Deviation(value=newest, expected=mean, z=z, severity=severity)


def _standardised(off: float, spread: float, size: float) -> float:
    if abs(off) <= 1e-12 * size:  # rounding of equal values is no deviation
        return 0.0
    return off / spread if spread > 1e-12 * size else math.copysign(math.inf, off)
