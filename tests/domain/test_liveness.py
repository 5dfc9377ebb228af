"""Who has fallen silent, whatever the database's clock does meanwhile."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_DNS, uuid4, uuid5

from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.liveness import STEPS_MAX, Contact, Heartbeat, MassSilence, Sight, Silence, Suspicion
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
    """Also when its heartbeats are answered late now and then. Of too many steps the oldest are known by their sum."""
    contact = Contact(0.0, broken_after=timedelta(seconds=SUSPECT_S))
    for second in range(1, 101):
        contact.beat(float(second), timedelta(seconds=1 + steps.get(second, 0)))
    known = contact.sight(ME, 101.0).steps
    assert len(known) <= STEPS_MAX
    assert sum((step.by for step in known), timedelta(0)) == timedelta(seconds=sum(steps.values()))
    for moment in range(100, max([0, *sorted(steps)[: 1 - STEPS_MAX]]), -1):
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


def beats_of(hosts: int, *, silent: int, silent_s: float = 20) -> list[Heartbeat]:
    """One worker on each host; the first so many are silent."""
    return [
        Heartbeat(
            worker_id=WorkerId(uuid5(NAMESPACE_DNS, f"host-{number}")),
            at=START,
            silent_for=timedelta(seconds=silent_s if number < silent else 1),
            host=f"host-{number}",
        )
        for number in range(hosts)
    ]


def allowed(guard: MassSilence, beats: list[Heartbeat], now: float) -> set[str]:
    dead = {beat.worker_id: beat.at for beat in beats if beat.silent_for > timedelta(seconds=DEAD_S)}
    hosts = {beat.worker_id: beat.host for beat in beats}
    return {hosts[worker_id] for worker_id in guard.allowed(dead, beats, now)}


def test_when_most_hosts_fall_silent_at_once_nothing_is_taken_at_first_and_then_host_by_host() -> None:
    guard = MassSilence(dead_after=timedelta(seconds=DEAD_S))
    beats = beats_of(5, silent=4)
    assert [allowed(guard, beats, 100.0 + second) for second in range(DEAD_S)] == [set()] * DEAD_S
    assert guard.holds
    assert len(allowed(guard, beats, 100.0 + DEAD_S)) == 1
    assert allowed(guard, beats, 100.5 + DEAD_S) == set()
    assert len(allowed(guard, beats, 100.0 + DEAD_S + DEAD_S / 5)) == 1


def test_a_few_hosts_and_all_workers_of_one_machine_die_without_delay() -> None:
    guard = MassSilence(dead_after=timedelta(seconds=DEAD_S))
    assert len(allowed(guard, beats_of(5, silent=2), 0)) == 2
    assert len(allowed(guard, beats_of(2, silent=2), 0)) == 2
    one_machine = [replace(beat, host="one") for beat in beats_of(8, silent=8)]
    assert allowed(guard, one_machine, 0) == {"one"}
    assert not guard.holds


def test_a_worker_that_misses_its_beats_is_a_suspect_long_before_it_is_dead_and_none_after_the_next() -> None:
    """With regular beats of two seconds within five of them; at the latest after six."""
    suspicion = Suspicion(suspect_after=timedelta(seconds=SUSPECT_S), interval=timedelta(seconds=BEAT_S))

    def look(second: int, *, last: int) -> bool:
        at, now = START + timedelta(seconds=last), START + timedelta(seconds=second)
        sight = Sight(worker_id=ME, now=float(second), unbroken_for=timedelta(hours=1))
        return OTHER in suspicion.observe([Heartbeat(worker_id=OTHER, at=at, silent_for=now - at)], sight)

    assert not any(look(second, last=second - second % BEAT_S) for second in range(120))
    suspected = [second for second in range(120, 140) if look(second, last=118)]
    assert suspected
    assert 118 + BEAT_S < suspected[0] <= 118 + SUSPECT_S + 1
    assert suspected == list(range(suspected[0], 140))
    assert not look(141, last=140)


def test_who_is_blind_or_slow_suspects_nobody_early() -> None:
    suspicion = Suspicion(suspect_after=timedelta(seconds=SUSPECT_S), interval=timedelta(seconds=BEAT_S))
    silent = [Heartbeat(worker_id=OTHER, at=START, silent_for=timedelta(seconds=10))]
    sight = Sight(worker_id=ME, now=0.0, unbroken_for=timedelta(hours=1))
    assert suspicion.observe(silent, sight)
    assert not suspicion.observe(silent, replace(sight, unbroken_for=timedelta(seconds=2)))
    assert not suspicion.observe(silent, replace(sight, stretch=2.0))


def test_a_slow_observer_stretches_its_limits_and_forgets_it_when_it_is_quick_again() -> None:
    contact = Contact(0.0, broken_after=timedelta(seconds=60), interval=timedelta(seconds=BEAT_S))
    contact.beat(2.0, timedelta(seconds=2), slow_s=1.0)
    assert contact.sight(ME, 2.0).stretch == 1.0
    contact.beat(10.0, timedelta(seconds=8), slow_s=6.0)
    assert contact.sight(ME, 10.0).stretch == 3.0
    contact.beat(100.0, timedelta(seconds=90), slow_s=1000.0)
    assert contact.sight(ME, 100.0).stretch == 8.0
    for second in range(102, 180, 2):
        contact.beat(float(second), timedelta(seconds=2), slow_s=0.1)
    assert contact.sight(ME, 180.0).stretch == 1.0
