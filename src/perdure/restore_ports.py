"""The seam of restores in place: plans, their phases and their steps, as the service needs them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.restore import Action, Conflicts, CutOf, Phase, Restore, RestoreScope
from perdure.ports import By, LeaseOf, Place


class Restores(Protocol):
    """Plans and restores in the database. Each call is a transaction of its own and may be repeated."""

    async def file(
        self, cut: CutOf, scope: RestoreScope, conflicts: Conflicts, by: By, *, undoes: UUID | None = None
    ) -> UUID:
        """Draw a plan up and keep it; nothing else is changed."""
        ...

    async def get(self, id: UUID) -> Restore:
        """Raises NotFound."""
        ...

    async def moved(self, id: UUID) -> tuple[int, Sequence[UUID]]:
        """How many jobs would now be dealt with otherwise than planned, and some of them."""
        ...

    async def begin(self, id: UUID, *, digest: str, drain: timedelta, tolerance: int, by: By) -> bool:
        """Begin to carry out the plan with this digest; false when it is not there as it was. Raises Conflict."""
        ...

    async def pass_on(self, id: UUID, now: Phase, then: Phase, *, draw: bool = False) -> None:
        """Go over to the next phase, with `draw` drawing the plan anew; nothing happens in any other phase than `now`."""
        ...

    async def end(self, id: UUID, now: Phase, then: Phase, report: str) -> bool:
        """Come to an end; false in any other phase than `now`."""
        ...

    async def running(self, id: UUID) -> int:
        """How many of the jobs that are waited for still run."""
        ...

    async def leases(self, id: UUID, *, limit: int) -> Sequence[LeaseOf]:
        """Leases that are to be taken away."""
        ...

    async def note(self, id: UUID, jobs: Sequence[UUID], outcome: str) -> None:
        """Note what came of jobs."""
        ...

    async def next(self, id: UUID, action: Action, *, limit: int) -> Sequence[UUID]:
        """The next jobs that an action is left to do on; parents come before their children."""
        ...

    async def write(self, id: UUID, action: Action, jobs: Sequence[UUID]) -> Sequence[Place]:
        """Do it, note what came of each job, and give what became available: all or nothing."""
        ...
