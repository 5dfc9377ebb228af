"""Claim jobs, run them within the capacity of their kind of handler, and hand their endings to be settled."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from time import monotonic
from typing import Protocol
from uuid import UUID

import structlog

from perdure.domain.doubt import Doubt
from perdure.domain.errors import Unavailable, WorkerGone
from perdure.domain.lease import Lease
from perdure.domain.settlement import Cancelled, Ending, Interrupted
from perdure.ports import Claimer, Dispatch, Leases, Scope, Settler

WATCH_S = 0.05
AHEAD_LONGEST_S = 2.0
STOP_GRACE_S = 3.0
ASK_GRACE_S = 1.0
LONGEST_PAUSE_S = 2.0
MEAN_WEIGHT = 0.05
LOST_CLAIMS_MAX = 10_000
DRAINED = "the worker was drained"

log = structlog.get_logger("perdure.execution")


class StopReason(StrEnum):
    """Why a running attempt is asked to stop."""

    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    LOST = "lost"


class Attempt:
    """One attempt while it is under way."""

    __slots__ = ("abandoned", "deadline", "give_up_at", "handle", "lease", "started", "stop_reason")

    def __init__(self, lease: Lease, started: float) -> None:
        self.lease = lease
        self.started = started
        self.deadline = float("inf") if lease.timeout_ms is None else started + lease.timeout_ms / 1000
        self.stop_reason: StopReason | None = None
        self.give_up_at = 0.0
        self.abandoned = False
        self.handle: object = None


Done = Callable[[Attempt, Ending | None], None]
"""Told of an attempt's ending; None when the handler settled it in its own transaction."""


class Runner(Protocol):
    """Runs handlers of one mode."""

    def start(self, attempt: Attempt, done: Done) -> None:
        """Begin; `done` is called exactly once when the handler has ended, on the loop's thread."""
        ...

    def stop(self, attempt: Attempt) -> bool:
        """Make the handler end for `attempt.stop_reason`; false when it can only be asked."""
        ...

    def timed_out(self, attempt: Attempt) -> Ending:
        """How an attempt ends whose time is up."""
        ...

    async def close(self) -> None:
        """Give everything back; whatever still runs is left behind."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is claimed ahead, in jobs and in seconds of work."""

    prefetch_max: int = 500
    prefetch_s: float = 0.1
    poll_interval: timedelta = timedelta(milliseconds=250)


