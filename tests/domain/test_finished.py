"""Results that wait: batches of one sort, and turns that grow rarer while nothing comes of them."""

from collections import deque
from uuid import uuid4

import pytest

from perdure.domain.finished import BATCH, LONGEST_PAUSE_AT_THE_END_S, LONGEST_PAUSE_S, Aside, Finished, take
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Ending, Interrupted


def finished(ending: Ending | None = None) -> Finished:
    lease = Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 4, None, None, 0, 0)
    return Finished(lease, ending or Completed(result="1"), None, 0.0)


def test_a_batch_is_of_successes_or_of_other_endings_and_the_others_keep_their_order() -> None:
    other = Interrupted(cause="deploy")
    first, second, third, fourth = finished(), finished(other), finished(), finished(other)
    waiting = deque([first, second, third, fourth])
    assert take(waiting, 3) == [first, third]
    assert list(waiting) == [second, fourth]
    assert take(waiting, 3) == [second, fourth]


def test_pauses_double_while_results_are_left_and_begin_anew_when_none_is() -> None:
    aside, now = Aside(), 100.0
    pauses: list[float] = []
    while not pauses or pauses[-1] < LONGEST_PAUSE_S:
        aside.put([finished()], now, took=0.0, all_told_apart=True)
        pauses.append(aside.due_in_s(now) or 0.0)
        now += pauses[-1]
        aside.take()
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0])
    assert aside.waits
    aside.put([], now, took=0.0, all_told_apart=True)
    assert (aside.waits, aside.due_in_s(now)) == (False, None)


def test_what_comes_meanwhile_keeps_nothing_from_its_turn() -> None:
    aside = Aside()
    aside.put([finished()], 100.0, took=2.0, all_told_apart=True)
    aside.put([finished()], 101.0, took=2.0, all_told_apart=True)
    assert (len(aside), aside.due_in_s(101.0)) == (2, 1.0)
    aside.hurry()
    assert aside.due_in_s(101.0) == 0
    aside.put(aside.take(), 101.0, took=2.0, all_told_apart=True)
    assert aside.due_in_s(101.0) == LONGEST_PAUSE_AT_THE_END_S


def test_a_round_takes_no_more_than_was_not_told_apart_and_grows_again() -> None:
    aside = Aside()
    aside.put([finished() for _ in range(BATCH)], 0.0, took=0.0, all_told_apart=False)
    aside.learn(200, lock_waits=3)
    assert len(aside.take()) == 25
    aside.learn(25, lock_waits=0)
    assert len(aside.take()) == 50
