from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.job import PRIORITIES
from perdure.domain.rank import HEAD_START, Band, band_of, rank_of

moments = st.datetimes(timezones=st.just(UTC))
priorities = st.sampled_from(PRIORITIES)


@given(moments, moments, priorities, priorities)
def test_a_band_is_first_in_first_out(one: datetime, other: datetime, high: int, low: int) -> None:
    if band_of(high) is band_of(low):
        assert (rank_of(one, high) < rank_of(other, low)) is (one < other)


@given(moments, priorities, st.timedeltas(timedelta(0), timedelta(days=1)), priorities)
def test_a_job_is_overtaken_only_within_the_head_start(
    ready: datetime, priority: int, later: timedelta, other: int
) -> None:
    lead = HEAD_START[band_of(other)] - HEAD_START[band_of(priority)]
    assert (rank_of(ready + later, other) < rank_of(ready, priority)) is (later < lead)


@pytest.mark.parametrize(
    ("priority", "band"), [(1, Band.LOW), (2, Band.MEDIUM), (3, Band.MEDIUM), (4, Band.HIGH), (5, Band.HIGH)]
)
def test_bands_are_those_of_the_specification(priority: int, band: Band) -> None:
    assert band_of(priority) is band


def test_a_low_job_rises_to_medium_after_a_minute_and_a_medium_one_to_high_after_two() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert rank_of(start, 1) == rank_of(start + timedelta(seconds=60), 3)
    assert rank_of(start, 3) == rank_of(start + timedelta(seconds=120), 5)
