"""Looks that rest when they are dear: never more than their share of the time, and only when they are."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.stores.postgres.resting import QUICK_S, SHARE, Rest


@given(st.lists(st.floats(min_value=QUICK_S * 1.01, max_value=100.0), min_size=2, max_size=30))
def test_dear_looks_take_their_share_of_the_time_at_most(lengths: list[float]) -> None:
    """Reckoned by the shorter of each two, and but for the first, of which nothing is known before."""
    rest, now, before = Rest(), 0.0, 0.0
    for took in lengths:
        assert rest.over(now)
        rest.looked(now, now + took)
        now += took
        due = now + SHARE * min(before, took)
        if before:
            assert not rest.over(now)
            assert not rest.over(due - 0.001)
        now, before = due + 0.001, took


@given(st.lists(st.floats(min_value=0.0, max_value=QUICK_S * 0.99), max_size=30))
def test_quick_looks_are_due_at_once(lengths: list[float]) -> None:
    rest, now = Rest(), 0.0
    for took in lengths:
        rest.looked(now, now + took)
        now += took
        assert rest.over(now)


def test_one_look_that_was_held_up_does_not_count() -> None:
    rest = Rest()
    for began, took in ((0.0, 0.01), (1.0, 5.0), (7.0, 0.01)):
        rest.looked(began, began + took)
        assert rest.over(began + took)
