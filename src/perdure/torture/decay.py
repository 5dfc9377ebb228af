"""Whether failures of workers are foretold: real processes decay in known ways beside sound ones, and every second it is asked."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from perdure.domain.prediction import EVACUATE_AT
from perdure.runtime.prepared import Prepared
from perdure.torture import decay_jobs
from perdure.torture.place import Host, Place

GRADUAL = ("memory leak", "failing jobs", "slowing jobs", "blocked loop")
KILL = "SIGKILL"
SOUND = "sound"
SAMPLE_S = 1.0
HORIZON = timedelta(seconds=30 * SAMPLE_S)
"""In samples what five minutes are by default."""

JOBS_PER_S = 4.0
WARM_S = 20.0
SETTINGS: Mapping[str, object] = {
    "sample_interval_s": SAMPLE_S,
    "processes": 1,
    "concurrency": 4,
    "recycle_after_mb": decay_jobs.MEMORY_MB,
    "model_training": False,
    "model_shadow_share": 1.0,
}
"""The times of silence are the default ones. Nothing is done about warnings, so that each fault takes its course."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was foretold of a worker at a moment of the clock: by limits, and by the specified baseline `trend`."""

    at: float
    probability: float
    trend: float


@dataclass(kw_only=True)
class Subject:
    """A worker, what befalls it, and what was foretold of it."""

    fault: str
    queue: str
    host: Host
    looks: list[Look] = field(default_factory=list)

    @property
    def id(self) -> UUID:
        return self.host.worker.worker_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Fared:
    """How one worker fared. `left` is the share of the ramp that was left when it was called to be evacuated, None when it never was.

    `early` says that it was called so before its fault began, or, for a sound one, at all. `detected_s` is how long a killed one passed for alive.
    """

    worker_id: UUID
    fault: str
    left: float | None
    early: bool
    detected_s: float | None
    minutes: float
    looks: Sequence[Look]


async def play(place: Place, faults: Sequence[str], *, ramp_s: float, warm_s: float = WARM_S) -> list[Fared]:
    """One run: a worker for each fault, on a queue of its own; all end, and everything they were given is done."""
    subjects = [await _started(place, fault) for fault in faults]
    began = time.time() + warm_s
    looking = asyncio.create_task(_look(place, subjects))
    try:
        end = began + decay_jobs.LASTS * ramp_s + SAMPLE_S
        while (now := time.time()) < end:
            await place.load.store([_job(place, one, began, ramp_s) for one in subjects])
            for one in subjects:
                if one.fault == KILL and now >= began and one.host.alive:
                    place.kill(one.host)
            await asyncio.sleep(1 / JOBS_PER_S)
        await _detected(place, subjects)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    heir = await place.host(app=decay_jobs.__name__, queues=[one.queue for one in subjects])
    await place.drained()
    for host in [*(one.host for one in subjects), heir]:
        if host.alive:
            await host.worker.stop()
    return [_fared(one, began, ramp_s) for one in subjects]


async def _started(place: Place, fault: str) -> Subject:
    queue = f"decay-{len(place.hosts)}"
    host = await place.host(app=decay_jobs.__name__, queues=[queue])
    return Subject(fault=fault, queue=queue, host=host)


def _job(place: Place, one: Subject, began: float, ramp_s: float) -> Prepared[None]:
    return place.app.using(queue=one.queue).prepare(decay_jobs.work, one.fault, began, ramp_s)


async def _look(place: Place, subjects: Sequence[Subject]) -> None:
    """Ask once a second what is to be expected of each."""
    foresee = (await place.app.stores()).foresee
    while True:
        found = {UUID(int=one.vitals.worker.id.int): one for one in await foresee.outlooks(horizon=HORIZON)}
        now = time.time()
        for one in subjects:
            if outlook := found.get(one.id):
                one.looks.append(Look(now, outlook.prediction.probability, outlook.trend.probability))
        await asyncio.sleep(SAMPLE_S)


async def _detected(place: Place, subjects: Sequence[Subject]) -> None:
    """Wait until each that was killed is known to be dead; its last look tells when."""
    killed = [one for one in subjects if not one.host.alive]

    async def known() -> bool:
        now = time.time()
        return all(one.looks and now - one.looks[-1].at > 4 * SAMPLE_S for one in killed)

    await place.until(known, what="the killed are known to be dead")


def _fared(one: Subject, began: float, ramp_s: float) -> Fared:
    called = [look.at for look in one.looks if look.probability >= EVACUATE_AT]
    first = min((at for at in called if at >= began), default=None)
    gradual = one.fault in GRADUAL
    left = None if first is None or not gradual else max(0.0, 1 - (first - began) / ramp_s)
    early = bool(called) if one.fault == SOUND else any(at < began for at in called)
    return Fared(
        worker_id=one.id,
        fault=one.fault,
        left=left or None,
        early=early,
        detected_s=one.looks[-1].at - began if one.fault == KILL and one.looks else None,
        minutes=(one.looks[-1].at - one.looks[0].at) / 60 if one.looks else 0.0,
        looks=tuple(one.looks),
    )
