"""A simulated network between workers and their observer: lost beats, delays and pauses, and what each detector makes of it.

The regimes are assumptions, stated here in full. No public trace of heartbeats was to be had.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from perdure.domain.health.arrival import PHI_SUSPECT, Arrivals

DAY_S = 86_400.0
LOOK_S = 1.0  # how often the observer looks


@dataclass(frozen=True)
class Regime:
    """What goes wrong in a day of a worker: the share of beats lost, their delay, and pauses (exponential)."""

    name: str
    loss: float
    delay_s: float
    pauses_per_day: float
    pause_mean_s: float


CLEAN = Regime("clean", loss=0.0002, delay_s=0.002, pauses_per_day=0.5, pause_mean_s=4.0)
CLOUD = Regime("cloud", loss=0.01, delay_s=0.02, pauses_per_day=6.0, pause_mean_s=10.0)
STARVED = Regime("starved", loss=0.02, delay_s=0.05, pauses_per_day=36.0, pause_mean_s=12.0)
REGIMES = (CLEAN, CLOUD, STARVED)

# Given the arrivals of a day, how long a silence each one may be followed by.
Limits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Verdicts:
    """What a detector did: false deaths per worker-day, and seconds from a death to its verdict."""

    false_per_day: float
    detection_mean_s: float
    detection_p99_s: float


def arrivals(regime: Regime, beat_s: float, generator: np.random.Generator) -> np.ndarray:
    """When the beats of one day arrive; a worker that pauses beats once when it wakes."""
    sent = np.arange(generator.uniform(0, beat_s), DAY_S, beat_s)
    sent = sent + generator.normal(0, 0.005, len(sent))
    count = generator.poisson(regime.pauses_per_day)
    starts = generator.uniform(0, DAY_S, count)
    for start, length in zip(starts, generator.exponential(regime.pause_mean_s, count), strict=True):
        sent = np.where((sent > start) & (sent < start + length), start + length, sent)
    sent = np.unique(sent)
    arrived = sent[generator.random(len(sent)) >= regime.loss]
    # Delays are log-normal: most are near the median, one in a hundred is ten times as long.
    return np.sort(arrived + regime.delay_s * np.exp(generator.normal(0, 1, len(arrived))))


def fixed(limit_s: float) -> Limits:
    return lambda beats: np.full(len(beats), limit_s)


def accrual(beat_s: float, *, pauses: float, phi: float = PHI_SUSPECT) -> Limits:
    """Phi-accrual that forgives `pauses` beats."""

    def limits(beats: np.ndarray) -> np.ndarray:
        known = Arrivals(interval_s=beat_s, pause_s=pauses * beat_s)
        return np.fromiter(_silences(known, beats, phi), float, len(beats))

    return limits


def _silences(known: Arrivals, beats: np.ndarray, phi: float) -> Iterator[float]:
    for beat in beats:
        known.heard(float(beat))
        yield known.silence_until(phi)


def measured(regime: Regime, beat_s: float, limits: Limits, *, days: int, seed: int = 0) -> Verdicts:
    """Run a detector over worker-days; deaths to detect come at random moments."""
    generator = np.random.default_rng(seed)
    false = 0
    detections = []
    for _ in range(days):
        beats = arrivals(regime, beat_s, generator)
        allowed = limits(beats)
        false += int((np.diff(beats) > allowed[:-1]).sum())
        deaths = generator.uniform(DAY_S / 2, DAY_S, 50)
        last = np.searchsorted(beats, deaths) - 1
        verdict = beats[last] + allowed[last] + generator.uniform(0, LOOK_S, len(deaths))
        detections.append(np.maximum(verdict - deaths, 0.0))
    found = np.concatenate(detections)
    return Verdicts(false / days, float(found.mean()), float(np.quantile(found, 0.99)))
