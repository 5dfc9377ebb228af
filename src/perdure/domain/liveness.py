"""Who has fallen silent, as one observer sees it: by the database's clock and by its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from perdure.domain.worker import WorkerId

NOTICED = timedelta(seconds=1)
STEPS_MAX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The last heartbeat of a worker: when it was, and how long ago, both by the database's clock."""

    worker_id: WorkerId
    at: datetime
    silent_for: timedelta


class Step(NamedTuple):
    """How far the database's clock has stepped, forward or (less than nothing) back, and how long ago that was."""

    by: timedelta
    ago: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What an observer knows of itself: who it is, its own clock in seconds, and for how long it has seen without a break.

    A break is an outage of the database, a stop of the observer, or a step of the database's clock.
    """

    worker_id: WorkerId
    now: float
    unbroken_for: timedelta
    steps: Sequence[Step] = ()


class Contact:
    """An observer's contact with the database, as its own heartbeats tell it by two clocks: its own and the database's.

    Times are in seconds of the observer's own clock. Anything longer than `broken_after` without a heartbeat is a break, and so
    is a step of the database's clock by more than that. Steps are remembered by the second; a late answer looks like a step back
    and another forward, which cancel each other.
    """

    def __init__(self, now: float, *, broken_after: timedelta) -> None:
        self._broken_after = broken_after
        self._beat_at = now
        self._unbroken_since = now
        self._steps = list[tuple[float, timedelta]]()
        self._apart = timedelta(0)

    def beat(self, now: float, gap: timedelta) -> None:
        """A heartbeat came back; `gap` is the time since the one before by the database's clock."""
        elapsed = timedelta(seconds=now - self._beat_at)
        self._apart += gap - elapsed
        if abs(self._apart) >= NOTICED:
            self._steps.append((now, self._apart))
            self._apart = timedelta(0)
        if len(self._steps) > STEPS_MAX:
            (_, first), (at, second) = self._steps[:2]
            self._steps[:2] = [(at, first + second)]
        if max(elapsed, abs(gap)) > self._broken_after:
            self._unbroken_since = now
        self._beat_at = now

    def sight(self, worker_id: WorkerId, now: float) -> Sight:
        """What the observer may rely on at this moment."""
        blind = timedelta(seconds=now - self._beat_at) > self._broken_after
        return Sight(
            worker_id=worker_id,
            now=now,
            unbroken_for=timedelta(0) if blind else timedelta(seconds=now - self._unbroken_since),
            steps=[Step(by, timedelta(seconds=now - at)) for at, by in self._steps],
        )


class Silence:
    """Watches heartbeats and tells whose have stood still for too long.

    A step of the database's clock makes every heartbeat look old, or young, at once; so an age alone proves nothing. The same
    heartbeat must have been seen for `suspect_after` by the observer's own clock before its age counts, which is at least
    two looks; seen for `dead_after`, its age does not matter.
    """

    def __init__(self, *, suspect_after: timedelta, dead_after: timedelta) -> None:
        self._suspect_after = suspect_after
        self._dead_after = dead_after
        self._since: dict[tuple[WorkerId, datetime], float] = {}

    def observe(self, heartbeats: Iterable[Heartbeat], sight: Sight) -> dict[WorkerId, datetime]:
        """Take one look; gives the workers that are to be declared dead, each with the heartbeat that was its last.

        Nobody is while the observer's own sight has been unbroken for less than `dead_after`.
        """
        seen = {(beat.worker_id, beat.at): beat.silent_for for beat in heartbeats}
        self._since = {key: self._since.get(key, sight.now) for key in seen}
        if sight.unbroken_for < self._dead_after:
            return {}
        return {
            worker_id: at
            for (worker_id, at), silent_for in seen.items()
            if self._dead(silent_for, timedelta(seconds=sight.now - self._since[worker_id, at]), sight)
        }

    def _dead(self, silent_for: timedelta, watched: timedelta, sight: Sight) -> bool:
        watched = min(watched, sight.unbroken_for)
        return watched >= (self._suspect_after if silent_for > self._dead_after else self._dead_after)
