import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.health.conformal import LoneMetric

FINITE = st.floats(-1e6, 1e6)


def usual(count: int = 500) -> list[float]:
    generator = random.Random(1)
    return [round(generator.gauss(50, 5), 2) for _ in range(count)]


def test_a_level_never_seen_scores_high_and_the_usual_low() -> None:
    metric = LoneMetric()
    scores = metric.score(usual())
    assert sorted(scores)[len(scores) // 2] < 1
    assert metric.update(120.0) > 3


def test_a_value_between_two_usual_levels_is_found() -> None:
    """Distance to the nearest value sees a gap, which a mean and a spread cannot."""
    metric = LoneMetric()
    generator = random.Random(2)
    metric.score(generator.choice((10.0, 90.0)) + generator.gauss(0, 1) for _ in range(500))
    assert metric.update(50.0) > 2
    assert metric.update(10.0) < 1


def test_under_exchangeable_values_alarms_are_as_rare_as_they_say() -> None:
    """The rank part is a p-value: 2 is passed about once in a hundred."""
    generator = random.Random(3)
    scores = LoneMetric().score(generator.random() for _ in range(20_000))
    assert sum(score - 0.5 * math.log10(1 + 1.74) > 2 for score in scores[1000:]) / 19_000 < 0.013


def test_what_is_not_finite_scores_nothing_and_teaches_nothing() -> None:
    one, other = LoneMetric(), LoneMetric()
    values = usual(100)
    one.score(values)
    for value in values:
        other.update(value)
        assert other.update(math.nan) == other.update(math.inf) == 0
    assert one.update(77.7) == other.update(77.7)


def test_a_constant_metric_is_usual_until_it_moves() -> None:
    metric = LoneMetric()
    assert max(metric.score([5.0] * 200)) == pytest.approx(0)
    assert metric.update(5.1) > 3


@given(st.lists(FINITE, min_size=1, max_size=120), st.integers(1, 30))
def test_memory_is_bounded_and_scores_are_finite(values: list[float], memory: int) -> None:
    metric = LoneMetric(memory=memory)
    assert all(math.isfinite(score) and score >= 0 for score in metric.score(values))
    assert len(metric._values) == len(metric._distances) == min(len(values), memory)
    assert metric._values == sorted(values[-memory:])
