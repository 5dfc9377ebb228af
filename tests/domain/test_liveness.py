"""Who has fallen silent, whatever the database's clock does meanwhile."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.liveness import Contact, Heartbeat, Sight, Silence
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


@given(STEPS)
def test_a_contact_knows_how_far_the_clock_has_stepped_and_since_when(steps: dict[int, int]) -> None:
    contact = Contact(0.0, broken_after=timedelta(seconds=SUSPECT_S))
    by, at, broken_at = 0, 0, 0
    for second in range(1, 101):
        step = steps.get(second, 0)
        contact.beat(float(second), timedelta(seconds=1 + step))
        if step > SUSPECT_S:
            by, at = by + step, second
        if abs(1 + step) > SUSPECT_S:
            broken_at = second
    sight = contact.sight(ME, 101.0)
    assert (sight.step.by, sight.step.ago) == (timedelta(seconds=by), timedelta(seconds=101 - at))
    assert sight.unbroken_for == timedelta(seconds=101 - broken_at)


def test_a_contact_that_was_frozen_or_has_had_no_answer_is_broken_and_saw_no_step() -> None:
    contact = Contact(0.0, broken_after=timedelta(seconds=SUSPECT_S))
    assert contact.sight(ME, 7.0).unbroken_for == timedelta(0)
    contact.beat(20.0, timedelta(seconds=20))
    assert contact.sight(ME, 21.0).unbroken_for == timedelta(seconds=1)
    assert contact.sight(ME, 21.0).step.by == timedelta(0)
