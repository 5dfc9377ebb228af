"""Values that follow advice: within bounds, by steps that are worth it, and never on against the evidence."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import FollowAdvice, job
from perdure.domain.advice import RetryAdvice, Share, TimeoutAdvice
from perdure.domain.errors import InvalidOption
from perdure.domain.following import FALL, STAYS, STEP, Evidence, InForce, Wish, followed

WISH = Wish(kind="app.work", timeout_least_s=2.0, timeout_most_s=300.0, retry_most_s=60.0)
NONE_RAN_OUT = Share(part=0, of=1_000)
LONG = STAYS * 2
seconds = st.floats(min_value=0.001, max_value=1e5)


def evidence(
    timeout_s: float | None = None, retry_s: float | None = None, ran_out: Share = NONE_RAN_OUT
) -> Evidence:
    whole = Share(part=0, of=400)
    return Evidence(
        timeout=None if timeout_s is None else TimeoutAdvice(timeout_s=timeout_s, now_s=300.0, ended=whole),
        retry=None
        if retry_s is None
        else RetryAdvice(delay_s=retry_s, succeeded=Share(part=30, of=40), others=()),
        ran_out=ran_out,
    )


def test_the_first_advice_is_followed_within_the_bounds_and_says_why() -> None:
    after = followed(WISH, InForce(), evidence(12.0, 10.0), stood=timedelta(0))
    assert (after.timeout_s, after.retry_s) == (12.0, 10.0)
    assert after.why == (
        "400 of 400 successes stay within the advised time-out; 30 of 40 retries succeeded after that delay"
    )
    assert followed(WISH, InForce(), evidence(0.5), stood=LONG).timeout_s == 2.0
    assert followed(WISH, InForce(), evidence(900.0), stood=LONG) == InForce()
    assert followed(WISH, InForce(), evidence(None, 600.0), stood=LONG).retry_s == 60.0
    assert followed(WISH, InForce(), evidence(None, 0.0), stood=LONG) == InForce()


def test_what_is_not_wished_does_not_follow() -> None:
    only_timeout = Wish(kind="k", timeout_least_s=2.0, timeout_most_s=None)
    assert followed(only_timeout, InForce(), evidence(12.0, 10.0), stood=LONG).retry_s is None
    only_retry = Wish(kind="k", retry_most_s=60.0)
    assert followed(only_retry, InForce(timeout_s=9.0), evidence(12.0, 10.0), stood=LONG).timeout_s is None


def test_a_value_stays_for_a_while_and_for_a_small_difference() -> None:
    now = InForce(timeout_s=12.0, retry_s=10.0)
    assert followed(WISH, now, evidence(100.0, 60.0), stood=STAYS / 2) is now
    assert followed(WISH, now, evidence(12.0 * STEP - 0.1, 10.0), stood=LONG) is now
    assert followed(WISH, now, evidence(12.0 * STEP, 10.0), stood=LONG).timeout_s == 12.0 * STEP
    assert followed(WISH, now, evidence(None, None), stood=LONG) is now


def test_a_timeout_falls_to_its_half_at_most() -> None:
    assert followed(WISH, InForce(timeout_s=100.0), evidence(3.0), stood=LONG).timeout_s == 100.0 / FALL


def test_attempts_that_run_out_of_a_followed_timeout_widen_it_at_once() -> None:
    """More than ran out of the kind's own, beyond doubt: hung attempts, of which there were as many before, widen nothing."""
    hung = Share(part=50, of=1_000)
    now = InForce(timeout_s=12.0, ran_out=hung)
    assert followed(WISH, now, evidence(ran_out=Share(part=55, of=1_000)), stood=timedelta(0)) is now
    wider = followed(WISH, now, evidence(6.0, ran_out=Share(part=150, of=1_000)), stood=timedelta(0))
    assert (wider.timeout_s, wider.ran_out) == (24.0, hung)
    assert wider.why == "150 of 1000 attempts ran out of 12 s; 50 of 1000 did before"
    late = followed(
        WISH, InForce(timeout_s=200.0), evidence(ran_out=Share(part=9, of=10)), stood=timedelta(0)
    )
    assert late.timeout_s is None


def test_narrower_bounds_of_a_new_release_count() -> None:
    now = InForce(timeout_s=12.0, retry_s=50.0)
    narrow = Wish(kind="app.work", timeout_least_s=20.0, timeout_most_s=30.0, retry_most_s=5.0)
    after = followed(narrow, now, evidence(), stood=LONG)
    assert (after.timeout_s, after.retry_s) == (20.0, 5.0)


@given(
    now=st.none() | seconds,
    advised=st.none() | seconds,
    least=seconds,
    most=st.none() | seconds,
    part=st.integers(min_value=0, max_value=500),
    stood=st.sampled_from([timedelta(0), LONG]),
)
def test_whatever_the_evidence_a_timeout_stays_within_its_bounds(
    now: float | None, advised: float | None, least: float, most: float | None, part: int, stood: timedelta
) -> None:
    wish = Wish(kind="k", timeout_least_s=least, timeout_most_s=most, retry_most_s=10.0)
    before = InForce(timeout_s=now, ran_out=NONE_RAN_OUT)
    after = followed(wish, before, evidence(advised, 3.0, Share(part=part, of=500)), stood=stood)
    if after is not before and after.timeout_s is not None and after.timeout_s != now:
        assert most is None or after.timeout_s < most
        assert after.timeout_s >= least or after.timeout_s > (now or 0.0)
    assert after.retry_s is None or after.retry_s <= 10.0


def test_options_that_follow_nothing_or_against_the_kind_are_refused() -> None:
    with pytest.raises(InvalidOption, match="follows nothing"):
        FollowAdvice()
    with pytest.raises(InvalidOption, match="longer than nothing"):
        FollowAdvice(retry_at_most="0s")

    async def work() -> None: ...

    with pytest.raises(InvalidOption, match="longer than the timeout"):
        job(timeout="5s", follow_advice=FollowAdvice(timeout_at_least="10s"))(work)
    with pytest.raises(InvalidOption, match="no FollowAdvice"):
        job(follow_advice=True)(work)  # type: ignore[call-overload]
    kind = job(timeout="5m", follow_advice=FollowAdvice(timeout_at_least="10s"))(work)
    assert kind.options.follow_advice == FollowAdvice(timeout_at_least=10)
