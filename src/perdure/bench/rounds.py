"""Runs the measurements, round after round, and sums them up."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from perdure.bench import draining, enqueueing, lasting, waiting
from perdure.bench.effort import Effort
from perdure.bench.figures import LONG_UNITS, UNITS, Figure, Sample, beside_of, figures_of
from perdure.bench.machine import machine, versions_and_settings
from perdure.bench.stage import SCHEMA, Stage
from perdure.domain.errors import Conflict, InvalidOption
from perdure.runtime.plain_settings import plain
from perdure.runtime.settings import Settings
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.measures import PostgresMeasures

REDIS = "drain_redis_one_process"

Say = Callable[[str], None]
Measurement = Callable[[Stage], Awaitable[Sample]]

MEASUREMENTS: Sequence[tuple[Collection[str], Measurement]] = (
    (("enqueue_one",), enqueueing.one),
    (("enqueue_concurrent",), enqueueing.concurrent),
    (("enqueue_bulk",), enqueueing.bulk),
    (("drain_one_process",), draining.one_process),
    (("drain_two_processes",), draining.two_processes),
    ((REDIS,), draining.with_redis),
    (("latency_p50_ms", "latency_p99_ms"), waiting.latency),
    (("backlog_slowdown",), lasting.backlog),
    (("pinned_slowdown",), lasting.pinned),
    (("idle_rss_mb",), waiting.idle),
    (("history_slowdown",), lasting.history),
    (("queues_slowdown",), lasting.queues),
    (("drain_fifty_processes",), lasting.fifty_processes),
    (("drain_hundred_processes",), lasting.hundred_processes),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """All that a run has found."""

    machine: Mapping[str, object]
    versions: Mapping[str, object]
    settings: Mapping[str, object]
    figures: Mapping[str, Figure]
    beside: Mapping[str, Figure]


def chosen(text: str | None, *, long: bool = False) -> frozenset[str]:
    """The names of figures in a text, separated by commas; for none the usual ones, or all. Raises InvalidOption."""
    every = {**UNITS, **LONG_UNITS}
    if text is None:
        return frozenset(every if long else UNITS)
    names = frozenset(part.strip() for part in text.split(",") if part.strip())
    unknown = sorted(names - every.keys())
    if unknown or not names:
        raise InvalidOption(
            "only",
            f"there is no figure {unknown[0]!r}" if unknown else "it names no figure",
            next_step=f"the figures are: {', '.join(every)}",
        )
    return names


async def measure(settings: Settings, names: Collection[str], effort: Effort, say: Say) -> Told:
    """Measure the figures of these names. Raises Conflict when somebody else measures in the same database."""
    own = Settings.model_validate({**plain(settings), "schema": SCHEMA})
    stage = Stage(own, effort)
    held = DedicatedDatabase(stage.url, application_name="perdure bench: alone")
    measures = PostgresMeasures(held)
    try:
        if not await measures.alone():
            raise Conflict("somebody else measures in this database", next_step="wait until that has ended")
        before = machine()
        versions, settings_told = await versions_and_settings(measures, own, effort)
        samples = await _rounds(stage, _wanted(stage, names, say), say)
    finally:
        await held.close()
    return Told(
        machine=before,
        versions=versions,
        settings=settings_told,
        figures={name: figure for name, figure in figures_of(samples).items() if name in names},
        beside=beside_of(samples),
    )


def _wanted(stage: Stage, names: Collection[str], say: Say) -> list[Measurement]:
    if REDIS in names and not stage.redis_url:
        say(
            f"{REDIS} is left out: there is no Redis (`pip install 'perdure[redis]'` and set PERDURE_REDIS_URL)"
        )
        names = frozenset(names) - {REDIS}
    return [measurement for given, measurement in MEASUREMENTS if not frozenset(given).isdisjoint(names)]


async def _rounds(stage: Stage, measurements: Sequence[Measurement], say: Say) -> list[Sample]:
    samples = []
    for number in range(1, stage.effort.repeat + 1):
        for measurement in measurements:
            sample = await measurement(stage)
            samples.append(sample)
            say(f"round {number} of {stage.effort.repeat}: {', '.join(_words(sample))}")
    return samples


def _words(sample: Sample) -> list[str]:
    words = []
    for name, figure in figures_of([sample]).items():
        beside = f" (bare statements: {figure.floor:,.0f})" if figure.floor is not None else ""
        words.append(f"{name} {figure.value:,.{0 if figure.value >= 100 else 2}f} {figure.unit}{beside}")
    return words
