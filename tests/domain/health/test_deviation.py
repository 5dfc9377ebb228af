import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.health.deviation import deviation

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def test_a_spike_is_found_with_few_samples() -> None:
    """The newest value is no part of its own baseline, so five samples are enough."""
    found = deviation([10.0, 11.0, 9.0, 10.0, 50.0])
    assert found is not None
    assert found.expected == 10.0
    assert found.severity == 5


@pytest.mark.parametrize(("newest", "severity"), [(2.5, 2), (3.5, 3), (4.0, 4), (99.0, 5), (-3.1, 3)])
def test_the_severity_is_the_whole_part_of_z(newest: float, severity: int) -> None:
    found = deviation([1.0, -1.0] * 50 + [newest])
    assert found is not None
    assert found.severity == severity


def test_two_standard_deviations_are_not_more_than_two() -> None:
    assert deviation([1.0, -1.0] * 50 + [2.0]) is None


def test_only_a_hundred_samples_before_the_newest_count() -> None:
    assert deviation([1e9] * 7 + [1.0, -1.0] * 50 + [1.5]) is None


def test_what_never_varied_and_moves_is_found_and_rounding_is_not() -> None:
    found = deviation([0.1] * 10 + [0.2])
    assert found is not None
    assert math.isinf(found.z)
    assert found.severity == 5
    assert deviation([0.1] * 10 + [0.1 + 1e-17]) is None


@given(st.lists(FLOATS, max_size=20))
def test_no_samples_make_it_fail_and_what_is_not_finite_is_not_judged(samples: list[float]) -> None:
    found = deviation(samples)
    if len(samples) < 4 or not math.isfinite(samples[-1]):
        assert found is None
    if found is not None:
        assert 2 <= found.severity <= 5
