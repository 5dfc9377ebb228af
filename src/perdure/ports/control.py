"""The seam through which people act."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.views import Acted


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who acts, and why: both stay in the events."""

    actor: str
    reason: str = ""


class Control(Protocol):
    """Changes by somebody's will; each answers for every job that it was given, and leaves an event for each change.

    A job that moves while it is acted on is looked for again, a bounded number of times.
    """

    async def cancel(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        """End waiting jobs as cancelled, and ask the workers of running ones to stop."""
        ...

    async def retry(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        """Make retryable and scheduled jobs available in their run, discarded and cancelled ones in a new run."""
        ...

    async def replay(self, delays: Mapping[UUID, timedelta], by: By) -> Sequence[Acted]:
        """Open a new run of dead letters, each after its delay."""
        ...

    async def drop(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        """Take dead letters out of their queue; their jobs stay discarded."""
        ...

    async def pause(self, queue: str, by: By) -> bool:
        """Leave a queue out of all claims; false when it was already. Raises NotFound."""
        ...

    async def resume(self, queue: str, by: By) -> bool:
        """Let a queue be claimed from again; false when it could be already. Raises NotFound."""
        ...

    async def drain(self, worker_id: UUID, by: By) -> bool:
        """Ask a worker to take nothing new; false when it was asked already. Raises NotFound unless it lives."""
        ...

    async def carry_on_cancel_requests(self, *, limit: int) -> int:
        """Forget requests whose lease has ended, and carry those on whose jobs have not: a duty of the leader."""
        ...
