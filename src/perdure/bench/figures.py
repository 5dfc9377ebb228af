"""Figures: their names and units, and how rounds are summed up."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

UNITS: Mapping[str, str] = {
    "enqueue_one": "jobs/s",
    "enqueue_concurrent": "jobs/s",
    "enqueue_bulk": "jobs/s",
    "drain_one_process": "jobs/s",
    "drain_two_processes": "jobs/s",
    "drain_redis_one_process": "jobs/s",
    "latency_p50_ms": "ms",
    "latency_p99_ms": "ms",
    "backlog_slowdown": "of the rate",
    "pinned_slowdown": "of the rate",
    "idle_rss_mb": "MiB",
}
"""The figures in the order in which they are shown."""

LONG_UNITS: Mapping[str, str] = {
    "history_slowdown": "of the rate",
    "queues_slowdown": "of the rate",
    "drain_fifty_processes": "jobs/s",
    "drain_hundred_processes": "jobs/s",
}
"""What takes an hour, or more connections than most servers allow: measured when it is asked for."""

BESIDE: Mapping[str, str] = {
    "flush_ms": "ms",
    "drain_statements_per_job": "statements",
    "drain_commits_per_job": "commits",
    "drain_wal_bytes_per_job": "bytes",
    "drain_dead_rows_per_job": "rows",
    "idle_supervisor_rss_mb": "MiB",
}
"""What helps to understand the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with what bare statements reach in the same run, where there is such a thing.

    `ratio` is the median of the rounds' own ratios, for the pace of a shared machine changes from round to round.
    """

    value: float
    unit: str
    floor: float | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one measurement gave in one round, by the names of the figures; `beside` by those of `BESIDE`."""

    values: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    beside: Mapping[str, float] = field(default_factory=dict)


def figures_of(samples: Sequence[Sample]) -> dict[str, Figure]:
    """The medians of all rounds."""
    values = _medians(sample.values for sample in samples)
    floors = _medians(sample.floors for sample in samples)
    ratios = _medians(map(_ratios, samples))
    return {
        name: Figure(
            value=_rounded(values[name]),
            unit=unit,
            floor=_rounded(floors[name]) if name in ratios else None,
            ratio=round(ratios[name], 3) if name in ratios else None,
        )
        for name, unit in {**UNITS, **LONG_UNITS}.items()
        if name in values
    }


def beside_of(samples: Sequence[Sample]) -> dict[str, Figure]:
    """The medians of what stands beside the figures."""
    values = _medians(sample.beside for sample in samples)
    return {
        name: Figure(value=_rounded(values[name]), unit=unit)
        for name, unit in BESIDE.items()
        if name in values
    }


def _medians(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    gathered: dict[str, list[float]] = {}
    for one in rounds:
        for name, value in one.items():
            gathered.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in gathered.items()}


def _ratios(sample: Sample) -> dict[str, float]:
    """What each figure of a round is of what bare statements reached in it."""
    return {name: sample.values[name] / floor for name, floor in sample.floors.items() if floor}


def _rounded(value: float) -> float:
    return round(value, 1 if value >= 100 else 3)
