"""Who has fallen silent, as one observer sees it: by the database's clock and by its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from perdure.domain.health.arrival import PHI_SUSPECT, Arrivals
from perdure.domain.worker import WorkerId

NOTICED = timedelta(seconds=1)
STEPS_MAX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The last heartbeat of a worker: when it was, and how long ago, both by the database's clock."""

    worker_id: WorkerId
    at: datetime
    silent_for: timedelta
    host: str = ""


class Step(NamedTuple):
    """How far the database's clock has stepped, forward or (less than nothing) back, and how long ago that was."""

    by: timedelta
    ago: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What an observer knows of itself: who it is, its own clock in seconds, and for how long it has seen without a break.

    A break is an outage of the database, a stop of the observer, or a step of the database's clock. `stretch` is by how much its
    limits for others grow because it is slow itself; 1 when it is not.
    """

    worker_id: WorkerId
    now: float
    unbroken_for: timedelta
    steps: Sequence[Step] = ()
    stretch: float = 1.0


FORGETS = 0.8
STRETCH_MAX = 8.0
MASS_SHARE = 0.55
MASS_HOSTS = 3
PACES = 5


class Contact:
    """An observer's contact with the database, as its own heartbeats tell it by two clocks: its own and the database's.

    Times are in seconds of the observer's own clock. Anything longer than `broken_after` without a heartbeat is a break, and so
    is a step of the database's clock by more than that. Steps are remembered by the second; a late answer looks like a step back
    and another forward, which cancel each other. Who is slow itself cannot tell that others are late: when a heartbeat takes
    longer than `interval`, the limits for others grow as much, up to eightfold.
    """

    def __init__(
        self, now: float, *, broken_after: timedelta, interval: timedelta = timedelta(seconds=2)
    ) -> None:
        self._interval_s = interval.total_seconds()
        self._slow_s = 0.0
        self._broken_after = broken_after
        self._beat_at = now
        self._unbroken_since = now
        self._steps = list[tuple[float, timedelta]]()
        self._apart = timedelta(0)

    def beat(self, now: float, gap: timedelta, *, slow_s: float = 0.0) -> None:
        """A heartbeat came back; `gap` is the time since the one before by the database's clock.

        `slow_s` is how late it was asked for and how long the answer took, together.
        """
        self._slow_s = max(slow_s, FORGETS * self._slow_s)
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
            stretch=min(max(self._slow_s / self._interval_s, 1.0), STRETCH_MAX),
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
        dead_after = self._dead_after * sight.stretch
        return watched >= (self._suspect_after if silent_for > dead_after else dead_after)


class Suspicion:
    """Tells who has missed heartbeats: by phi-accrual (8, one beat forgiven), at the latest after `suspect_after`.

    It costs nothing to be wrong: a suspect takes nothing new until its next heartbeat, and nothing is taken from it.
    """

    def __init__(self, *, suspect_after: timedelta, interval: timedelta) -> None:
        self._suspect_after = suspect_after
        self._interval_s = interval.total_seconds()
        self._arrivals: dict[WorkerId, Arrivals] = {}

    def observe(self, heartbeats: Iterable[Heartbeat], sight: Sight) -> dict[WorkerId, datetime]:
        """Take one look; gives the suspects, each with its last heartbeat. Nobody is one to an observer whose own sight is fresh."""
        seen = list(heartbeats)
        self._arrivals = {one.worker_id: self._learnt(one) for one in seen}
        if sight.unbroken_for < self._suspect_after:
            return {}
        return {
            one.worker_id: one.at
            for one in seen
            if one.worker_id != sight.worker_id
            and one.silent_for > self._limit(one.worker_id) * sight.stretch
        }

    def _limit(self, worker_id: WorkerId) -> timedelta:
        silence_s = self._arrivals[worker_id].silence_until(PHI_SUSPECT)
        return min(self._suspect_after, timedelta(seconds=silence_s))

    def _learnt(self, beat: Heartbeat) -> Arrivals:
        arrivals = self._arrivals.get(beat.worker_id) or Arrivals(
            interval_s=self._interval_s, pause_s=self._interval_s
        )
        arrivals.heard(beat.at.timestamp())
        return arrivals


class MassSilence:
    """Holds verdicts back while most of the hosts fall silent at once: more likely is that the observer or the network is to blame.

    That is when more than 55 % of the hosts, and at least three, are to be declared dead. They are given as long again, and then
    go host by host, five in that time. Workers of one host count once: a machine that dies takes all of its workers along.
    """

    def __init__(self, *, dead_after: timedelta) -> None:
        self._patience_s = dead_after.total_seconds()
        self._since: float | None = None
        self._released_at = 0.0

    def allowed(
        self, dead: dict[WorkerId, datetime], heartbeats: Iterable[Heartbeat], now: float
    ) -> dict[WorkerId, datetime]:
        """Those of `dead` that may be declared so at `now`, a moment of the observer's clock."""
        hosts = {beat.worker_id: beat.host for beat in heartbeats}
        silent = sorted({hosts.get(worker_id, "") for worker_id in dead})
        if len(silent) < MASS_HOSTS or len(silent) <= MASS_SHARE * len(set(hosts.values())):
            self._since = None
            return dead
        if self._since is None:
            self._since = now
        pace_s = self._patience_s / PACES
        if now - self._since < self._patience_s or now - self._released_at < pace_s:
            return {}
        self._released_at = now
        return {worker_id: at for worker_id, at in dead.items() if hosts.get(worker_id, "") == silent[0]}

    @property
    def holds(self) -> bool:
        """Whether verdicts are held back."""
        return self._since is not None
