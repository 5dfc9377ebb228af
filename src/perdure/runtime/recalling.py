"""What a process of a worker remembers: the jobs whose success was accepted, and the newest mark that its supervisor saw."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol
from uuid import UUID

import msgspec
import structlog

from perdure.domain.errors import Unavailable
from perdure.domain.lineage import Memory, Recollection
from perdure.domain.settlement import Outcome, Settlement
from perdure.ports import Lineage, Settled
from perdure.services.completion import Settling

REMEMBERED_MAX = 20_000

log = structlog.get_logger("perdure.guard")


class RemindedLineage(Lineage, Protocol):
    """A lineage that asks each new connection for the mark that was seen."""

    memory: Memory | None


class RecallingJobs:
    """Settles, and remembers what succeeded; costs one list for each batch."""

    def __init__(self, jobs: Settling, lineage: RemindedLineage) -> None:
        self._jobs = jobs
        self._lineage = lineage
        self._succeeded = Recollection(REMEMBERED_MAX)
        self._epoch: int | None = None

    def see(self, memory: object) -> None:
        """Take over what the supervisor has seen, as builtin values."""
        if memory is not None:
            self._lineage.memory = msgspec.convert(memory, Memory)
            if self._epoch is None:
                self._epoch = self._lineage.memory.epoch

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        settled = await self._jobs.settle(settlements)
        accepted = settled.accepted
        if len(accepted) < len(settlements):
            settlements = [s for s in settlements if s.token in accepted]
        self._succeeded.note([s.job_id for s in settlements if s.outcome is Outcome.COMPLETED])
        return settled

    async def refuse(self, settlements: Sequence[Settlement], worker_id: UUID) -> frozenset[UUID]:
        return await self._jobs.refuse(settlements, worker_id)

    async def tell(self, who: str) -> None:
        """When the worker was lost because the database went back in time: which successes it forgot."""
        if self._epoch is None:
            return
        with suppress(Unavailable):
            ids = self._succeeded.all()
            told = await self._lineage.tell_forgotten(self._epoch, teller=who, succeeded=ids)
            if told:
                log.error("the database forgot successes that it had accepted", jobs=told)
