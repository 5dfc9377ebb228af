"""The specification's operations on state, by name; they call the same services as everything else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from perdure.domain.advice import Advice
from perdure.domain.durations import Duration, parse_duration
from perdure.domain.restore import EVERYTHING, Conflicts, Restore, RestoreScope
from perdure.domain.snapshot import Manifest
from perdure.ports import By
from perdure.runtime.advising import advising
from perdure.runtime.memory_operations import MemoryOperations
from perdure.runtime.restoring import Restoring, restoring_on
from perdure.runtime.saving import policy_of, snapshots_of
from perdure.runtime.settings import Settings
from perdure.services.advise import WEEK
from perdure.services.restore import DRAIN, Terms
from perdure.services.snapshot import Restored
from perdure.stores.postgres.archive import PostgresArchive, PostgresPolicy

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """Where a snapshot is brought back to: an empty database or schema, by default that of the application.

    A `fork` has a name of its own and its queues are paused; otherwise work goes on at once.
    """

    database_url: str = ""
    schema: str = ""
    fork: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlaceOptions:
    """Which jobs of a live system are restored, and what is done with those that something has happened to since."""

    scope: RestoreScope = EVERYTHING
    conflicts: Conflicts = field(default_factory=Conflicts)


PROGRAM = By(actor="program")


class StateOperations(MemoryOperations):
    """createSnapshot, restoreFromSnapshot, enableAutoSnapshot and their companions, the memory of executions, and the shared memory."""

    async def create_snapshot(self, *, base: str | None = None) -> Manifest:
        """Save everything, or what was written since the snapshot `base`. Nobody who works is held up."""
        return await snapshots_of(self._app.settings).create(base=base)

    async def snapshots(self) -> Sequence[Manifest]:
        """The whole snapshots, the newest first."""
        return await snapshots_of(self._app.settings).list()

    async def verify_snapshot(self, id: str) -> Sequence[Manifest]:
        """Read a snapshot and those it builds on again. Raises SnapshotUnusable, which names the part."""
        return await snapshots_of(self._app.settings).verify(id)

    async def delete_snapshot(self, id: str) -> None:
        """Delete a snapshot on which no other builds. Raises NotFound and SnapshotUnusable."""
        await snapshots_of(self._app.settings).delete(id)

    async def restore_from_snapshot(
        self, id: str, options: RestoreOptions | None = None, *, actor: str = "program"
    ) -> Restored:
        """Bring a snapshot back into an empty database, whole or not at all. Raises NotEmpty and SnapshotUnusable."""
        chosen, settings = options or RestoreOptions(), self._app.settings
        into = _into(chosen, settings)
        return await snapshots_of(settings).restore(id, into, fork=chosen.fork, actor=actor)

    async def point_in_time_recovery(
        self, at: datetime, options: RestoreOptions | None = None, *, actor: str = "program"
    ) -> Restored:
        """Bring back what had been committed at a time, into an empty database or schema.

        The history of the application's database leads from the newest snapshot to the last commit remembered before that time. When
        that database is lost, the snapshot is brought back; `gap_s` says how much lies between, and `why`.

        Raises PastUnknown, which names the earliest, NotEmpty and SnapshotUnusable.
        """
        settings = self._app.settings
        into = _into(options or RestoreOptions(), settings)
        fork = bool(options and options.fork)
        return await snapshots_of(settings).recover(at, into, fork=fork, actor=actor)

    async def plan_restore(
        self, at: datetime | str, options: InPlaceOptions | None = None, *, by: By = PROGRAM
    ) -> Restore:
        """Find out what it would do to make jobs of this live system what they were at a time, or in the snapshot of an id.

        No job is changed. Raises PastUnknown, NotFound, SnapshotUnusable and InvalidOption.
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

    async def apply_restore(
        self, plan: Restore, *, drain: Duration = DRAIN, tolerance: int = 0, by: By = PROGRAM
    ) -> Restore:
        """Carry out a plan that was looked at; nothing is changed when more jobs than `tolerance` have moved on since.

        Raises Conflict and InvalidOption.
        """
        terms = Terms(drain=parse_duration(drain, "drain"), tolerance=tolerance)
        async with self._restoring() as restoring:
            return await restoring.service.apply(plan.id, by, digest=plan.digest, terms=terms)

    async def restore(self, id: UUID) -> Restore:
        """A plan or restore, and what came of it. Raises NotFound."""
        async with self._restoring() as restoring:
            return await restoring.restores.get(id)

    async def advise(self, kind: str, *, within: Duration = WEEK) -> Advice:
        """What the newest attempts of a kind within a span say: durations, failures and their causes, time-out, retry delay, workers.

        Each with how many attempts say so; what too few tell of is None. Nothing is changed. Raises NotFound and InvalidOption.
        """
        stores = await self._app.stores()
        span = parse_duration(within, "within")
        return await advising(stores.database, self._app.settings).kind(kind, within=span)

    async def enable_auto_snapshot(
        self, interval: Duration, retention: int, *, actor: str = "program"
    ) -> None:
        """Have the leader take a snapshot every `interval`, and keep the newest `retention` automatic ones."""
        policy = policy_of(parse_duration(interval, "interval"), retention)
        await (await self._policy()).set(policy, actor=actor)

    async def disable_auto_snapshot(self) -> bool:
        """Have no more automatic snapshots taken; false when none were."""
        return await (await self._policy()).drop()

    @asynccontextmanager
    async def _restoring(self) -> AsyncIterator[Restoring]:
        settings = await self._app.connected_settings()
        async with restoring_on(settings, application_name="perdure restore") as restoring:
            yield restoring

    async def _policy(self) -> PostgresPolicy:
        return PostgresPolicy((await self._app.stores()).database, schema=self._app.settings.schema)


def _into(chosen: RestoreOptions, settings: Settings) -> PostgresArchive:
    return PostgresArchive(
        chosen.database_url or settings.database_url.get_secret_value(),
        schema=chosen.schema or settings.schema,
    )
