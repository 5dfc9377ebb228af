"""Predictions for one worker, the score that goes with them, and who gets how much work."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.domain.health.crossing import line
from perdure.domain.health.drift import Limits, drifts
from perdure.domain.health.fleet import Fleet, fleet
from perdure.domain.health.foresight import Case, predict
from perdure.domain.prediction import EVACUATE_AT, FARTHEST, HORIZON, Action, Prediction, cheapest
from perdure.domain.sample import Sample
from perdure.domain.score import FAILED_AT, Steady, mapped, score_of, shares
from perdure.domain.vitals import Criteria, Vitals, best
from perdure.domain.worker import Worker, WorkerId, WorkerState

WORKER = WorkerId(uuid4())
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KNOWN = fleet([30 * DAY.total_seconds()] * 50, failures=25)


def samples(count: int, *, seed: int = 0, **figures: float | None) -> list[Sample]:
    """A healthy worker's samples, ten seconds apart."""
    random = Random(seed)
    return [
        Sample(
            worker_id=WORKER,
            at=BEGAN + timedelta(seconds=10 * number),
            running=1,
            finished=50,
            failed=random.randint(0, 2),
            timed_out=0,
            **{  # type: ignore[arg-type]
                "memory_percent": random.gauss(20, 0.5),
                "loop_lag_ms": abs(random.gauss(3, 1)),
                "slowness": math.exp(random.gauss(0, 0.05)),
                **figures,
            },
        )
        for number in range(count)
    ]


def leaking(count: int, *, from_percent: float, by: float) -> list[Sample]:
    random = Random(3)
    return [
        replace(one, memory_percent=from_percent + by * number + random.gauss(0, 0.3))
        for number, one in enumerate(samples(count))
    ]


def case(series: list[Sample], *, known: Fleet = KNOWN, age: timedelta = DAY) -> Case:
    at = series[-1].at if series else BEGAN
    return Case(worker_id=WORKER, at=at, age=age, samples=series, fleet=known, limits=Limits())


def foretold(series: list[Sample], *, horizon: timedelta = HORIZON, known: Fleet = KNOWN) -> Prediction:
    return predict(case(series, known=known), horizon=horizon)


def test_a_healthy_worker_has_the_base_rate_of_its_fleet() -> None:
    found = [foretold(samples(60, seed=seed)) for seed in range(40)]
    assert all(one.probability == pytest.approx(one.base, abs=0.01) for one in found)
    assert {one.action for one in found} == {Action.CONTINUE}
    assert all(score_of(one).value > 0.95 for one in found)


def test_a_leak_is_foretold_with_its_time_and_named() -> None:
    """Memory grows by 0.5 % in ten seconds and fills 85 %: thirty steps are left, 300 s."""
    found = foretold(leaking(60, from_percent=55, by=0.5), horizon=timedelta(minutes=10))
    assert found.probability > 0.8
    assert found.action is Action.EVACUATE
    assert found.reasons[0].what == "memory fills"
    assert found.reasons[0].probability_without < 0.05
    assert found.median is not None
    assert 240 < found.median.total_seconds() < 420
    assert found.low is not None
    assert found.low < found.median


@pytest.mark.parametrize(
    ("figure", "values", "sentence"),
    [
        ("failed", list(range(30)), "jobs fail"),
        ("slowness", [math.exp(0.08 * number) for number in range(30)], "jobs take longer"),
        ("loop_lag_ms", [3 * math.exp(0.25 * number) for number in range(30)], "its loop is blocked"),
    ],
)
def test_each_gradual_fault_is_foretold_and_named(figure: str, values: list[float], sentence: str) -> None:
    healthy = samples(30)
    later = [
        replace(one, at=one.at + timedelta(seconds=300), **{figure: value})  # type: ignore[arg-type]
        for one, value in zip(samples(30), values, strict=True)
    ]
    found = foretold([*healthy, *later])
    assert found.reasons[0].what == sentence
    assert found.probability > 0.3


