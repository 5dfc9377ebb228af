import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.health.trend import TrendAction, trend

SCORES = st.lists(st.floats(0, 1), max_size=30)


@pytest.mark.parametrize(
    ("scores", "probability", "seconds", "action"),
    [
        ([1.0, 0.9, 0.75, 0.6, 0.45, 0.3], 0.896, 0.0, TrendAction.PREEMPTIVE_RESTART),
        ([1.0, 0.9, 0.8], 0.24, 150.0, TrendAction.CONTINUE),
        ([1.0, 0.75, 0.5], 0.75, 24.0, TrendAction.PREEMPTIVE_RESTART),
        ([0.9, 0.9, 0.9, 0.9], 0.10, None, TrendAction.CONTINUE),
        ([0.2, 0.1], 0.1, None, TrendAction.CONTINUE),
    ],
)
def test_the_baseline_gives_its_check_values(
    scores: list[float], probability: float, seconds: float | None, action: TrendAction
) -> None:
    found = trend(scores)
    assert found.probability == pytest.approx(probability)
    assert found.time_to_failure_s == (None if seconds is None else pytest.approx(seconds))
    assert found.action is action


@given(SCORES)
def test_a_probability_is_one_whatever_the_scores(scores: list[float]) -> None:
    found = trend(scores)
    assert 0 <= found.probability <= 1
    assert found.time_to_failure_s is None or found.time_to_failure_s >= 0


def test_only_the_last_ten_scores_count() -> None:
    assert trend([0.0] * 5 + [0.9] * 10) == trend([0.9] * 10)
