import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.health.histories import averages, feature_names, histories


def test_features_of_a_line_are_its_slope_and_its_age() -> None:
    rows = np.arange(100.0)[:, np.newaxis] * 0.5
    found = dict(zip(feature_names(["memory"]), histories(rows)[-1], strict=True))
    assert found["memory.slope"] == pytest.approx(0.5)
    assert found["age"] == 100
    assert found["memory.shift"] == pytest.approx(found["memory.level"] - rows[:20].mean())


@given(st.integers(2, 80), st.integers(0, 2**32))
def test_features_look_back_only(rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(rows, 2))
    whole = histories(values)
    assert np.allclose(whole[: rows // 2 + 1], histories(values[: rows // 2 + 1]))
    assert whole.shape == (rows, len(feature_names(["a", "b"])))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=50))
def test_broken_samples_leave_finite_features(values: list[float]) -> None:
    assert np.isfinite(histories(np.array(values)[:, np.newaxis])).all()


@given(st.integers(1, 200), st.floats(1, 500))
def test_averages_by_the_block_are_those_row_by_row(rows: int, memory: float) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, 2))
    average = np.zeros(2)
    for row, found in zip(values, averages(values, memory), strict=True):
        average = average + (1 - np.exp(-1 / memory)) * (row - average)
        assert np.allclose(found, average)
