import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.health.arrival import Arrivals, Silence


def regular(count: int = 100, *, jitter: float = 0.0) -> Arrivals:
    known = Arrivals(interval_s=10.0, pause_s=10.0)
    for number in range(count):
        known.heard(number * 10.0 + (jitter if number % 2 else 0.0))
    return known


def test_phi_is_the_exponent_of_the_probability_that_a_beat_still_comes() -> None:
    """One standard deviation past mean and pause leaves 15.87 %."""
    known = regular(101, jitter=0.5)
    assert known.phi(1000 + 10 + 10 + 0.5) == pytest.approx(-math.log10(0.158655), rel=0.02)


def test_one_lost_beat_is_forgiven_and_two_are_not() -> None:
    known = regular()
    assert known.phi(990 + 19.9) < 1
    assert known.phi(990 + 30.0) > 8


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_phi_rises_with_silence(first: float, second: float) -> None:
    known = regular()
    early, late = sorted((first, second))
    assert known.phi(990 + early) <= known.phi(990 + late)


def test_the_silence_that_is_allowed_ends_where_phi_is_reached() -> None:
    known = regular(jitter=0.3)
    at = 990.3 + known.silence_until(8.0)
    assert known.phi(at - 0.01) < 8 < known.phi(at + 0.01)


def test_a_clock_that_goes_back_teaches_nothing() -> None:
    known = regular()
    before = known.silence_until(8.0)
    known.heard(500.0)
    known.heard(990.0)
    assert known.silence_until(8.0) == before


def test_before_any_beat_nothing_is_suspect() -> None:
    assert Arrivals(interval_s=10, pause_s=10).phi(1e9) == 0


def test_the_last_thousand_gaps_count_and_no_earlier_ones() -> None:
    known, fresh = (Arrivals(interval_s=1, pause_s=0) for _ in range(2))
    now = 0.0
    for number in range(5000):
        now += 50.0 if number < 3999 else 1.0 + number % 7
        known.heard(now)
        if number >= 3999:
            fresh.heard(now)
    known.heard(now + 1)
    fresh.heard(now + 1)
    assert known.silence_until(3) == pytest.approx(fresh.silence_until(3), rel=1e-6)


def test_an_observer_that_is_slow_itself_waits_longer() -> None:
    limits = Silence(suspect_s=6, dead_s=15)
    assert [limits.verdict(at) for at in (5, 7, 16)] == ["alive", "suspect", "dead"]
    assert Silence(suspect_s=6, dead_s=15, stretch=3).verdict(16) == "alive"
