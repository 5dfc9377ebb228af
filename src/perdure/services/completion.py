"""Settle finished attempts in batches, each acknowledged by the database before it counts as settled."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Protocol
from uuid import UUID

import structlog

from perdure.domain.errors import InvalidInput, Locked, Unavailable
from perdure.domain.finished import BATCH, Aside, Finished, take
from perdure.domain.lease import Lease
from perdure.domain.settlement import Ending, ErrorReport, Failed, Settlement, settle
from perdure.domain.worker import WorkerId
from perdure.ports import Dispatch, Settled

LONGEST_PAUSE_S = 2.0
MOST_LOCK_WAITS = 3
"""How often one round may wait for what somebody's open transaction has locked, before the results that may have to wait go aside."""
TOLD = 10
UNSETTLEABLE = "perdure.Unsettleable"

log = structlog.get_logger("perdure.completion")


class Settling(Protocol):
    """The part of the port `Jobs` that ends attempts."""

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """Record where attempts leave their jobs, each only while its token stands; never successes and others at once."""
        ...

    async def refuse(self, settlements: Sequence[Settlement], worker_id: UUID) -> frozenset[UUID]:
        """Record outcomes whose lease was gone and give the tokens of those that no earlier try had settled."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many results may wait unsettled, and how many crashes and interruptions a job may have."""

    unsettled_max: int
    crash_limit: int
    interruption_limit: int


