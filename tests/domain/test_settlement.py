from collections.abc import Callable
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from perdure.domain.job import TRANSITIONS, JobState
from perdure.domain.lease import Lease
from perdure.domain.settlement import (
    ALONE,
    Cancelled,
    Completed,
    Crashed,
    Ending,
    ErrorReport,
    Failed,
    Interrupted,
    Outcome,
    Settlement,
    Snoozed,
    settle,
)

ERROR = ErrorReport(type="ValueError", message="no")
spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1))
endings: st.SearchStrategy[Ending] = st.one_of(
    st.builds(Completed, result=st.none() | st.just("1")),
    st.builds(Failed, error=st.just(ERROR), retry_in=spans, give_up=st.booleans(), timed_out=st.booleans()),
    st.builds(Snoozed, delay=spans),
    st.builds(Cancelled),
    st.builds(Interrupted, cause=st.just("deploy"), started=st.booleans()),
    st.builds(Crashed, cause=st.just("signal 9"), alone=st.booleans(), host_lost=st.booleans()),
)


@st.composite
def leases(draw: st.DrawFn) -> Lease:
    attempt = draw(st.integers(1, 20))
    return Lease(
        job_id=draw(st.uuids()),
        token=draw(st.uuids()),
        lane=1,
        run=1,
        attempt=attempt,
        crashes=draw(st.integers(0, 5)),
        interruptions=draw(st.integers(0, 60)),
        suspicion=draw(st.integers(0, 100)),
        args="{}",
        priority=3,
        max_attempts=draw(st.integers(attempt, 21)),
        timeout_ms=None,
        crash_limit=draw(st.none() | st.integers(1, 5)),
        available_us=0,
        claimed_us=0,
    )


@given(leases(), endings)
def test_every_settlement_obeys_the_law_of_transitions(lease: Lease, ending: Ending) -> None:
    assert settle(lease, ending).state in TRANSITIONS[JobState.RUNNING]


@given(leases(), endings)
def test_a_settlement_is_fenced_by_its_lease(lease: Lease, ending: Ending) -> None:
    settlement = settle(lease, ending)
    assert (settlement.job_id, settlement.token) == (lease.job_id, lease.token)


@given(leases(), endings)
def test_counts_never_fall_and_rise_by_at_most_one(lease: Lease, ending: Ending) -> None:
    settlement = settle(lease, ending)
    assert settlement.attempt - (lease.attempt - 1) in {0, 1}
    assert settlement.crashes - lease.crashes in {0, 1}
    assert settlement.interruptions - lease.interruptions in {0, 1}


@given(leases(), endings)
def test_attempts_stay_within_their_bound(lease: Lease, ending: Ending) -> None:
    settlement = settle(lease, ending)
    assert settlement.attempt <= lease.max_attempts
    if settlement.state is not JobState.DISCARDED and isinstance(ending, Failed):
        assert settlement.attempt < lease.max_attempts


@given(leases(), endings)
def test_only_failures_use_up_attempts(lease: Lease, ending: Ending) -> None:
    used = settle(lease, ending).attempt == lease.attempt
    assert used is isinstance(ending, Failed)


@given(leases(), endings)
def test_only_waiting_states_carry_a_delay(lease: Lease, ending: Ending) -> None:
    settlement = settle(lease, ending)
    delayed = settlement.state in {JobState.SCHEDULED, JobState.RETRYABLE}
    assert delayed is (settlement.delay is not None)


@given(leases(), endings)
def test_whatever_is_discarded_says_why(lease: Lease, ending: Ending) -> None:
    settlement = settle(lease, ending)
    if settlement.state is JobState.DISCARDED:
        assert settlement.cause


def _until_terminal(lease: Lease, ending: Callable[[], Ending], limit: int) -> list[Settlement]:
    history: list[Settlement] = []
    while not history or history[-1].state in {JobState.RETRYABLE, JobState.AVAILABLE}:
        assert len(history) < limit
        history.append(settle(lease, ending()))
        last = history[-1]
        lease = Lease(
            lease.job_id, lease.token, 1, 1, last.attempt + 1, last.crashes, last.interruptions, last.suspicion,
            "{}", 3, lease.max_attempts, None, lease.crash_limit, 0, 0,
        )  # fmt: skip
    return history


@given(leases(), st.data())
def test_failures_crashes_alone_and_interruptions_end_in_the_dead_letter_queue(
    lease: Lease, data: st.DataObject
) -> None:
    bad = st.one_of(
        st.builds(
            Failed, error=st.just(ERROR), retry_in=spans, give_up=st.booleans(), timed_out=st.booleans()
        ),
        st.builds(Interrupted, cause=st.just("deploy")),
        st.builds(Crashed, cause=st.just("signal 9"), alone=st.just(True), host_lost=st.booleans()),
    )
    history = _until_terminal(lease, lambda: data.draw(bad), limit=21 + 5 + 50 + 3)
    assert history[-1].state is JobState.DISCARDED


@given(leases(), st.integers(1, 60))
def test_limits_of_crashes_and_interruptions_are_exact(lease: Lease, limit: int) -> None:
    crashed = settle(
        replace(lease, crash_limit=None), Crashed(cause="signal 9", alone=True), crash_limit=limit
    )
    assert (crashed.state is JobState.DISCARDED) is (lease.crashes + 1 >= limit)
    own = settle(replace(lease, crash_limit=limit), Crashed(cause="signal 9", alone=True))
    assert (own.state is JobState.DISCARDED) is (lease.crashes + 1 >= limit)
    interrupted = settle(lease, Interrupted(cause="a deploy"), interruption_limit=limit)
    assert (interrupted.state is JobState.DISCARDED) is (lease.interruptions + 1 >= limit)


@given(leases())
def test_a_crash_beside_others_blames_nobody_but_makes_the_job_run_alone(lease: Lease) -> None:
    settlement = settle(lease, Crashed(cause="signal 9", alone=False), crash_limit=6)
    if lease.crashes < (lease.crash_limit or 6):
        assert settlement.outcome is Outcome.CRASHED
        assert settlement.crashes == lease.crashes
        assert settlement.suspicion >= ALONE
