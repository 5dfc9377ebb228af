"""Plays one scenario on servers of its own and tells how it went."""

import asyncio
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from perdure.runtime.embedded import run_as
from perdure.stores.postgres.faults import settle_on
from perdure.torture.disk import SmallDisk, can_mount, small_disk
from perdure.torture.place import Broken, CannotBePlayed, Place
from perdure.torture.scenario import Entry
from perdure.torture.servers import DATABASE, Programs, Servers, private_folder

PATIENCE_S = 300.0
LONG_PATIENCE_S = 1800.0
DISK_MB = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a scenario went. `recovered_s` counts from the end of the fault; `skipped` says why it could not be played."""

    name: str
    ok: bool
    broken: tuple[str, ...] = ()
    skipped: str = ""
    recovered_s: float | None = None
    took_s: float = 0.0
    jobs: int = 0
    attempts: int = 0
    remarks: tuple[str, ...] = ()


@contextmanager
def stage(
    programs: Programs, image: Path, settings: Mapping[str, str], *, disk_mb: int | None
) -> Iterator[tuple[Servers, SmallDisk | None]]:
    """Servers that have started, the database on a small disk where that is wanted; all gone afterwards."""
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder(programs.user))
        disk = stack.enter_context(small_disk(folder / "disk", mb=disk_mb)) if disk_mb else None
        servers = Servers(programs=programs, folder=folder / "s", settings=settings, image=image)
        stack.callback(servers.stop)
        servers.start()
        if disk is not None:
            run_as.hand_over(disk.tablespace, programs.user)
            asyncio.run(settle_on(servers.postgres.url("postgres"), DATABASE, str(disk.tablespace)))
        yield servers, disk


def play(entry: Entry, programs: Programs, image: Path, *, seed: int) -> Outcome:
    """Play one scenario. Whatever goes wrong is told in the outcome."""
    scenario = entry.scenario
    if scenario.root and not can_mount():
        return Outcome(name=scenario.name, ok=True, skipped="only root can produce it")
    with stage(programs, image, scenario.postgres, disk_mb=DISK_MB if scenario.root else None) as (
        servers,
        disk,
    ):
        return asyncio.run(_played(entry, servers, disk, seed))


async def _played(entry: Entry, servers: Servers, disk: SmallDisk | None, seed: int) -> Outcome:
    scenario, began = entry.scenario, monotonic()
    async with Place(servers, seed=seed, rate=scenario.rate, disk=disk) as place:
        try:
            broken = await _broken(entry, place)
        except CannotBePlayed as why:
            return Outcome(name=scenario.name, ok=True, skipped=str(why))
        return Outcome(
            name=scenario.name,
            ok=not broken,
            broken=tuple(broken),
            recovered_s=place.recovered_s,
            took_s=monotonic() - began,
            jobs=len(set(place.load.acknowledged)),
            attempts=sum((await place.evidence.outcomes()).values()),
            remarks=tuple(place.remarks),
        )


async def _broken(entry: Entry, place: Place) -> list[str]:
    patience_s = LONG_PATIENCE_S if entry.scenario.long or entry.scenario.flood else PATIENCE_S
    found = await asyncio.gather(
        asyncio.wait_for(_performed_and_judged(entry, place), patience_s), return_exceptions=True
    )
    # A scenario that fails in a way nobody foresaw is a finding like any other.
    match found[0]:
        case CannotBePlayed() as why:
            raise why
        case TimeoutError():
            broken = [f"it was not over after {patience_s:g} s"]
        case Broken() as error:
            broken = [str(error)]
        case BaseException() as error:
            broken = "".join(traceback.format_exception(error)).splitlines()
        case words:
            broken = words
    late = place.recovered_s is not None and place.recovered_s > entry.scenario.within_s
    if late:
        broken.append(
            f"work went on after {place.recovered_s:.1f} s, not within {entry.scenario.within_s:g} s"
        )
    return broken + (await place.last_words() if broken else [])


async def _performed_and_judged(entry: Entry, place: Place) -> list[str]:
    await _performed(entry, place)
    if entry.scenario.flood:
        return await place.judged(drained=False)
    await place.drained()
    return await place.judged()


async def _performed(entry: Entry, place: Place) -> None:
    if not entry.mixes:
        await entry.play(place)
        return
    async with place.under_load(entry.scenario.hosts):
        await entry.play(place)
        place.struck()
    if entry.check is not None:
        await entry.check(place)
