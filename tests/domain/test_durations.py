from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.durations import LONGEST, format_duration, parse_duration
from perdure.domain.errors import InvalidOption


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2m", 120),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("10s", 10),
        ("1d", 86_400),
        ("1w", 604_800),
        ("1.5h", 5400),
        (" 1h 30m ", 5400),
        ("250us", 0.000_25),
        (90, 90),
        (0.25, 0.25),
        (timedelta(minutes=3), 180),
        ("0s", 0),
    ],
)
def test_a_duration_means_what_people_write(value: str | float | timedelta, seconds: float) -> None:
    assert parse_duration(value) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10",
        "m",
        "1x",
        "-1s",
        "1m1h",
        "1s1s",
        "1h-5m",
        "nan",
        "1e3s",
        "²s",
        -1,
        -0.5,
        float("nan"),
        float("inf"),
        "9" * 30 + "d",
        "36501d",
        10**30,
        timedelta(seconds=-1),
        timedelta.max,
        True,
        None,
        [1],
        b"1s",
    ],
)
def test_anything_else_is_refused_by_the_name_of_its_option(value: object) -> None:
    with pytest.raises(InvalidOption) as refused:
        parse_duration(value, "timeout")  # type: ignore[arg-type]
    assert refused.value.field == "timeout"


@given(st.timedeltas(min_value=timedelta(0), max_value=LONGEST))
def test_a_formatted_duration_reads_back_exactly(span: timedelta) -> None:
    assert parse_duration(format_duration(span)) == span


def test_durations_are_formatted_in_the_largest_units() -> None:
    assert format_duration(timedelta(hours=1, minutes=30)) == "1h30m"
    assert format_duration(timedelta(days=8, milliseconds=5)) == "8d5ms"
    assert format_duration(timedelta(0)) == "0s"
    assert format_duration(timedelta(seconds=-90)) == "-1m30s"
