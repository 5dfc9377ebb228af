"""Claims of a process, counted and timed."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from time import monotonic

from perdure.domain.lease import Lease
from perdure.domain.rank import Band
from perdure.domain.worker import WorkerId
from perdure.ports import Claimer, Dispatch, Place, Scope


class TimedClaims:
    """The port `Dispatch` on another one; what its claims take is added up."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._claims = 0
        self._claim_ms = 0.0

    def figures(self) -> dict[str, float]:
        """How often there was a claim since the process began, and how many milliseconds that took altogether."""
        return {"claims": self._claims, "claim_ms": self._claim_ms}

    async def claim(self, claimer: Claimer, scope: Scope, *, limit: int) -> Sequence[Lease]:
        began = monotonic()
        try:
            return await self._dispatch.claim(claimer, scope, limit=limit)
        finally:
            self._claims += 1
            self._claim_ms += 1000 * (monotonic() - began)

    async def announce(self, places: Sequence[Place]) -> None:
        await self._dispatch.announce(places)

    async def wait(self, timeout: timedelta) -> bool:
        return await self._dispatch.wait(timeout)

    async def release(self, worker_id: WorkerId) -> None:
        await self._dispatch.release(worker_id)

    async def depths(self) -> Mapping[Band, int]:
        return await self._dispatch.depths()
