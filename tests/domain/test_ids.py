from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.ids import Ids, JobIds, made_at

clocks = st.lists(st.integers(0, 2**47), min_size=1, max_size=60)


def ids_of(clock: list[int], bits: int = 0) -> JobIds:
    ticks = iter(clock)
    return JobIds(lambda: next(ticks) * 1_000_000, lambda count: bits.to_bytes(8, "little") * (count // 8))


@given(clocks, st.integers(0, 2**64 - 1))
def test_ids_rise_strictly_under_any_clock(clock: list[int], bits: int) -> None:
    ids = ids_of(clock, bits)
    made = [ids() for _ in clock]
    assert all(earlier < later for earlier, later in pairwise(made))


@given(clocks, st.integers(0, 2**64 - 1), st.data())
def test_ids_that_are_made_together_rise_among_the_others(
    clock: list[int], bits: int, data: st.DataObject
) -> None:
    ids = ids_of(clock, bits)
    made = [
        one
        for _ in clock
        for one in (ids.many(data.draw(st.integers(1, 5_000))) if data.draw(st.booleans()) else [ids()])
    ]
    assert all(earlier < later for earlier, later in pairwise(made))
    assert {(one.version, one.variant) for one in made} == {(7, "specified in RFC 4122")}


def test_ids_that_are_made_together_are_what_as_many_calls_would_have_made() -> None:
    alone = ids_of([7] * 5_000)
    assert list(ids_of([7]).many(5_000)) == [alone() for _ in range(5_000)]


def test_ids_kept_as_bytes_are_a_sequence_of_uuids() -> None:
    raw = [bytes(range(n, n + 16)) for n in range(5)]
    ids, same = Ids(raw), [UUID(bytes=one) for one in raw]
    assert list(ids) == same
    assert (len(ids), ids[0], ids[-1], list(ids[1:-1])) == (5, same[0], same[-1], same[1:-1])
    assert same[2] in ids
    assert ids.raw == tuple(raw)


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
