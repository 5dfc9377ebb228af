"""The seam to the rows of the workers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from perdure.domain.liveness import Heartbeat
from perdure.domain.worker import Beat, NewWorker, WorkerId


class Workers(Protocol):
    """The rows of the workers."""

    async def register(self, worker: NewWorker) -> None:
        """Write the row of a worker that starts."""
        ...

    async def beat(
        self, worker_id: WorkerId, *, kinds: Sequence[str], processes: int, deaf: int = 0
    ) -> Beat | None:
        """Say that the worker lives; None when its row says otherwise, so that it must stop and register anew.

        `deaf` is the number of its processes that hear no notifications.
        """
        ...

    async def heartbeats(self) -> Sequence[Heartbeat]:
        """The last heartbeats of all workers that live."""
        ...

    async def suspect(self, silent: Mapping[WorkerId, datetime]) -> Sequence[WorkerId]:
        """Have workers take nothing new whose last heartbeat is still this one, and raise an alert; tells whose was none before."""
        ...

    async def alarm(self, event: str, reason: str, *, severity: int) -> None:
        """Raise an alert about the fleet as a whole, of severity 1 to 5."""
        ...

    async def declare_dead(
        self, silent: Mapping[WorkerId, datetime], *, observer: WorkerId, fresh_within: timedelta
    ) -> Sequence[WorkerId]:
        """Mark workers dead whose last heartbeat is still this one, while the observer's own is fresh; tells which."""
        ...

    async def stop(self, worker_id: WorkerId, *, cause: str) -> None:
        """Say that the worker has ended by itself."""
        ...
