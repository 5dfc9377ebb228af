"""A whole run: which scenarios, one after the other, or the mixture; and what came of it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from perdure.bench.machine import machine
from perdure.domain.errors import InvalidOption
from perdure.runtime.embedded.run_as import choose_run_as
from perdure.torture import (
    flood,
    jobs_that_kill,
    overload,
    pace,
    pooling,
    postgresql,
    processes,
    redis,
    upgrades,
)
from perdure.torture.disk import can_mount
from perdure.torture.mixed import Mixed, mixable, torture
from perdure.torture.place import QUICK, Place
from perdure.torture.playing import Outcome, play, stage
from perdure.torture.scenario import SCENARIOS, Entry
from perdure.torture.servers import Programs, make_image, private_folder

FAMILIES = (processes, jobs_that_kill, postgresql, pooling, redis, upgrades, pace, overload, flood)
"""Importing them defines the scenarios."""

MIXED_RATE = 100.0
MIXED_DISK_MB = 2048
MIXED_SETTINGS = {**QUICK, "processes": 2}
MIXED_POSTGRES = {"max_connections": "80"}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run found, on what, and with which seed it is repeated."""

    seed: int
    took_s: float
    machine: Mapping[str, object]
    servers: Mapping[str, str]
    scenarios: Sequence[Outcome] = ()
    at_once: int = 1
    mixed: Mixed | None = None

    @property
    def ok(self) -> bool:
        """Whether every promise held."""
        return all(one.ok for one in self.scenarios) and (self.mixed is None or not self.mixed.broken)


def chosen(text: str | None, *, short: bool = False, flood: bool = False) -> Sequence[Entry]:
    """The scenarios of these names, separated by commas; without names those of `flood`, or all others, or all short ones.

    Raises InvalidOption.
    """
    if text is None:
        kept = [entry for entry in SCENARIOS.values() if entry.scenario.flood == flood]
        return [entry for entry in kept if not (short and entry.scenario.long)]
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown or not names:
        raise InvalidOption(
            "only",
            f"there is no scenario {unknown[0]!r}" if unknown else "it names no scenario",
            next_step=f"the scenarios are: {', '.join(SCENARIOS)}",
        )
    return [SCENARIOS[name] for name in names]


def run(entries: Sequence[Entry], *, seed: int, at_once: int, say: Say) -> Ran:
    """Play these scenarios, each on servers of its own, so many at once."""
    began, before = monotonic(), machine()

    def played(entry: Entry) -> Outcome:
        outcome = play(entry, programs, image, seed=seed)
        for line in _words(outcome):
            say(line)
        return outcome

    # The threads live as long as the pool: workers and servers end with the thread that started them.
    with ground(say) as (programs, image), ThreadPoolExecutor(at_once) as threads:
        outcomes = list(threads.map(played, entries))
        return Ran(
            seed=seed,
            took_s=monotonic() - began,
            machine=before,
            servers=_versions(programs),
            scenarios=outcomes,
            at_once=at_once,
        )


def run_mixed(*, seed: int, minutes: float, say: Say) -> Ran:
    """Strike with mixed faults for so many minutes."""
    began, before = monotonic(), machine()
    small = can_mount()
    with (
        ground(say) as (programs, image),
        stage(programs, image, MIXED_POSTGRES, disk_mb=MIXED_DISK_MB if small else None) as (servers, disk),
    ):

        async def striking() -> Mixed:
            async with Place(
                servers, seed=seed, rate=MIXED_RATE, settings=MIXED_SETTINGS, disk=disk
            ) as place:
                return await torture(place, seed=seed, minutes=minutes, faults=mixable(root=small), say=say)

        mixed = asyncio.run(striking())
        return Ran(
            seed=seed, took_s=monotonic() - began, machine=before, servers=_versions(programs), mixed=mixed
        )


@contextmanager
def ground(say: Say) -> Iterator[tuple[Programs, Path]]:
    """The programs of the servers, and an image to start them from."""
    with private_folder(choose_run_as()) as folder:
        programs = Programs.found(folder)
        say(f"PostgreSQL {programs.postgres.version}, {programs.redis.product} {programs.redis.version}")
        yield programs, make_image(programs, folder)


def _versions(programs: Programs) -> Mapping[str, str]:
    return {"postgresql": programs.postgres.version, programs.redis.product.lower(): programs.redis.version}


def _words(outcome: Outcome) -> list[str]:
    if outcome.skipped:
        return [f"{outcome.name}: left out, {outcome.skipped}"]
    went_on = "" if outcome.recovered_s is None else f", work went on after {outcome.recovered_s:.1f} s"
    verdict = "holds" if outcome.ok else "BROKEN"
    told = f"{outcome.name}: {verdict}{went_on} ({outcome.jobs} jobs, {outcome.took_s:.0f} s)"
    return [told, *(f"    {line}" for line in outcome.broken)]