def test_fewer_data_give_a_wider_interval_and_say_so() -> None:
    wide = foretold([], known=Fleet())
    sure = foretold(samples(60))
    assert "samples" in wide.caution
    assert "failures" in wide.caution
    assert sure.caution == ""
    doubt = [
        (known.survival(60 * 86_400, age_s=86_400.0), known.survival(3_600, age_s=86_400.0))
        for known in (Fleet(failures=1, exposure=8.0), Fleet(failures=100, exposure=800.0))
    ]
    assert doubt[0][0] > doubt[1][0], "with little known, long lives stay possible"


def test_a_crash_within_the_last_hour_makes_another_likelier() -> None:
    series = samples(60)
    crashed = [*series[:-1], replace(series[-1], crashed=1)]
    week = timedelta(days=7)
    assert foretold(crashed, horizon=week).probability > 1.5 * foretold(series, horizon=week).probability


@given(st.floats(1, FARTHEST.total_seconds()), st.floats(1, FARTHEST.total_seconds()))
def test_a_longer_horizon_is_never_safer(one: float, other: float) -> None:
    near, far = sorted((one, other))
    series = leaking(40, from_percent=30, by=0.4)
    assert (
        foretold(series, horizon=timedelta(seconds=near)).probability
        <= foretold(series, horizon=timedelta(seconds=far)).probability + 1e-12
    )


BROKEN = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.just(1e308)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(BROKEN, BROKEN, st.integers(-3, 10**12), st.integers(-(10**6), 10**6)), max_size=40),
    st.floats(-1e12, 1e12),
)
def test_whatever_the_samples_hold_a_prediction_comes(
    broken: list[tuple[float | None, float | None, int, int]], age_s: float
) -> None:
    """Missing, constant, infinite, out of order, a clock that jumps."""
    series = [
        Sample(
            worker_id=WORKER,
            at=BEGAN + timedelta(seconds=moment),
            running=0,
            finished=count,
            failed=count,
            timed_out=0,
            crashed=count,
            memory_percent=memory,
            slowness=slow,
            loop_lag_ms=slow,
        )
        for memory, slow, count, moment in broken
    ]
    known = fleet([age_s, math.nan, math.inf], failures=1)
    found = predict(replace(case(series, known=known), age=timedelta(seconds=age_s)), horizon=HORIZON)
    assert 0 <= found.probability <= 1
    assert 0 <= score_of(found).value <= 1


def test_a_line_is_believed_less_the_further_it_is_drawn() -> None:
    short = line([float(second) for second in range(10)], [0.1 * second for second in range(10)])
    assert short is not None
    assert short.reaches(1.5, 60) > 0.9
    assert short.reaches(40.0, 10_000) < 0.05
    assert line([1.0, 1.0, 0.5, 2.0], [1.0, 2.0, 3.0, 4.0]) is None


def test_the_cheapest_action_grows_with_the_probability() -> None:
    assert [cheapest(probability) for probability in (0.0, 0.15, 0.25, 0.35, 0.45, 0.55, 1.0)] == [
        *Action,
        Action.EVACUATE,
    ]
    assert cheapest(EVACUATE_AT) is Action.EVACUATE
    assert cheapest(EVACUATE_AT - 0.001) is not Action.EVACUATE


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.2))
def test_the_score_falls_with_the_probability_and_is_0_3_where_evacuating_becomes_cheapest(
    one: float, other: float, base: float
) -> None:
    low, high = sorted((one, other))
    assert mapped(low, base) >= mapped(high, base)
    assert mapped(EVACUATE_AT, base) == pytest.approx(FAILED_AT)
    assert mapped(base, base) == 1.0


def test_a_missed_heartbeat_takes_the_score_to_0_3_and_says_so() -> None:
    score = score_of(foretold(samples(60)), suspect=True)
    assert score.value == FAILED_AT
    assert score.parts[0].what == "it misses heartbeats"


