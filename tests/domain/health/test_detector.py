"""What the detector finds in a living worker's newest samples."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.domain.health.detector import detect
from perdure.domain.health.signals import FEATURES, features
from perdure.domain.sample import METRICS, Sample

A_DAY = 8_640.0
WORKER = uuid4()
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def usual(count: int, *, seed: int = 0) -> list[Sample]:
    """Samples of a healthy worker, ten seconds apart."""
    random = Random(seed)
    return [
        Sample(
            worker_id=WORKER,
            at=BEGAN + timedelta(seconds=10 * number),
            running=5,
            finished=100 + random.randint(-20, 20),
            failed=random.randint(0, 3),
            timed_out=0,
            cpu_percent=random.gauss(50, 8),
            resident_mb=random.gauss(120, 0.5),
            memory_percent=random.gauss(1, 0.01),
            open_files=random.randint(38, 42),
            loop_lag_ms=abs(random.gauss(2, 1)),
            beat_late_ms=abs(random.gauss(1, 1)),
            database_ms=abs(random.gauss(3, 1)),
            slowness=abs(random.gauss(1, 0.05)),
            queue_wait_ms=abs(random.gauss(20, 9)),
        )
        for number in range(count)
    ]


def test_a_blocked_loop_alarms_and_is_the_first_to_blame() -> None:
    samples = usual(400)
    found = detect([*samples, replace(samples[-1], loop_lag_ms=900.0)], (), rows_per_day=A_DAY)
    assert (found.method, found.severity >= 4) == ("own past", True)
    blamed = found.anomalies[0]
    assert (blamed.metric, round(blamed.value)) == ("loop_lag_ms", 900)
    assert blamed.expected < 10
    assert blamed.share > 0.5


def test_a_healthy_worker_raises_hardly_more_than_its_budget() -> None:
    """A warning a day is allowed; in the hours looked at here, three."""
    samples = usual(700)
    raised = [detect(samples[:end], (), rows_per_day=A_DAY).severity for end in range(400, 700, 3)]
    assert sum(severity > 0 for severity in raised) <= 3


def test_a_new_worker_is_judged_by_its_like_and_the_first_of_all_by_each_metric_alone() -> None:
    spiked = [*usual(20, seed=1), replace(usual(1)[0], loop_lag_ms=900.0)]
    like = detect(spiked, [usual(300)], rows_per_day=A_DAY)
    assert (like.method, like.anomalies[0].metric) == ("past of similar workers", "loop_lag_ms")
    alone = detect(spiked, (), rows_per_day=A_DAY)
    assert (alone.method, alone.anomalies[0].metric) == ("each metric alone", "loop_lag_ms")
    assert detect(spiked[-5:], (), rows_per_day=A_DAY).severity == 0


NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.just(0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(-5, 10**9)), max_size=70))
def test_whatever_the_samples_hold_the_detector_answers(
    broken: list[tuple[float | None, float | None, int]],
) -> None:
    """Missing, infinite, constant or negative values, and moments out of order."""
    samples = [
        Sample(
            worker_id=WORKER,
            at=BEGAN - timedelta(seconds=abs(count) % 7),
            running=count,
            finished=count,
            failed=count,
            timed_out=0,
            loop_lag_ms=lag,
            slowness=slow,
            resident_mb=slow,
        )
        for lag, slow, count in broken
    ]
    found = detect(samples, (), rows_per_day=A_DAY)
    assert math.isfinite(found.score)
    assert 0 <= found.severity <= 5
    assert features(samples).shape == (len(samples), len(FEATURES))


def test_every_metric_of_a_sample_has_a_place_in_what_the_advice_looks_at() -> None:
    assert set(METRICS) == set(Sample.__slots__) - {"worker_id", "at", "claims", "claim_ms"}