class Completion:
    """Collects finished attempts and settles them in batches that grow with the load.

    A batch is whatever gathered while the batch before was under way, so a lone result is settled at once and a
    flood in few statements. At most `Bounds.unsettled_max` results wait; `full` tells claimers to hold back.
    While the database is away they are kept and tried again.
    """

    def __init__(
        self,
        jobs: Settling,
        dispatch: Dispatch,
        worker_id: WorkerId,
        *,
        bounds: Bounds,
        on_settled: Callable[[int, int], None] = lambda accepted, refused: None,
    ) -> None:
        self._jobs = jobs
        self._dispatch = dispatch
        self._worker_id = worker_id
        self._bounds = bounds
        self._on_settled = on_settled
        self._waiting: deque[Finished] = deque()
        self._in_flight: list[Finished] = []
        self._aside = Aside()
        self._lock_waits = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._closing = False
        self._failing = self._told = False

    def add(self, lease: Lease, ending: Ending, started: float | None, finished: float) -> None:
        """Hand in an attempt that has ended; `started` and `finished` are of the monotonic clock."""
        self._waiting.append(Finished(lease, ending, started, finished))
        self._wake.set()

    @property
    def unsettled(self) -> int:
        return len(self._waiting) + len(self._in_flight) + len(self._aside)

    @property
    def tokens(self) -> set[UUID]:
        """The leases whose attempts have ended and are not settled yet."""
        return {one.lease.token for one in (*self._waiting, *self._in_flight, *self._aside)}

    @property
    def full(self) -> bool:
        """Whether no new attempts should start: as many results wait as a crash may repeat, or none can be settled now.

        A process may have kept the connection that it claims with and lost the other: what it claimed would be held up.
        """
        return self._failing or self.unsettled >= self._bounds.unsettled_max

    async def room(self) -> None:
        """Wait until `full` no longer holds."""
        while self.full:
            self._settled.clear()
            await self._settled.wait()

    async def emptied(self) -> None:
        """Wait until no result is unsettled."""
        while self.unsettled:
            self._settled.clear()
            await self._settled.wait()

    async def run(self) -> None:
        """Settle until `close` was called and everything is settled, or cannot be."""
        pause, most = 0.0, BATCH
        while self.unsettled or not self._closing:
            from_aside = self._aside.due_in_s(monotonic()) == 0
            if not from_aside and not self._waiting:
                await self._woken()
                continue
            batch = self._in_flight = self._aside.take() if from_aside else take(self._waiting, most)
            began, self._lock_waits = monotonic(), 0
            away: Unavailable | None = None
            try:
                await self._settle_apart(batch)
            except Unavailable as error:
                away = error
            left, self._in_flight = self._in_flight, []
            if away is None:
                pause, most = 0.0, min(BATCH, most * 2)
                if from_aside or self._lock_waits:
                    self._aside.learn(len(batch), lock_waits=self._lock_waits)
                self._put_aside(left, began)
                self._tell_of(None)
            else:
                # A connection may also be lost because so much does not fit into one message.
                pause, most = min(LONGEST_PAUSE_S, pause * 2 or 0.05), max(1, len(batch) // 2)
                self._waiting.extendleft(reversed(left))
                self._tell_of(away, for_long=pause >= LONGEST_PAUSE_S)
                await asyncio.sleep(pause)
            self._settled.set()

    def close(self) -> None:
        """Let `run` end once everything is settled; what was set aside is tried once more."""
        self._closing = True
        self._aside.hurry()
        self._wake.set()

    async def _woken(self) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self._aside.due_in_s(monotonic()))

    def _tell_of(self, away: Unavailable | None, *, for_long: bool = False) -> None:
        """Results are never dropped for an error that may pass: they wait, and nothing is claimed meanwhile."""
        self._failing = away is not None
        if away is not None and for_long and not self._told:
            why, step = str(away), away.next_step
            log.warning(
                "results cannot be stored; nothing is claimed until they can",
                waiting=self.unsettled,
                error=why,
                next=step,
            )
            self._told = True
        elif away is None and self._told:
            log.info("results are stored again")
            self._told = False

    def _put_aside(self, left: Sequence[Finished], began: float) -> None:
        """Let results wait that the database refuses though it is there, or that wait for a transaction which somebody holds open."""
        if left and self._closing and not self._lock_waits:
            ids = [str(one.lease.job_id) for one in left]
            log.error("results could not be stored to the end; these jobs run again", jobs=ids)
            return
        if left and self._lock_waits and not self._aside.waits:
            ids = [str(one.lease.job_id) for one in left[:TOLD]]
            log.warning(
                "results wait for what another transaction has locked", jobs=ids, next=Locked.next_step
            )
        now = monotonic()
        self._aside.put(left, now, took=now - began, all_told_apart=self._lock_waits < MOST_LOCK_WAITS)

    async def _settle_apart(self, batch: Sequence[Finished]) -> None:
        """Settle, and leave those in flight that the database refuses; they are told apart from the others by halves.

        So are those that wait for somebody's open transaction, as far as `MOST_LOCK_WAITS` goes.
        One whose outcome can never be stored fails for good in its place. Raises Unavailable.
        """
        if self._lock_waits >= MOST_LOCK_WAITS or await self._are_settled(batch) or len(batch) == 1:
            return
        half = len(batch) // 2
        await self._settle_apart(batch[:half])
        await self._settle_apart(batch[half:])

    async def _are_settled(self, batch: Sequence[Finished]) -> bool:
        """Settle all, or none. Raises Unavailable."""
        try:
            await self._settle(batch)
        except Locked:
            self._lock_waits += 1
            return False
        except Unavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                if failed := self._replaced(batch[0], error):
                    return await self._are_settled([failed])
                log.exception("a result could not be stored; trying again", job=str(batch[0].lease.job_id))
            return False
        settled = {one.lease.token for one in batch}
        self._in_flight = [one for one in self._in_flight if one.lease.token not in settled]
        return True

    def _replaced(self, one: Finished, error: Exception) -> Finished | None:
        """What is stored in place of an outcome that can never be stored, if that is what the error says."""
        if not isinstance(error, InvalidInput) or _unsettleable(one):
            return None
        failed = _failed_for_good(one, error)
        # In flight, too: where the connection is lost later in this round, this ending is the one to be repeated.
        self._in_flight = [failed if other is one else other for other in self._in_flight]
        return failed

    async def _settle(self, batch: Sequence[Finished]) -> None:
        now = monotonic()
        settlements = [self._settlement(finished, now) for finished in batch]
        settled = await self._jobs.settle(settlements)
        whole = len(settled.accepted) == len(settlements)
        late = [] if whole else [s for s in settlements if s.token not in settled.accepted]
        refused = await self._jobs.refuse(late, self._worker_id) if late else frozenset()
        self._on_settled(len(settled.accepted), len(refused))
        if settled.released:
            await self._dispatch.announce(settled.released)

    def _settlement(self, finished: Finished, now: float) -> Settlement:
        started = finished.started
        return settle(
            finished.lease,
            finished.ending,
            crash_limit=self._bounds.crash_limit,
            interruption_limit=self._bounds.interruption_limit,
            started_us=None if started is None else int((now - started) * 1_000_000),
            finished_us=int((now - finished.finished) * 1_000_000),
        )


def _unsettleable(finished: Finished) -> bool:
    return isinstance(finished.ending, Failed) and finished.ending.error.type == UNSETTLEABLE


def _failed_for_good(finished: Finished, error: InvalidInput) -> Finished:
    """In the place of an outcome that the database cannot store."""
    report = ErrorReport(type=UNSETTLEABLE, message=error.message[:2000])
    cause = "its outcome cannot be stored"
    failed = Failed(error=report, retry_in=timedelta(0), give_up=True, cause=cause)
    return Finished(finished.lease, failed, finished.started, finished.finished)