def test_who_fell_ill_is_healthy_again_after_three_good_looks_in_a_row() -> None:
    steady = Steady()
    looks = [0.9, 0.29, 0.6, 0.6, 0.4, 0.6, 0.6, 0.6, 0.4, 0.31]
    sick = [bool(steady.observe({WORKER: score})) for score in looks]
    assert sick == [False, True, True, True, True, True, True, False, False, False]
    assert Steady().observe({WORKER: 0.4}, sick=frozenset({WORKER})), (
        "a new leader goes on from what was noted"
    )


NAMED = [WorkerId(UUID(int=number)) for number in range(1, 9)]


@given(st.dictionaries(st.sampled_from(NAMED), st.floats(0, 1), min_size=1), st.sets(st.sampled_from(NAMED)))
def test_half_of_the_fleet_works_whatever_its_health(
    scores: dict[WorkerId, float], sick: set[WorkerId]
) -> None:
    """Where each could take the jobs of any other, the healthiest works in full and what is sick beside it not at all."""
    given_shares = shares(scores, sick, {worker: set(scores) - {worker} for worker in scores})
    assert sum(share > 0 for share in given_shares.values()) >= math.ceil(len(scores) / 2)
    assert all(share > 0 for worker, share in given_shares.items() if worker not in sick)
    best = max(scores.values())
    assert all(given_shares[worker] == 1 for worker, score in scores.items() if score == best)
    worse = {worker for worker in sick & scores.keys() if scores[worker] < best}
    if len(worse) <= len(scores) // 2:
        assert all(given_shares[worker] == 0 for worker in worse)


def test_no_work_is_kept_from_a_worker_for_which_nobody_better_stands_in() -> None:
    sick, other, sicker = NAMED[:3]
    scores = {sick: 0.1, other: 1.0, sicker: 0.0}
    assert shares({sick: 0.0}, {sick}, {}) == {sick: 1.0}
    assert shares(scores, {sick, sicker}, {sick: [sicker], sicker: [other]})[sick] == 1.0
    assert shares(scores, {sick, sicker}, {sick: [other], sicker: [other]})[sick] == 0.3


def test_a_lag_that_grows_and_stays_small_beside_its_limit_is_no_drift() -> None:
    series = [replace(one, loop_lag_ms=3 * 1.15**number) for number, one in enumerate(samples(38))]
    assert series[-1].loop_lag_ms is not None
    assert 500 < series[-1].loop_lag_ms < 600
    assert drifts(series, Limits(lag_ms=6000)) == ()


def vitals(health: float, *, running: int = 0, **changes: object) -> Vitals:
    worker = Worker(
        id=WorkerId(uuid4()),
        name="w",
        host="h",
        pid=1,
        type="standard",
        state=WorkerState.ACTIVE,
        queues=("default",),
        kinds=("app.work",),
        labels=("gpu",),
        capacity=10,
        processes=1,
        version="",
        running=running,
        started_at=BEGAN,
        heartbeat_at=BEGAN,
    )
    plain = Vitals(worker=worker, at=BEGAN, age=DAY, suspect=False, healthy=True, share=1.0, scores=(health,))
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_the_healthiest_that_fits_is_chosen_and_of_equals_the_least_loaded() -> None:
    busy, free, full, ill = (
        vitals(0.9, running=5),
        vitals(0.9, running=1),
        vitals(1.0, running=9),
        vitals(0.6),
    )
    suspect, holding = vitals(1.0, suspect=True), vitals(1.0, share=0.0)
    everybody = [busy, free, full, ill, suspect, holding]
    assert best(everybody, Criteria()) is free
    assert best([busy, ill], Criteria(health_min=0.5, load_max=0.3)) is ill
    assert best(everybody, Criteria(labels=frozenset({"gpu"}), kind="app.work", queue="default")) is free
    assert best(everybody, Criteria(labels=frozenset({"tpu"}))) is None
    assert best(everybody, Criteria(kind="app.other")) is None
