"""What counts as a failure of a worker, and where its observation ends."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from perdure.domain.health.drift import Limits
from perdure.domain.health.lives import Life, Moment, Span, failures, limits_of, moments
from perdure.domain.sample import Sample

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
FOREVER = datetime.max.replace(tzinfo=UTC)
LIMITS = Limits(lag_ms=6000)


def at(minutes: float) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


def sample(number: int, **figures: float) -> Sample:
    usual = {"running": 1, "finished": 20, "failed": 0, "timed_out": 0, **figures}
    return Sample(worker_id=UUID(int=1), at=BEGAN + timedelta(seconds=10 * number), **usual)  # type: ignore[arg-type]


def life(
    *,
    minutes: int = 10,
    died: bool = False,
    withheld: Sequence[Span] = (),
    odd: dict[int, dict[str, float]] | None = None,
) -> Life:
    """A worker that tells of itself for so many minutes; at `odd` numbers with other figures."""
    samples = [sample(number, **(odd or {}).get(number, {})) for number in range(6 * minutes)]
    return Life(worker_id=UUID(int=1), samples=samples, until=at(minutes), died=died, withheld=withheld)


def seen(*lives: Life, incidents: Sequence[Span] = ()) -> list[Moment]:
    return moments(lives, LIMITS, incidents)


def test_a_worker_that_lives_was_seen_until_now_and_one_that_died_until_its_death() -> None:
    alive, dead = seen(life()), seen(life(died=True))
    assert [one.at + timedelta(seconds=one.seconds) for one in alive] == [at(10)] * len(alive)
    assert not any(one.failed for one in alive)
    assert all(one.failed for one in dead)
    assert [one.seconds for one in dead] == [one.seconds for one in alive]


@pytest.mark.parametrize(
    "figures",
    [{"crashed": 1}, {"failed": 40, "finished": 40}, {"loop_lag_ms": 6000.0}],
    ids=["a process crashes", "its jobs fail", "its loop is blocked"],
)
def test_each_way_to_fail_ends_the_moments_before_it_and_what_fails_is_not_learnt_from(
    figures: dict[str, float],
) -> None:
    found = seen(life(odd={30: figures}))
    before = [one for one in found if one.index < 30]
    assert [one.at + timedelta(seconds=one.seconds) for one in before] == [at(5)] * len(before)
    assert all(one.failed for one in before)
    assert not any(one.failed for one in found if one.index > 30)
    assert all(one.index != 30 for one in moments([life(odd={30: figures})], LIMITS, every=1))


def test_after_a_warning_that_was_acted_upon_a_failure_counts_and_its_absence_does_not() -> None:
    warned = Span(at(5), FOREVER)
    prevented, in_spite = seen(life(withheld=[warned])), seen(life(withheld=[warned], died=True))
    assert {one.at + timedelta(seconds=one.seconds) for one in prevented} == {at(5)}
    assert not any(one.failed for one in prevented)
    assert all(one.failed and one.at < at(5) for one in in_spite)
    later = seen(life(withheld=[Span(at(2), at(3))], died=True))
    assert [one.failed for one in later if one.at < at(2)] == [False] * 2
    assert all(one.failed for one in later if one.at > at(3))


def test_what_befalls_most_of_the_fleet_at_once_is_no_failure_of_a_worker() -> None:
    fleet = [life(died=True) for _ in range(4)]
    assert failures(fleet, LIMITS) == 0
    assert not any(one.failed for one in seen(*fleet))
    mixed = [*fleet[:2], life(), life()]
    assert failures(mixed, LIMITS) == 2
    told = [Span(at(9), at(11))]
    assert failures(mixed, LIMITS, told) == 0
    assert not any(one.failed for one in seen(*mixed, incidents=told))


def test_a_share_of_failures_is_judged_beside_that_of_the_fleet() -> None:
    failing = {number: {"failed": 5.0} for number in range(60)}
    assert limits_of([life(odd=failing)] * 3, lag_max=timedelta(seconds=6)).failure_share == 0.75
    assert limits_of([], lag_max=timedelta(seconds=6)) == Limits()
