"""Several runs of decaying workers, what was foretold in them, and whether a model that learnt from the first foretells the later ones."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import median
from time import monotonic

from perdure.bench.machine import machine
from perdure.domain.health.arrays import Bools, Floats, np
from perdure.domain.health.calibration import area, log_loss
from perdure.domain.health.challenge import LINEAR
from perdure.domain.health.failure_model import STEPS
from perdure.domain.health.hazard import fit
from perdure.domain.health.trial import Trial
from perdure.domain.model import Past
from perdure.stores.postgres.models import PostgresModels
from perdure.torture.decay import GRADUAL, KILL, SAMPLE_S, SETTINGS, SOUND, Fared, Look, play
from perdure.torture.place import Place
from perdure.torture.playing import stage
from perdure.torture.run import ground

FAULTS = (*GRADUAL, KILL, SOUND, SOUND)
RAMP_S, SHORT_RAMP_S = 60.0, 30.0
LEFT_LEAST = 0.2
LAG_MAX = timedelta(seconds=6)
SAMPLES_MAX = 200_000
NEAR_S = 3 * SAMPLE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """How well failures within the horizon were foretold at the moments of the later runs, by each method: area, and log-loss."""

    moments: int
    failures: int
    area: Mapping[str, float]
    log_loss: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayRan:
    """What all runs found; `broken` are promises of the jobs that did not hold."""

    runs: int
    ramp_s: float
    took_s: float
    machine: Mapping[str, object]
    postgresql: str
    jobs: int
    broken: Sequence[str]
    warned: Mapping[str, str]
    warned_share: float
    claimed_before_kill: int
    killed: int
    detected_s: Sequence[float]
    sound: int
    sound_called: int
    sound_minutes: float
    called_early: int
    learnt: Learnt | None

    @property
    def ok(self) -> bool:
        """Whether no job was lost or done twice with effect, and no kill was foretold; how much is foretold is a figure, not a promise."""
        return not self.broken and not self.claimed_before_kill


def run_decay(*, runs: int, short: bool, say: Callable[[str], None]) -> DecayRan:
    """Play so many runs one after the other on one database."""
    before, began = machine(), monotonic()
    ramp_s = SHORT_RAMP_S if short else RAMP_S
    with ground(say) as (programs, image), stage(programs, image, {}, disk_mb=None) as (servers, _):

        async def playing() -> DecayRan:
            async with Place(servers, seed=1, rate=0, settings=SETTINGS) as place:
                played = []
                for number in range(runs):
                    played.append(await play(place, FAULTS, ramp_s=ramp_s))
                    say(f"run {number + 1} of {runs}: {_words(played[-1])}")
                found = await _told(place, played)
                return replace(
                    found,
                    ramp_s=ramp_s,
                    took_s=monotonic() - began,
                    machine=before,
                    postgresql=programs.postgres.version,
                )

        return asyncio.run(playing())


def _words(fared: Sequence[Fared]) -> str:
    told = [
        f"{one.fault} {'not foretold' if one.left is None else f'foretold with {one.left:.0%} left'}"
        for one in fared
        if one.fault in GRADUAL
    ]
    called = sum(one.early for one in fared if one.fault == SOUND)
    return ", ".join([*told, f"{called} sound ones called"])


async def _told(place: Place, played: Sequence[Sequence[Fared]]) -> DecayRan:
    fared = [one for run in played for one in run]
    gradual = [one for one in fared if one.fault in GRADUAL]
    killed, sound = (
        [one for one in fared if one.fault == KILL],
        [one for one in fared if one.fault == SOUND],
    )
    past = await PostgresModels(place.database).past(samples_max=SAMPLES_MAX)
    return DecayRan(
        runs=len(played),
        ramp_s=0.0,
        took_s=0.0,
        machine={},
        postgresql="",
        jobs=len(set(place.load.acknowledged)),
        broken=await place.judged(),
        warned={name: _left([one for one in gradual if one.fault == name]) for name in GRADUAL},
        warned_share=sum((one.left or 0) >= LEFT_LEAST for one in gradual) / max(len(gradual), 1),
        claimed_before_kill=sum(one.early for one in killed),
        killed=len(killed),
        detected_s=[round(one.detected_s, 1) for one in killed if one.detected_s is not None],
        sound=len(sound),
        sound_called=sum(one.early for one in sound),
        sound_minutes=round(sum(one.minutes for one in sound), 1),
        called_early=sum(one.early for one in gradual),
        learnt=await asyncio.to_thread(learnt, past, played) if len(played) > 1 else None,
    )


def _left(fared: Sequence[Fared]) -> str:
    left = [one.left or 0.0 for one in fared]
    enough = sum(one >= LEFT_LEAST for one in left)
    return f"{enough} of {len(left)} with a fifth left; median {median(left):.0%}" if left else ""


def learnt(past: Past, played: Sequence[Sequence[Fared]]) -> Learnt | None:
    """Learn from the older half of the runs, and foretell the others; None when one of them has no failure."""
    half = len(played) // 2
    older, newer = ([one for run in part for one in run] for part in (played[:half], played[half:]))
    learning, asking = _trial(past, older), _trial(past, newer)
    if not learning.lessons.failed.any():
        return None
    edges = [step * SAMPLE_S for step in STEPS]
    model = fit(
        learning.lessons.rows,
        learning.lessons.time,
        learning.lessons.failed,
        edges=edges,
        recipe=LINEAR,
    )
    known, true = asking.lessons.known(asking.horizon_s)
    asked = asking.lessons.part(known)
    looks = {one.worker_id: one.looks for one in newer}
    near = [_near(looks[worker], at) for worker, at in zip(asking.whose(known), asked.at, strict=True)]
    seen = np.array([one is not None for one in near])
    said = {
        "trained on other runs": model.predict(asked.rows[seen], asking.horizon_s),
        "limits": np.array([one.probability for one in near if one is not None]),
        "trend": np.array([one.trend for one in near if one is not None]),
    }
    return _measured(said, true[known][seen])


def _measured(said: Mapping[str, Floats], true: Bools) -> Learnt | None:
    if not 0 < true.sum() < len(true):
        return None
    return Learnt(
        moments=len(true),
        failures=int(true.sum()),
        area={name: round(area(one, true), 3) for name, one in said.items()},
        log_loss={name: round(log_loss(np.clip(one, 1e-4, 1 - 1e-4), true), 3) for name, one in said.items()},
    )


def _trial(past: Past, fared: Sequence[Fared]) -> Trial:
    ids = {one.worker_id for one in fared}
    lives = [life for life in past.lives if life.worker_id in ids]
    return Trial(replace(past, lives=lives), interval=timedelta(seconds=SAMPLE_S), lag_max=LAG_MAX)


def _near(looks: Sequence[Look], at: float) -> Look | None:
    """The last look before a moment, if it is not old."""
    before = [one for one in looks if at - NEAR_S <= one.at <= at + SAMPLE_S]
    return before[-1] if before else None
