"""Keep new work from a worker, and move away what it holds, whether it can be reached or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.errors import InvalidOption, NotFound
from perdure.domain.evacuation import Evacuation, Holding, moves
from perdure.domain.settlement import Interrupted, settle
from perdure.domain.worker import Worker, WorkerId
from perdure.ports import By, Dispatch, Jobs, LeaseOf

GRACE = timedelta(seconds=30)
AT_ONCE = 1
SLACK = timedelta(seconds=5)
"""What a worker that can be reached needs, after its deadline, to stop its handlers and to settle them itself."""

BATCH = 500
BATCHES = 20


class Evacuations(Protocol):
    """Cordons and evacuations; each change leaves an event. Raises NotFound for a worker that does not live."""

    async def cordon(self, worker_id: UUID, by: By) -> bool:
        """Have it take nothing new; false when it was so already. Raises Conflict while it drains."""
        ...

    async def uncordon(self, worker_id: UUID, by: By) -> bool:
        """Let it take new work again; false when it could already. Raises Conflict while it drains."""
        ...

    async def evacuate(self, worker_id: UUID, *, grace: timedelta, most: int, by: By) -> bool:
        """Ask it to hand over and end; false when it was asked already. Raises Conflict when `most` others are under way."""
        ...

    async def holdings(self, worker_id: UUID) -> Sequence[Holding]:
        """What it holds, by what is needed to take it over."""
        ...

    async def overstayed(self, *, slack: timedelta, limit: int) -> Sequence[LeaseOf]:
        """Leases of evacuated workers longer past their deadline than `slack`."""
        ...

    async def finish(self) -> Sequence[WorkerId]:
        """Note which evacuated workers hold nothing any more; each is given once."""
        ...


class Roster(Protocol):
    """The workers, as the one reading service gives them."""

    async def list(self, *, alive_only: bool = False) -> Sequence[Worker]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a worker is evacuated: the time that running jobs have, and how many workers may be evacuated at once."""

    grace: timedelta = GRACE
    at_once: int = AT_ONCE
    dry_run: bool = False


AS_USUAL = Terms()


class Evacuate:
    """Acts on workers by somebody's will; each change leaves an event."""

    def __init__(self, evacuations: Evacuations, roster: Roster) -> None:
        self._evacuations = evacuations
        self._roster = roster

    async def cordon(self, worker_id: UUID, by: By) -> bool:
        """Have a worker take nothing new; false when it was so already. Raises NotFound or Conflict."""
        return await self._evacuations.cordon(worker_id, by)

    async def uncordon(self, worker_id: UUID, by: By) -> bool:
        """Let it take new work again; false when it could already. Raises NotFound, or Conflict while it drains."""
        return await self._evacuations.uncordon(worker_id, by)

    async def evacuate(self, worker_id: UUID, by: By, terms: Terms = AS_USUAL) -> Evacuation:
        """Move a worker's jobs to others, and have it end.

        What it has not started goes at once. What runs has `grace` to end, is then asked to stop, and given back
        without burning an attempt. A worker that does not answer is not waited for: after the deadline the leader takes the
        leases from it, and what it still says is refused. Raises NotFound, or Conflict when too many are under way.
        """
        if terms.grace < timedelta(0) or terms.at_once < 1:
            raise InvalidOption("grace", "must not be negative, and at least one must be allowed at once")
        workers = await self._roster.list(alive_only=True)
        worker = next((one for one in workers if one.id == worker_id), None)
        if worker is None:
            raise NotFound("living worker", worker_id, next_step="see `perdure worker list`")
        plan = moves(await self._evacuations.holdings(worker_id), workers, away_from=worker.id)
        changed = not terms.dry_run and await self._evacuations.evacuate(
            worker_id, grace=terms.grace, most=terms.at_once, by=by
        )
        return Evacuation(
            worker_id=worker_id,
            worker=worker.name,
            grace=terms.grace,
            dry_run=terms.dry_run,
            changed=changed,
            moves=plan,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpReport:
    """How many leases were taken from workers past their deadline, and which workers hold nothing any more.

    `locked` leases wait for somebody's open transaction.
    """

    taken: int
    finished: Sequence[WorkerId]
    locked: int = 0


class FollowUp:
    """The leader's part: takes the leases of evacuated workers that have not let go by their deadline."""

    def __init__(
        self, evacuations: Evacuations, jobs: Jobs, dispatch: Dispatch, *, interruption_limit: int
    ) -> None:
        self._evacuations = evacuations
        self._jobs = jobs
        self._dispatch = dispatch
        self._interruption_limit = interruption_limit

    async def run_once(self) -> FollowUpReport:
        """One round, bounded."""
        taken = locked = 0
        for _ in range(BATCHES):
            leases = await self._evacuations.overstayed(slack=SLACK, limit=BATCH)
            if not leases:
                break
            settled = await self._jobs.settle_unlocked(
                [
                    settle(
                        one.lease,
                        Interrupted(cause=f"worker {one.worker_id} was evacuated and did not let go"),
                        interruption_limit=self._interruption_limit,
                    )
                    for one in leases
                ]
            )
            taken += len(settled.accepted)
            if settled.released:
                await self._dispatch.announce(settled.released)
            locked = settled.locked
            if locked:
                break
        return FollowUpReport(taken=taken, finished=await self._evacuations.finish(), locked=locked)
