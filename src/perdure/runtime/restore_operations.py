"""Restores in place as operations, by name; a part of `app.state`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from perdure.domain.bounds import checked_count
from perdure.domain.durations import Duration, parse_duration
from perdure.domain.restore import EVERYTHING, Conflicts, Restore, RestoreItem, RestoreScope
from perdure.ports import By
from perdure.runtime.restoring import Restoring, restoring_on
from perdure.runtime.saving import snapshots_of
from perdure.services.restore import DRAIN, Terms

if TYPE_CHECKING:
    from perdure.runtime.app import Perdure

PROGRAM = By(actor="program")
FIRST = UUID(int=0)
JOBS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlaceOptions:
    """Which jobs of a live system are restored, and what is done with those that something has happened to since."""

    scope: RestoreScope = EVERYTHING
    conflicts: Conflicts = field(default_factory=Conflicts)


class RestoreOperations:
    """Plan a restore of a live system, look at the plan, carry it out, undo it."""

    def __init__(self, app: "Perdure") -> None:
        self._app = app

    async def plan_restore(
        self, at: datetime | str, options: InPlaceOptions | None = None, *, by: By = PROGRAM
    ) -> Restore:
        """Find out what it would do to make jobs of this live system what they were at a time, or in the snapshot of an id.

        No job is changed. Raises PastUnknown, NotFound, SnapshotUnusable, SnapshotLocked and InvalidOption.
        """
        chosen = options or InPlaceOptions()
        async with self._restoring() as restoring:
            if isinstance(at, str):
                cut = await restoring.cuts.of_snapshot(await snapshots_of(self._app.settings).trusted(at))
            else:
                cut = await restoring.cuts.of_time(at)
            return await restoring.service.plan(cut, by, scope=chosen.scope, conflicts=chosen.conflicts)

    async def plan_undoing(self, restore: UUID, *, by: By = PROGRAM) -> Restore:
        """The plan that takes back what a restore changed. Raises NotFound and Conflict."""
        async with self._restoring() as restoring:
            return await restoring.service.plan_undoing(restore, await restoring.cuts.before(restore), by)

    async def moved_since_plan(self, id: UUID) -> int:
        """How many jobs would now be dealt with otherwise than a plan says. Raises NotFound."""
        async with self._restoring() as restoring:
            moved, _ = await restoring.restores.moved((await restoring.restores.get(id)).id)
            return moved

    async def apply_restore(
        self, plan: Restore, *, drain: Duration = DRAIN, tolerance: int = 0, by: By = PROGRAM
    ) -> Restore:
        """Carry out a plan that was looked at; nothing is changed when more jobs than `tolerance` have moved on since.

        Ends with the restore, whose phase says how: `done`, `refused`, or `broken` when a promise does not hold. Raises Conflict and InvalidOption.
        """
        terms = Terms(drain=parse_duration(drain, "drain"), tolerance=tolerance)
        async with self._restoring() as restoring:
            return await restoring.service.apply(plan.id, by, digest=plan.digest, terms=terms)

    async def resume_restore(self, id: UUID) -> Restore:
        """Carry on at once what was begun and left in the middle; else the leader of the workers does so. Raises NotFound."""
        async with self._restoring() as restoring:
            return await restoring.service.carry_on(id)

    async def release_restore(self, id: UUID, *, reason: str = PROGRAM.actor) -> Restore:
        """Let the queues go that a restore still holds because it found a promise broken. Raises NotFound and Conflict."""
        async with self._restoring() as restoring:
            return await restoring.service.release(id, reason=reason)

    async def restore(self, id: UUID) -> Restore:
        """A plan or restore, and what came of it. Raises NotFound."""
        async with self._restoring() as restoring:
            return await restoring.restores.get(id)

    async def restores(self, *, limit: int = 20) -> Sequence[Restore]:
        """Plans and restores, the newest first."""
        checked_count(limit, "limit", low=1, high=JOBS_MAX)
        async with self._restoring() as restoring:
            return await restoring.plans.newest(limit)

    async def restore_jobs(
        self, id: UUID, *, after: UUID = FIRST, limit: int = 1_000
    ) -> Sequence[RestoreItem]:
        """The jobs that a restore changes, in the order of their ids, with what is done to each and what came of it. Raises NotFound."""
        checked_count(limit, "limit", low=1, high=JOBS_MAX)
        async with self._restoring() as restoring:
            known = await restoring.restores.get(id)
            return await restoring.plans.items(known.id, after=after, limit=limit)

    @asynccontextmanager
    async def _restoring(self) -> AsyncIterator[Restoring]:
        settings = await self._app.connected_settings()
        async with restoring_on(settings, application_name="perdure restore") as restoring:
            yield restoring
