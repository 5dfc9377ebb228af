"""How long a queue needs to be empty."""

from datetime import timedelta

import pytest

from perdure.domain.activity import time_to_drain


@pytest.mark.parametrize(
    ("depth", "arriving", "finishing", "seconds"),
    [
        (0, 5.0, 0.0, 0.0),
        (100, 0.0, 10.0, 10.0),
        (100, 5.0, 10.0, 20.0),
        (100, 10.0, 10.0, None),
        (1, 2.0, 1.0, None),
    ],
)
def test_what_arrives_meanwhile_has_to_be_done_too(
    depth: int, arriving: float, finishing: float, seconds: float | None
) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert time_to_drain(depth, arriving, finishing) == expected


def test_longer_than_a_year_is_never() -> None:
    assert time_to_drain(10**9, 1.0, 1.0001) is None
