"""What one prediction and one row of the anomaly detector cost, for models of the sizes that are used."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from report import Figure

from perdure.domain.health import hazard, residual
from perdure.domain.health.conformal import LoneMetric
from perdure.domain.health.network import Recipe

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
    ]


def micros(act: Callable[[], object], count: int = 1000) -> float:
    """The median over ten rounds of the mean time of an act, in microseconds."""
    rounds = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(max(count // 10, 1)):
            act()
        rounds.append((time.perf_counter() - began) / max(count // 10, 1))
    return statistics.median(rounds) * MICRO
