"""What a process that ended still held goes back: settled by its supervisor at once, for the death was seen."""

import asyncio
from collections.abc import Sequence

import structlog

from perdure.domain.doubt import LATE_CLAIMS_S
from perdure.domain.errors import Unavailable
from perdure.domain.settlement import Crashed, Ending, Interrupted, settle
from perdure.domain.worker import WorkerId
from perdure.ports import LeaseOf
from perdure.runtime.children import ChildProcess
from perdure.runtime.loops import set_within
from perdure.runtime.process_wiring import SupervisorStores
from perdure.runtime.settings import Settings

BATCH = 500

log = structlog.get_logger("perdure.worker")


class GivingBack:
    """Settles the leases of processes that ended, each by what is to blame for its end."""

    def __init__(self, stores: SupervisorStores, stopping: asyncio.Event, settings: Settings) -> None:
        self._stores = stores
        self._stopping = stopping
        self._limits = {
            "crash_limit": settings.crash_limit,
            "interruption_limit": settings.interruption_limit,
        }

    async def run(self, worker_id: WorkerId, child: ChildProcess, how: str) -> None:
        """Settle until nothing is left of what the process held, claims included that the database was still making when it died."""
        cause = f"process {child.number} of worker {worker_id} {how}"
        late: Ending | None = None
        pauses = iter(LATE_CLAIMS_S)
        while True:
            try:
                held = await self._stores.leases.of_process(worker_id, child.number, limit=BATCH)
                if not held:
                    # A claim that was under way in the database when the process died may be committed only now.
                    late = Interrupted(cause=f"{cause} before it started", started=False)
                    pause = next(pauses, None)
                    if pause is None or await set_within(self._stopping, pause):
                        return
                    continue
                endings = [late or self._ending(child, one, cause) for one in held]
                if await self._take(held, endings, cause):
                    await asyncio.sleep(1.0)  # somebody's open transaction is about to end them, and may not
            except Exception as error:
                if not isinstance(error, Unavailable):
                    log.exception("jobs of an ended process could not be settled; trying again", why=cause)
                await asyncio.sleep(1.0)

    async def _take(self, held: Sequence[LeaseOf], endings: Sequence[Ending], cause: str) -> int:
        """Settle leases of a process that ended; gives how many somebody else has locked."""
        settled = await self._stores.jobs.settle_unlocked(
            [settle(one.lease, ending, **self._limits) for one, ending in zip(held, endings, strict=True)]
        )
        if settled.accepted:
            log.warning("jobs taken from an ended process", jobs=len(settled.accepted), why=cause)
        if settled.released:
            await self._stores.dispatch.announce(settled.released)
        return settled.locked

    def _ending(self, child: ChildProcess, held: LeaseOf, cause: str) -> Ending:
        """Only what ran when the process died can be to blame; what it had claimed ahead, or had finished, is not."""
        if child.said_goodbye or child.fault or child.error is not None or self._stopping.is_set():
            return Interrupted(cause=f"{cause}: {child.fault}" if child.fault else cause)
        if child.ran is None:
            return Crashed(cause=cause, alone=child.isolated)
        if held.lease.token not in child.ran:
            return Interrupted(cause=f"{cause}; this job did not run in it then")
        return Crashed(cause=cause, alone=child.isolated or len(child.ran) == 1)
