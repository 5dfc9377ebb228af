"""Make jobs available whose time has come or whose parents have all ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from perdure.ports import Dispatch, Jobs, Place

BATCH = 1000
BATCHES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """How many jobs became available, and by what."""

    staged: int
    resolved: int
    unparked: int


class Stage:
    """Moves due and unblocked jobs to where they can be claimed, and announces them."""

    def __init__(self, jobs: Jobs, dispatch: Dispatch) -> None:
        self._jobs = jobs
        self._dispatch = dispatch

    async def run_once(self) -> StageReport:
        """One round: all that is due, up to a bound that keeps the round short."""
        staged = 0
        for _ in range(BATCHES):
            places = await self._jobs.stage(limit=BATCH)
            await self._announce(places)
            staged += len(places)
            if len(places) < BATCH:
                break
        unparked = await self._jobs.unpark()
        await self._announce(unparked)
        # Last, since it alone may meet what somebody's open transaction has locked.
        resolved = await self._jobs.resolve(limit=BATCH)
        await self._announce(resolved)
        return StageReport(staged=staged, resolved=len(resolved), unparked=len(unparked))

    async def _announce(self, places: Sequence[Place]) -> None:
        if places:
            await self._dispatch.announce(places)
