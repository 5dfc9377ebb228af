"""Who has fallen silent, whatever the database's clock does meanwhile."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.liveness import STEPS_MAX, Contact, Heartbeat, Sight, Silence
from perdure.domain.worker import WorkerId

SUSPECT_S, DEAD_S, BEAT_S = 6, 15, 2
ME, OTHER = WorkerId(uuid4()), WorkerId(uuid4())
START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.dictionaries(st.integers(1, 100), st.integers(-7200, 7200), max_size=4)


def rounds(steps: dict[int, int], *, dies_at: int | None) -> list[int]:
    """Look once a second at a worker that beats every two, and give the seconds at which it was to be declared dead."""
    silence = Silence(suspect_after=timedelta(seconds=SUSPECT_S), dead_after=timedelta(seconds=DEAD_S))
    verdicts, clock, last, broken_at = [], START, START, -DEAD_S
    for second in range(1, 160):
        clock += timedelta(seconds=1 + steps.get(second, 0))
        if abs(steps.get(second, 0)) > SUSPECT_S:
            broken_at = second
        if second % BEAT_S == 0 and (dies_at is None or second < dies_at):
            last = clock
        sight = Sight(worker_id=ME, now=float(second), unbroken_for=timedelta(seconds=second - broken_at))
        if silence.observe([Heartbeat(worker_id=OTHER, at=last, silent_for=clock - last)], sight):
            verdicts.append(second)
    return verdicts


@given(STEPS)
def test_no_step_of_the_clock_kills_who_beats(steps: dict[int, int]) -> None:
    assert rounds(steps, dies_at=None) == []


@given(STEPS, st.integers(20, 120))
def test_no_step_of_the_clock_saves_who_is_silent(steps: dict[int, int], dies_at: int) -> None:
    """A verdict comes within the time after the last step, by the observer's own clock."""
    bound = max([dies_at, *steps]) + DEAD_S + BEAT_S
    verdicts = rounds(steps, dies_at=dies_at)
    assert verdicts
    assert dies_at < verdicts[0] <= bound


def test_without_steps_a_verdict_comes_when_the_time_is_up() -> None:
    assert rounds({}, dies_at=51)[0] in (50 + DEAD_S, 50 + DEAD_S + 1)


@given(st.dictionaries(st.integers(1, 100), st.integers(-7200, 7200), max_size=60), st.floats(0, 0.9))
def test_a_contact_knows_how_far_the_clock_has_stepped_since_any_moment(
    steps: dict[int, int], late: float
) -> None:
    """Also when its heartbeats are answered late now and then."""
    contact = Contact(0.0, broken_after=timedelta(seconds=SUSPECT_S))
    for second in range(1, 101):
        contact.beat(float(second), timedelta(seconds=1 + steps.get(second, 0)))
    known = contact.sight(ME, 101.0).steps
    assert len(known) <= STEPS_MAX
    assert sum((step.by for step in known), timedelta(0)) == timedelta(seconds=sum(steps.values()))
    for moment in range(100, max([0, *sorted(steps)[:-STEPS_MAX]]), -1):
        since = sum((by.by for by in known if by.ago < timedelta(seconds=101 - moment)), timedelta(0))
        assert since == timedelta(seconds=sum(by for second, by in steps.items() if second > moment))


@given(st.lists(st.floats(0, 4), min_size=50, max_size=100))
def test_late_answers_do_not_add_up_to_a_step(late: list[float]) -> None:
    contact = Contact(0.0, broken_after=timedelta(seconds=SUSPECT_S))
    for second, by in enumerate(late, start=1):
        contact.beat(second + by, timedelta(seconds=1))
    seen = sum((step.by for step in contact.sight(ME, 101.0).steps), timedelta(0))
    assert abs(seen) <= timedelta(seconds=5)


def test_a_contact_that_was_frozen_or_has_had_no_answer_is_broken_and_saw_no_step() -> None:
    contact = Contact(0.0, broken_after=timedelta(seconds=SUSPECT_S))
    assert contact.sight(ME, 7.0).unbroken_for == timedelta(0)
    contact.beat(20.0, timedelta(seconds=20))
    assert contact.sight(ME, 21.0).unbroken_for == timedelta(seconds=1)
    assert contact.sight(ME, 21.0).steps == []


@given(STEPS)
def test_a_large_step_breaks_the_contact_and_a_small_one_does_not(steps: dict[int, int]) -> None:
    contact = Contact(0.0, broken_after=timedelta(seconds=SUSPECT_S))
    for second in range(1, 101):
        contact.beat(float(second), timedelta(seconds=1 + steps.get(second, 0)))
    broken_at = max([0, *(second for second, by in steps.items() if abs(1 + by) > SUSPECT_S)])
    assert contact.sight(ME, 101.0).unbroken_for == timedelta(seconds=101 - broken_at)
