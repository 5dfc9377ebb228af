"""Give the jobs of lost workers and of hung handlers back, or discard them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from perdure.domain.liveness import Heartbeat, MassSilence, Sight, Silence, Suspicion
from perdure.domain.settlement import Crashed, Ending, ErrorReport, Failed, settle
from perdure.domain.worker import WorkerId
from perdure.ports import Dispatch, Jobs, LeaseOf, Leases, Settled, Workers

BATCH = 500
BATCHES = 20


class Find(Protocol):
    """Looks for leases to be ended."""

    async def __call__(self, *, limit: int) -> Sequence[LeaseOf]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueReport:
    """How many workers were declared dead, and how many leases were ended; whom silence makes a suspect now.

    `held_back` workers would have been declared dead, were they not most of the fleet. `locked` leases wait for somebody's open
    transaction.
    """

    dead: int
    rescued: int
    overdue: int
    suspected: Sequence[WorkerId] = ()
    held_back: int = 0
    locked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How long a worker may be silent, and how many crashes and interruptions a job may have."""

    suspect_after: timedelta
    dead_after: timedelta
    crash_limit: int
    interruption_limit: int
    interval: timedelta = timedelta(seconds=2)


class Rescue:
    """Ends the leases of workers that are dead and of handlers that are past their deadline.

    A verdict needs sight: an observer that was itself cut off from the database, or whose database's clock has stepped, sees
    everyone's heartbeats as old. `sight` tells for how long its own contact has been unbroken; before that has
    lasted as long as a worker may be silent, nobody is declared dead (`perdure.domain.liveness`). And no handler is taken for
    hung: a worker that could not hand its results in during an outage hands them in first.
    """

    def __init__(
        self,
        jobs: Jobs,
        leases: Leases,
        workers: Workers,
        dispatch: Dispatch,
        *,
        rules: Rules,
        sight: Callable[[], Sight],
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._workers = workers
        self._dispatch = dispatch
        self._rules = rules
        self._sight = sight
        self._silence = Silence(suspect_after=rules.suspect_after, dead_after=rules.dead_after)
        self._suspicion = Suspicion(suspect_after=rules.suspect_after, interval=rules.interval)
        self._mass = MassSilence(dead_after=rules.dead_after)

    async def run_once(self) -> RescueReport:
        """One round: verdicts, then the leases of the dead, then the overdue ones."""
        heartbeats = await self._workers.heartbeats()
        suspects = self._suspicion.observe(heartbeats, self._sight())
        suspected = await self._workers.suspect(suspects) if suspects else ()
        dead, held_back = await self._judge(heartbeats)
        for worker_id in dead:
            await self._dispatch.release(worker_id)
        rescued, locked = await self._end_all(self._leases.of_dead, _lost_with_worker)
        overdue, more = await self._end_all(self._hung, _overdue)
        return RescueReport(
            dead=len(dead),
            rescued=rescued,
            overdue=overdue,
            suspected=suspected,
            held_back=held_back,
            locked=locked + more,
        )

    async def _judge(self, heartbeats: Sequence[Heartbeat]) -> tuple[Sequence[WorkerId], int]:
        sight = self._sight()
        silent = self._silence.observe(heartbeats, sight)
        held_before = self._mass.holds
        allowed = self._mass.allowed(silent, heartbeats, sight.now)
        if self._mass.holds and not held_before:
            reason = f"{len(silent)} of {len(heartbeats)} workers fell silent at once; nothing is taken from them yet"
            await self._workers.alarm("fleet_silent", reason, severity=5)
        if not allowed:
            return (), len(silent)
        dead = await self._workers.declare_dead(
            allowed, observer=sight.worker_id, fresh_within=self._rules.suspect_after
        )
        return dead, len(silent) - len(allowed)

    async def _hung(self, *, limit: int) -> Sequence[LeaseOf]:
        sight = self._sight()
        if sight.unbroken_for < self._rules.dead_after:
            return ()
        return await self._leases.overdue(
            observer=sight.worker_id, fresh_within=self._rules.suspect_after, steps=sight.steps, limit=limit
        )

    async def _end_all(self, found: Find, ending_of: Callable[[LeaseOf], Ending]) -> tuple[int, int]:
        """End what is found, batch by batch, up to a bound that keeps the round short: how many, and how many are locked."""
        ended = locked = 0
        for _ in range(BATCHES):
            held = await found(limit=BATCH)
            if held:
                settled = await self._end(held, ending_of)
                ended, locked = ended + len(settled.accepted), settled.locked
            if len(held) < BATCH or locked:
                break
        return ended, locked

    async def _end(self, held: Sequence[LeaseOf], ending_of: Callable[[LeaseOf], Ending]) -> Settled:
        limits = {
            "crash_limit": self._rules.crash_limit,
            "interruption_limit": self._rules.interruption_limit,
        }
        settled = await self._jobs.settle_unlocked(
            [settle(lease.lease, ending_of(lease), **limits) for lease in held]
        )
        if settled.released:
            await self._dispatch.announce(settled.released)
        return settled


def _lost_with_worker(held: LeaseOf) -> Ending:
    """A job that ran alone while its host fell silent, and was a suspect before, may have taken the host with it."""
    cause = f"worker {held.worker_id} fell silent"
    return Crashed(cause=cause, alone=held.isolated, host_lost=not held.isolated)


def _overdue(held: LeaseOf) -> Ending:
    message = f"process {held.process} of worker {held.worker_id} did not stop the handler at its deadline"
    return Failed(
        error=ErrorReport(type="perdure.Hung", message=message, fingerprint="hung"),
        retry_in=timedelta(0),
        timed_out=True,
        cause=message,
    )
