"""Settle finished attempts in batches, each acknowledged by the database before it counts as settled."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Protocol
from uuid import UUID

import msgspec
import structlog

from perdure.domain.errors import InvalidInput, Unavailable
from perdure.domain.lease import Lease
from perdure.domain.settlement import Ending, ErrorReport, Failed, Settlement, settle
from perdure.domain.worker import WorkerId
from perdure.ports import Dispatch, Settled

BATCH = 500
LONGEST_PAUSE_S = 2.0

log = structlog.get_logger("perdure.completion")


class Settling(Protocol):
    """The part of the port `Jobs` that ends attempts."""

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """Record where attempts leave their jobs, each only while its token stands."""
        ...

    async def refuse(self, settlements: Sequence[Settlement], worker_id: UUID) -> frozenset[UUID]:
        """Record outcomes whose lease was gone and give the tokens of those that no earlier try had settled."""
        ...


class Finished(msgspec.Struct, frozen=True):
    """An attempt that has ended and waits to be settled; `started` and `finished` are of the monotonic clock."""

    lease: Lease
    ending: Ending
    started: float | None
    finished: float


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
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._closing = False
        self._failing = False

    def add(self, lease: Lease, ending: Ending, started: float | None, finished: float) -> None:
        """Hand in an attempt that has ended; `started` and `finished` are of the monotonic clock."""
        self._waiting.append(Finished(lease, ending, started, finished))
        self._wake.set()

    @property
    def unsettled(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def tokens(self) -> set[UUID]:
        """The leases whose attempts have ended and are not settled yet."""
        return {finished.lease.token for finished in (*self._waiting, *self._in_flight)}

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
        """Settle until `close` was called and everything is settled."""
        pause = 0.0
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._in_flight = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await self._settle(batch)
                pause, self._failing = 0.0, False
            except Exception as error:
                # Results are never dropped for an error that may pass: they wait, and claims stop when too many do.
                if not isinstance(error, Unavailable):
                    log.exception("results could not be settled; trying again", count=len(batch))
                self._waiting.extendleft(reversed(batch))
                self._failing = True
                pause = min(LONGEST_PAUSE_S, pause * 2 or 0.05)
                await asyncio.sleep(pause)
            finally:
                self._in_flight = []
                self._settled.set()

    def close(self) -> None:
        """Let `run` end once everything is settled."""
        self._closing = True
        self._wake.set()

    async def _settle(self, batch: Sequence[Finished]) -> None:
        now = monotonic()
        settlements = [self._settlement(finished, now) for finished in batch]
        try:
            settled = await self._jobs.settle(settlements)
        except InvalidInput as error:
            await self._settle_one_by_one(batch, error)
            return
        whole = len(settled.accepted) == len(settlements)
        late = [] if whole else [s for s in settlements if s.token not in settled.accepted]
        refused = await self._jobs.refuse(late, self._worker_id) if late else frozenset()
        self._on_settled(len(settled.accepted), len(refused))
        if settled.released:
            await self._dispatch.announce(settled.released)

    async def _settle_one_by_one(self, batch: Sequence[Finished], error: InvalidInput) -> None:
        """Keep one result that the database refuses from holding up the others: it alone fails, for good."""
        if len(batch) > 1:
            for finished in batch:
                await self._settle([finished])
            return
        if isinstance(batch[0].ending, Failed) and batch[0].ending.error.type == "perdure.Unsettleable":
            raise error
        report = ErrorReport(type="perdure.Unsettleable", message=error.message[:2000])
        failed = Failed(
            error=report, retry_in=timedelta(0), give_up=True, cause="its outcome cannot be stored"
        )
        await self._settle([Finished(batch[0].lease, failed, batch[0].started, batch[0].finished)])

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
