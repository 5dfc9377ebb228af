"""The long run: one fault after the other, drawn by a seed, under a load that never ends, with the promises checked again and again."""

import asyncio
import faulthandler
import io
import signal
import traceback
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any

from perdure.torture.place import Broken, Place
from perdure.torture.scenario import SCENARIOS, Entry

HOSTS = 3
FAULTS_BETWEEN_CHECKS = 8
SHORTEST_REST_S, LONGEST_REST_S = 1.0, 8.0
PATIENCE = 4.0
"""Faults overlap here, so the bounds of single faults do not hold; everything still happens within four times as long."""
BOUT_WITHIN_S = 1800.0

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Mixed:
    """What a mixed run did and found: how long work took to go on after each fault, by its name."""

    seed: int
    minutes: float = 0.0
    recovered_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    checks: int = 0
    broken: list[str] = field(default_factory=list)
    jobs: int = 0
    repeated: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        return sum(len(times) for times in self.recovered_s.values())


async def torture(place: Place, *, seed: int, minutes: float, faults: Sequence[Entry], say: Say) -> Mixed:
    """Strike for so many minutes, or until a promise is broken; Ctrl-C ends it early, after what is under way."""
    rng, mixed, began = Random(seed), Mixed(seed=seed), monotonic()
    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, enough.set)
    place.patience = PATIENCE
    for _ in range(HOSTS):
        await place.host()
    await place.warm()
    place.load.start()

    async def strike() -> None:
        while monotonic() - began < minutes * 60 and not mixed.broken and not enough.is_set():
            await _moving(_bout(place, rng, mixed, faults, say))

    # What was found until then must be told, whatever goes wrong.
    for error in await asyncio.gather(strike(), return_exceptions=True):
        if isinstance(error, BaseException):
            words = [str(error)] if isinstance(error, Broken) else traceback.format_exception(error)
            mixed.broken += [*words, *await place.last_words()]
    mixed.minutes = (monotonic() - began) / 60
    await place.load.stop()
    mixed.jobs = len(set(place.load.acknowledged))
    mixed.repeated = place.load.repeated
    mixed.outcomes = await place.evidence.outcomes()
    return mixed


async def _bout(place: Place, rng: Random, mixed: Mixed, faults: Sequence[Entry], say: Say) -> None:
    """Some faults under load, then quiet, and the check."""
    for _ in range(FAULTS_BETWEEN_CHECKS):
        entry = rng.choice(faults)
        await entry.play(place)
        place.struck()
        took = await place.recover()
        mixed.recovered_s[entry.scenario.name].append(took)
        say(f"{entry.scenario.name}: work went on after {took:.1f} s")
        await place.replenish(HOSTS)
        await place.pause(rng.uniform(SHORTEST_REST_S, LONGEST_REST_S))
    await place.load.stop()
    await place.drained()
    broken = await place.judged()
    mixed.checks += 1
    mixed.broken += broken + (await place.last_words() if broken else [])
    say(
        f"check {mixed.checks}: {'BROKEN' if broken else 'all promises hold'}, {len(place.load.acknowledged):,} jobs so far"
    )
    place.load.start()


async def _moving(bout: Coroutine[None, None, None]) -> None:
    """Run a bout. Raises Broken, with what each task waits for, when it stands still: a run that hangs shows nothing."""
    task = asyncio.ensure_future(bout)
    faulthandler.dump_traceback_later(2 * BOUT_WITHIN_S)  # for a loop that stands still itself
    try:
        await asyncio.wait({task}, timeout=BOUT_WITHIN_S)
        if not task.done():
            waiting = "".join(_stack(one) for one in asyncio.all_tasks())
            task.cancel()
            raise Broken(f"the run stood still for {BOUT_WITHIN_S:g} s:\n{waiting}")
        task.result()
    finally:
        faulthandler.cancel_dump_traceback_later()


def _stack(task: "asyncio.Task[Any]") -> str:
    words = io.StringIO()
    task.print_stack(file=words)
    return words.getvalue()


def mixable(root: bool) -> list[Entry]:
    """The faults that can strike among others, but those that take minutes; without root not those that need it."""
    return [
        e for e in SCENARIOS.values() if e.mixes and not e.scenario.long and (root or not e.scenario.root)
    ]
