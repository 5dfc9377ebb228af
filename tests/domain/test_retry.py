import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.errors import InvalidOption
from perdure.domain.retry import (
    Backoff,
    Cancel,
    Delays,
    Fixed,
    GiveUp,
    RetryAfter,
    RetryPolicy,
    Snooze,
    Steer,
    beyond_horizon,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
draws = st.floats(min_value=0, max_value=1, exclude_max=True)
spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400))


def test_the_backoff_doubles_from_one_second_to_sixty() -> None:
    policy = Backoff(jitter="none")
    waits = [policy.delay(failures, 0.5).total_seconds() for failures in range(8)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@given(base=spans, factor=st.integers(1, 1000), failures=st.integers(0, 10**6), draw=draws)
def test_full_jitter_stays_between_nothing_and_the_bound(
    base: timedelta, factor: int, failures: int, draw: float
) -> None:
    cap = min(base * factor, timedelta(days=36_500))
    policy = Backoff(base=base, cap=cap)
    assert timedelta(0) <= policy.delay(failures, draw) <= policy.bound(failures) <= cap


@given(failures=st.integers(0, 100), draw=draws)
def test_proportional_jitter_takes_at_most_a_fifth_off(failures: int, draw: float) -> None:
    policy = Backoff(jitter="proportional")
    bound = policy.bound(failures)
    assert bound * 0.8 <= policy.delay(failures, draw) <= bound


@given(failures=st.integers(0, 60))
def test_a_backoff_never_falls(failures: int) -> None:
    assert Backoff().bound(failures) <= Backoff().bound(failures + 1)


def test_fixed_waits_are_all_alike() -> None:
    assert {Fixed("10s").delay(failures, 0.9) for failures in range(5)} == {timedelta(seconds=10)}


def test_the_last_of_the_delays_repeats() -> None:
    policy = Delays(["1s", "1m"])
    assert [policy.delay(failures, 0).total_seconds() for failures in range(4)] == [1, 60, 60, 60]


@pytest.mark.parametrize(
    "policy", [Backoff(horizon="1h"), Fixed("1s", horizon="1h"), Delays([1], horizon="1h")]
)
def test_the_horizon_bounds_the_time_and_not_the_count(policy: RetryPolicy) -> None:
    late = NOW + timedelta(minutes=50)
    assert not beyond_horizon(policy, timedelta(minutes=10), enqueued_at=NOW, now=late)
    assert beyond_horizon(policy, timedelta(minutes=10, microseconds=1), enqueued_at=NOW, now=late)
    assert not beyond_horizon(Backoff(), timedelta(days=99), enqueued_at=NOW, now=late)


def test_bad_policies_are_refused_by_the_name_of_their_field() -> None:
    refused_makes: dict[str, Callable[[], object]] = {
        "base": lambda: Backoff(base="fast"),
        "cap": lambda: Backoff(base="2m"),
        "jitter": lambda: Backoff(jitter="some"),  # type: ignore[arg-type]
        "horizon": lambda: Fixed(1, horizon="-1s"),
        "interval": lambda: Fixed("soon"),
        "delays": lambda: Delays([]),
    }
    for field, make in refused_makes.items():
        with pytest.raises(InvalidOption) as refused:
            make()
        assert refused.value.field == field


@pytest.mark.parametrize(
    "steer", [RetryAfter("10s", "busy"), Snooze("1m"), Cancel("gone"), GiveUp("no"), Cancel()]
)
def test_a_steer_survives_the_way_from_another_process(steer: Steer) -> None:
    arrived = copy.deepcopy(steer)
    assert type(arrived) is type(steer)
    assert (vars(arrived), str(arrived)) == (vars(steer), str(steer))
