"""What one prediction and one row of the anomaly detector cost, for models of the sizes that are used."""

import statistics
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np
from report import Figure

from perdure.domain.health import hazard, residual
from perdure.domain.health.conformal import LoneMetric
from perdure.domain.health.network import Recipe
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Ending
from perdure.runtime.tally import SELDOM_S, Tally
from perdure.services.completion import Completion

METRICS = 19
FEATURES = 61
MICRO = 1e6


def figures(_folder: Path) -> list[Figure]:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(3000, FEATURES))
    recipe = Recipe(hidden=(48, 24), members=6, epochs=1)
    model = hazard.fit(
        rows, generator.exponential(20, 3000), np.ones(3000), edges=range(5, 126, 5), recipe=recipe
    )
    series = generator.normal(size=(3000, METRICS))
    detector = residual.fit(series)
    stream = detector.stream()
    lone = LoneMetric()
    values = iter(generator.normal(size=60_000).tolist())
    turn = iter(range(10**9))
    return [
        Figure("one prediction", micros(lambda: model.predict(rows[:1], 30.0)), "us", 1000, 100, lower=True),
        Figure(
            "one anomaly row, as it comes",
            micros(lambda: stream.update(series[next(turn) % 3000])),
            "us",
            100,
            10,
            lower=True,
        ),
        Figure(
            "one anomaly row, in a series",
            micros(lambda: detector.score(series), 20) / len(series),
            "us",
            lower=True,
        ),
        Figure("one value of a lone metric", micros(lambda: lone.update(next(values))), "us", lower=True),
        *telemetry(),
    ]


class Nowhere:
    """Where results go when only the way there is measured."""

    def add(self, lease: Lease, ending: Ending, started: float | None, finished: float) -> None:
        pass


def telemetry() -> list[Figure]:
    """What a job costs more because it is counted and timed, and what a sample costs: processor time of this thread."""
    lease = Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 3, None, None, 0, 1_000, kind="app.work")
    nowhere = cast("Completion", Nowhere())
    ending, tally = Completed(result=None), Tally(nowhere)
    bare = processor_micros(lambda: nowhere.add(lease, ending, 1.0, 1.002))
    counted = processor_micros(lambda: tally.add(lease, ending, 1.0, 1.002))
    ends = count(step=2.0 * SELDOM_S)

    def add_seldom() -> None:
        at = next(ends)
        tally.add(lease, ending, at, at + 0.02)

    timed = processor_micros(add_seldom)
    return [
        Figure("telemetry, a job of many", counted - bare, "us", lower=True),
        Figure("telemetry, a job of few, each of which is timed", timed - bare, "us", lower=True),
    ]


def processor_micros(act: Callable[[], object], times: int = 20_000) -> float:
    """The least of ten rounds of the mean processor time of an act, in microseconds; other work on the machine does not count."""
    rounds = []
    for _ in range(10):
        began = time.thread_time_ns()
        for _ in range(times):
            act()
        rounds.append((time.thread_time_ns() - began) / times / 1000)
    return min(rounds)


def micros(act: Callable[[], object], count: int = 1000) -> float:
    """The median over ten rounds of the mean time of an act, in microseconds."""
    rounds = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(max(count // 10, 1)):
            act()
        rounds.append((time.perf_counter() - began) / max(count // 10, 1))
    return statistics.median(rounds) * MICRO