class Group:
    """The handlers of one mode: their scope, their capacity, what runs and what was claimed ahead."""

    def __init__(self, scope: Scope, capacity: int, runner: Runner, limits: Limits) -> None:
        self.scope = scope
        self.capacity = capacity
        self.runner = runner
        self.running: dict[UUID, Attempt] = {}
        self.waiting: deque[tuple[float, Lease]] = deque()
        self._limits = limits
        self._mean: float | None = None

    def wanted(self) -> int:
        """How many jobs to claim now: free slots, and ahead what can start within the prefetch time."""
        waiting = len(self.waiting)
        if waiting > self._limits.prefetch_max // 2 or waiting > (ahead := self._ahead()) // 2:
            return 0
        return max(0, self.capacity - len(self.running) + ahead - waiting)

    @property
    def can_start(self) -> bool:
        """Whether a job waits and a slot is free."""
        return bool(self.waiting) and len(self.running) < self.capacity

    def add(self, leases: Sequence[Lease], now: float) -> None:
        """Let claimed jobs wait for a slot."""
        self.waiting.extend((now, lease) for lease in leases)

    def next(self) -> Lease:
        """The job that has waited for the longest."""
        return self.waiting.popleft()[1]

    def remove(self, lease: Lease) -> None:
        """Take one job out that waits for a slot."""
        self.waiting = deque(one for one in self.waiting if one[1] is not lease)

    def overstayed(self, now: float) -> bool:
        """Whether jobs wait that should have started long ago: what runs takes longer than was learned before."""
        if not self.waiting or now - self.waiting[0][0] < AHEAD_LONGEST_S:
            return False
        self._mean = None
        return True

    def _ahead(self) -> int:
        if self._mean is None or not self._limits.prefetch_max:
            return 0
        return min(
            self._limits.prefetch_max, int(self.capacity * self._limits.prefetch_s / max(self._mean, 1e-6))
        )

    def ended(self, attempt: Attempt, now: float) -> None:
        """Free the attempt's slot and learn from its duration."""
        self.running.pop(attempt.lease.token, None)
        took = now - attempt.started
        self._mean = took if self._mean is None else self._mean + MEAN_WEIGHT * (took - self._mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """Where jobs come from, what is held, and where endings go."""

    dispatch: Dispatch
    leases: Leases
    settler: Settler


class Execution:
    """Keeps the groups of one process filled until it is drained."""

    def __init__(
        self,
        seams: Seams,
        claimer: Claimer,
        groups: Sequence[Group],
        *,
        limits: Limits,
        on_stuck: Callable[[Attempt], None] = lambda attempt: None,
        on_gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._dispatch = seams.dispatch
        self._leases = seams.leases
        self._settler = seams.settler
        self._claimer = claimer
        self._groups = groups
        self._done = {group: partial(self._ended, group) for group in groups}
        self._limits = limits
        self._on_stuck, self._on_gone = on_stuck, on_gone
        self._wake = asyncio.Event()
        self._bell: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._doubt = Doubt()
        self._draining = self._found_all = False
        self._patience_ends = float("inf")
        self.holding = False
        self.finished, self.pause = 0, 0.0

    @property
    def running(self) -> int:
        return sum(len(group.running) for group in self._groups)

    @property
    def idle(self) -> bool:
        return not any(group.running or group.waiting for group in self._groups)

    async def run(self) -> None:
        """Claim and start until `drain` is called; while the database is away, try again in growing pauses."""
        try:
            while not self._draining:
                try:
                    claimed = await self._claim_round()
                    self.pause = 0.0
                except WorkerGone:
                    self._draining = True
                    self._on_gone()
                    return
                except Exception as error:
                    # What runs here must not end because a claim was cancelled or met a deadlock.
                    if not isinstance(error, Unavailable):
                        log.exception("jobs could not be claimed; trying again")
                    self._doubt.begin(monotonic())
                    self.pause = min(LONGEST_PAUSE_S, self.pause * 2 or 0.05)
                    await asyncio.sleep(self.pause)
                    continue
                if not claimed or self._found_all:
                    await self._rest()
        finally:
            if self._watching and not self._draining:  # else the limits of what runs hold until its end
                self._watching.cancel()
            if self._bell is not None:
                self._bell.cancel()  # or it would take the closing of its connection for a failure

    async def _claim_round(self) -> int:
        began = monotonic()
        if self._doubt.wants_look(began):
            await self._give_back_lost_claims()
            self._doubt.looked(began)
        await self._settler.room()
        if self._claimer.isolated:
            # A job whose result is not stored yet would be blamed for the crash of the next one.
            await self._settler.emptied()
        claimed = 0
        self._wake.clear()
        found_all = True
        for group in self._groups:
            wanted = self._wanted(group)
            leases = await self._dispatch.claim(self._claimer, group.scope, limit=wanted) if wanted else ()
            claimed += len(leases)
            found_all &= len(leases) < wanted
            group.add(leases, monotonic())
            self._fill(group)
        self._found_all = found_all
        return claimed

    async def _give_back_lost_claims(self) -> None:
        """Release what the database says is held here and nobody here knows: its claim was committed, its answer lost.

        What is known is noted before the look, so that a job that ends meanwhile is not taken for lost; nothing new can
        come in, for only this loop claims.
        """
        known = self._settler.tokens.union(
            *(group.running for group in self._groups),
            *((lease.token for _, lease in group.waiting) for group in self._groups),
        )
        claimer = self._claimer
        held = await self._leases.of_process(claimer.worker_id, claimer.process, limit=LOST_CLAIMS_MAX)
        for one in held:
            if one.lease.token not in known:
                cause = "released before it started: the answer to its claim was lost"
                self._settler.add(one.lease, Interrupted(cause=cause, started=False), None, monotonic())

    def _wanted(self, group: Group) -> int:
        if self._draining or self.holding:
            return 0
        if self._claimer.isolated:
            return int(self.idle)
        return group.wanted()

    async def _rest(self) -> None:
        """Sleep until the doorbell rings or it is time to poll, and until a slot is free where more may wait for one."""
        if self._bell is None:
            self._bell = asyncio.create_task(self._hear())
        await self._wake.wait()

    async def _hear(self) -> None:
        try:
            await self._dispatch.wait(self._limits.poll_interval)
        except Unavailable:
            await asyncio.sleep(self._limits.poll_interval.total_seconds())
        finally:
            self._bell = None
            self._wake.set()

    def _fill(self, group: Group) -> None:
        if self._draining:
            self._release(group, DRAINED)
            return
        start, done = group.runner.start, self._done[group]
        if group.waiting and (self._watching is None or self._watching.done()):
            self._watching = asyncio.create_task(self._watch())
        while group.can_start:
            attempt = Attempt(group.next(), monotonic())
            group.running[attempt.lease.token] = attempt
            start(attempt, done)

    def _ended(self, group: Group, attempt: Attempt, ending: Ending | None) -> None:
        if attempt.abandoned:
            return
        now = monotonic()
        group.ended(attempt, now)
        self.finished += 1
        if ending is not None:
            self._settler.add(attempt.lease, ending, attempt.started, now)
        if group.can_start:
            self._fill(group)
        if self._wake.is_set() or (self._found_all and not self._draining):
            return  # where the last claim found all there was, a free slot is no reason for another one
        if len(group.running) + len(group.waiting) < group.capacity or group.wanted():
            self._wake.set()

    def cancel(self, job_id: UUID, token: UUID, reason: str = "cancelled by request") -> bool:
        """Stop one attempt of this process for good; true when it was here."""
        for group in self._groups:
            attempt = group.running.get(token)
            if attempt is not None:
                self._stop(group, attempt, StopReason.CANCELLED)
                return True
            for _, lease in group.waiting:
                if lease.token == token:
                    group.remove(lease)
                    self._settler.add(lease, Cancelled(reason=reason), None, monotonic())
                    return True
        return False

    async def drain(self, timeout: float, cause: str = "the worker was drained") -> None:
        """Take nothing new, give back what has not started, wait for what runs, then stop and give back the rest."""
        self._draining = True
        self.hasten(timeout)
        self._wake.set()
        for group in self._groups:
            self._release(group, DRAINED)
        if not await self._all_ended():
            self.stop_all(StopReason.DRAINED)
            self._patience_ends = monotonic() + 1.0
            await self._all_ended()
        for group in self._groups:
            for attempt in list(group.running.values()):
                self._abandon(group, attempt, Interrupted(cause=cause))

    def hasten(self, timeout: float) -> None:
        """Wait no longer than this for what still runs."""
        self._patience_ends = min(self._patience_ends, monotonic() + timeout)

    def stop_all(self, reason: StopReason) -> None:
        """Make everything that runs end for this reason, as far as it can be made to."""
        for group in self._groups:
            for attempt in list(group.running.values()):
                self._stop(group, attempt, reason)

    async def _all_ended(self) -> bool:
        """Wait for what runs, as long as patience lasts."""
        while self.running and (left := self._patience_ends - monotonic()) > 0:
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(0.1, left))
        return not self.running

    def _release(self, group: Group, why: str) -> None:
        now = monotonic()
        cause = f"released before it started: {why}"
        while group.waiting:
            self._settler.add(group.next(), Interrupted(cause=cause, started=False), None, now)

    def _stop(self, group: Group, attempt: Attempt, reason: StopReason) -> None:
        if attempt.stop_reason is not None:
            return
        attempt.stop_reason = reason
        grace = STOP_GRACE_S if group.runner.stop(attempt) else ASK_GRACE_S
        attempt.give_up_at = monotonic() + grace

    def _abandon(self, group: Group, attempt: Attempt, ending: Ending) -> None:
        """Settle an attempt whose handler cannot be stopped; what it still does has no effect on the job.

        Its place stays taken: what was claimed ahead must not start in it.
        """
        self._release(group, f"a handler of {attempt.lease.kind} could not be stopped")
        self._ended(group, attempt, ending)
        attempt.abandoned = True
        self._on_stuck(attempt)

    async def _watch(self) -> None:
        """Enforce deadlines until nothing runs, and give back what was claimed ahead and cannot start, before it is overdue itself."""
        while not self.idle:  # a process without work should not wake twenty times a second
            await asyncio.sleep(WATCH_S)
            now = monotonic()
            for group in self._groups:
                if group.overstayed(now):
                    self._release(group, "what runs here takes longer than expected")
                for attempt in [a for a in group.running.values() if a.deadline <= now]:
                    try:
                        self._enforce(group, attempt, now)
                    except Exception:
                        attempt.give_up_at = now + ASK_GRACE_S
                        log.exception("a deadline was not enforced; trying again", job=attempt.lease.job_id)

    def _enforce(self, group: Group, attempt: Attempt, now: float) -> None:
        if attempt.stop_reason is None:
            self._stop(group, attempt, StopReason.TIMED_OUT)
        elif now > attempt.give_up_at:
            self._abandon(group, attempt, group.runner.timed_out(attempt))
