from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.ids import JobIds, made_at

clocks = st.lists(st.integers(0, 2**47), min_size=1, max_size=60)


def ids_of(clock: list[int], bits: int = 0) -> JobIds:
    ticks = iter(clock)
    return JobIds(lambda: next(ticks) * 1_000_000, lambda count: bits.to_bytes(8, "little") * (count // 8))


@given(clocks, st.integers(0, 2**64 - 1))
def test_ids_rise_strictly_under_any_clock(clock: list[int], bits: int) -> None:
    ids = ids_of(clock, bits)
    made = [ids() for _ in clock]
    assert all(earlier < later for earlier, later in pairwise(made))


@given(clocks, st.integers(0, 2**64 - 1))
def test_ids_are_version_7_of_the_standard_variant(clock: list[int], bits: int) -> None:
    job_id = ids_of(clock, bits)()
    assert job_id.version == 7
    assert job_id.variant == "specified in RFC 4122"


def test_ten_thousand_ids_of_one_millisecond_rise_and_borrow_the_next_ones() -> None:
    ids = ids_of([1_700_000_000_000] * 10_000, 2**62 - 1)
    made = [ids() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert made_at(made[-1]) - made_at(made[0]) <= timedelta(milliseconds=3)


@given(st.integers(1, 2**47))
def test_an_id_carries_the_moment_it_was_made_at(milliseconds: int) -> None:
    made = made_at(ids_of([milliseconds])())
    assert made == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
