"""When a process looks again for a claim whose answer was lost."""

from perdure.domain.doubt import LATE_CLAIMS_S, Doubt


def test_without_doubt_nothing_is_looked_for() -> None:
    assert not Doubt().wants_look(1e9)


def test_one_look_at_once_and_one_after_each_pause_and_then_no_more() -> None:
    doubt = Doubt()
    doubt.begin(100.0)
    looks = []
    now = 100.0
    while now < 100.0 + 2 * sum(LATE_CLAIMS_S):
        if doubt.wants_look(now):
            looks.append(now - 100.0)
            doubt.looked(now)
        now += 0.125
    assert looks == [0.0, 0.25, 1.25, 6.25, 66.25]


def test_a_look_that_came_late_stands_for_all_that_were_due() -> None:
    doubt = Doubt()
    doubt.begin(0.0)
    doubt.looked(7.0)
    assert not doubt.wants_look(60.0)
    assert doubt.wants_look(70.0)


def test_another_lost_answer_begins_the_looks_anew() -> None:
    doubt = Doubt()
    doubt.begin(0.0)
    doubt.looked(500.0)
    doubt.begin(500.0)
    assert doubt.wants_look(500.0)
