"""Advice on a kind: what it says follows from the attempts, and it says nothing from too few."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.advice import FEWEST, Attempt, Share, advise
from perdure.domain.settlement import Outcome

START = datetime(2026, 1, 1, tzinfo=UTC)


def attempts_of(
    outcomes: list[Outcome],
    *,
    ran_s: list[float] | None = None,
    widths: list[float] | None = None,
    labels: tuple[str, ...] = (),
    start: int = 0,
) -> list[Attempt]:
    return [
        Attempt(
            job_id=UUID(int=start + n),
            run=1,
            attempt=1,
            outcome=outcome,
            settled_at=START + timedelta(seconds=n),
            ran_s=ran_s[n] if ran_s else 1.0,
            error="" if outcome is Outcome.COMPLETED else "ConnectionResetError",
            message="reset by peer",
            labels=labels,
            timeout_s=300.0,
            numbers={"width": widths[n], "noise": (n * 7919 % 101)} if widths else {},
        )
        for n, outcome in enumerate(outcomes)
    ]


def test_too_few_attempts_say_nothing_and_are_counted() -> None:
    told = advise("app.work", attempts_of([Outcome.COMPLETED] * (FEWEST - 1)))
    assert (told.duration, told.failure, told.timeout, told.retry, told.labels) == (None,) * 5
    assert told.too_few == (f"{FEWEST - 1} attempts have ended, and advice needs {FEWEST}",)
    assert advise("app.work", []).since is None


def test_durations_failures_and_a_timeout_follow_from_the_attempts() -> None:
    ran = [0.1 * (1 + n % 10) for n in range(400)]
    outcomes = [Outcome.FAILED if n % 10 == 9 else Outcome.COMPLETED for n in range(400)]
    told = advise("app.work", attempts_of(outcomes, ran_s=ran))
    assert told.duration is not None
    assert round(told.duration.median_s, 6) == 0.5
    assert told.duration.successes == 360
    assert told.failure == Share(part=40, of=400)
    assert [(cause.error, cause.share) for cause in told.causes] == [
        ("ConnectionResetError", Share(part=40, of=40))
    ]
    assert told.timeout is not None
    assert told.timeout.ended.part == 0
    assert (told.timeout.now_s, 2.7 <= told.timeout.timeout_s <= 3.0) == (300.0, True)


def test_an_argument_that_tells_durations_is_found_and_beats_the_median_on_later_attempts() -> None:
    dice = random.Random(1)
    widths = [float(dice.choice([10, 100, 1_000])) for _ in range(500)]
    ran = [width / 100 * dice.uniform(0.9, 1.1) for width in widths]
    told = advise("app.work", attempts_of([Outcome.COMPLETED] * 500, ran_s=ran, widths=widths))
    assert told.duration is not None
    prediction = told.duration.prediction
    assert prediction is not None
    assert (prediction.argument, prediction.tested) == ("width", 100)
    assert prediction.error_s < prediction.plain_error_s / 5


def test_an_argument_that_tells_nothing_is_not_named() -> None:
    dice = random.Random(2)
    widths = [float(dice.choice([10, 100, 1_000])) for _ in range(500)]
    ran = [dice.uniform(1, 2) for _ in widths]
    told = advise("app.work", attempts_of([Outcome.COMPLETED] * 500, ran_s=ran, widths=widths))
    assert told.duration is not None
    assert told.duration.prediction is not None
    assert told.duration.prediction.argument == ""
    assert told.duration.prediction.error_s == told.duration.prediction.plain_error_s


def test_the_shortest_delay_that_is_about_as_good_as_any_is_advised() -> None:
    """Retries at once succeed in one of ten, after a minute in nine of ten, after an hour not better."""
    pairs = []
    for n in range(300):
        delay, good = ((0.5, 1), (90.0, 9), (3_600.0, 9))[n % 3]
        first, second = attempts_of([Outcome.FAILED, Outcome.COMPLETED], start=1_000 * n)
        ends = Outcome.COMPLETED if n // 3 % 10 < good else Outcome.FAILED
        fields = {"job_id": first.job_id, "run": 1, "settled_at": START, "error": "", "message": ""}
        pairs += [
            Attempt(attempt=1, outcome=Outcome.FAILED, retry_s=delay, **fields),  # type: ignore[arg-type]
            Attempt(attempt=2, outcome=ends, **fields),  # type: ignore[arg-type]
        ]
        assert second.outcome is Outcome.COMPLETED
    told = advise("app.work", pairs)
    assert told.retry is not None
    assert (told.retry.delay_s, told.retry.succeeded) == (60.0, Share(part=90, of=100))
    assert dict(told.retry.others)[0.0] == Share(part=10, of=100)


def test_workers_whose_attempts_fail_less_or_run_faster_are_named_and_no_others() -> None:
    good = attempts_of([Outcome.COMPLETED] * 100, labels=("ssd",))
    bad = attempts_of(
        [Outcome.FAILED if n % 2 else Outcome.COMPLETED for n in range(100)], labels=("old",), start=500
    )
    told = advise("app.work", good + bad)
    assert told.labels is not None
    assert told.labels.labels == ("ssd",)
    alike = attempts_of([Outcome.COMPLETED] * 100, labels=("old",), start=500)
    assert advise("app.work", good + alike).labels is None


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Outcome)), st.none() | st.floats(0, 1e6), st.integers(-9, 9)),
        max_size=300,
    )
)
def test_whatever_the_attempts_are_advice_is_sound(rows: list[tuple[Outcome, float | None, int]]) -> None:
    """It never fails, counts only what ended, and its bounds hold its shares."""
    told = advise(
        "app.work",
        [
            Attempt(
                job_id=UUID(int=n // 3),
                run=1,
                attempt=n % 3 + 1,
                outcome=outcome,
                settled_at=START + timedelta(seconds=n),
                ran_s=ran,
                retry_s=1.0,
                labels=("a",) if n % 2 else (),
                numbers={"n": float(number)},
            )
            for n, (outcome, ran, number) in enumerate(rows)
        ],
    )
    counted = [
        row
        for row in rows
        if row[0] in {Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CRASHED}
    ]
    assert told.attempts == len(counted)
    if told.failure is not None:
        low, high = told.failure.bounds
        assert 0 <= low <= told.failure.value <= high <= 1
    if told.duration is not None:
        assert told.duration.median_s <= told.duration.p90_s <= told.duration.p99_s
    if told.timeout is not None:
        assert told.timeout.ended.part == 0
