"""The specification's operations on snapshots, by name; a part of `app.state`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from perdure.domain.durations import Duration, parse_duration
from perdure.domain.snapshot import Difference, HalfSnapshot, Manifest
from perdure.runtime.saving import note_verified, policy_of, snapshots_of
from perdure.runtime.settings import Settings
from perdure.services.snapshot import Reach, Restored
from perdure.stores.postgres.archive import PostgresArchive, PostgresPolicy, SnapshotPolicy

if TYPE_CHECKING:
    from perdure.runtime.app import Perdure


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """Where a snapshot is brought back to: an empty database or schema, by default that of the application.

    A `fork` has a name of its own and its queues are paused; otherwise work goes on at once.
    """

    database_url: str = ""
    schema: str = ""
    fork: bool = False


class SnapshotOperations:
    """createSnapshot, restoreFromSnapshot, enableAutoSnapshot, pointInTimeRecovery and their companions."""

    def __init__(self, app: "Perdure") -> None:
        self._app = app

    async def create_snapshot(self, *, base: str | None = None) -> Manifest:
        """Save everything, or what was written since the snapshot `base`. Nobody who works is held up."""
        return await snapshots_of(self._app.settings).create(base=base)

    async def snapshots(self) -> Sequence[Manifest]:
        """The whole snapshots, the newest first."""
        return await snapshots_of(self._app.settings).list()

    async def half_snapshots(self) -> Sequence[HalfSnapshot]:
        """Those that were begun and not ended, the newest first: one is being written, or its writer died."""
        return await snapshots_of(self._app.settings).half()

    async def snapshot(self, id: str) -> Manifest:
        """One snapshot with its parts, as its manifest tells. Raises NotFound and SnapshotUnusable."""
        return await snapshots_of(self._app.settings).get(id)

    async def compare_snapshots(self, first: str, second: str) -> Difference:
        """How many rows each table had in two full snapshots. Raises NotFound, and SnapshotUnusable for an increment."""
        return await snapshots_of(self._app.settings).diff(first, second)

    async def verify_snapshot(self, id: str) -> Sequence[Manifest]:
        """Read a snapshot and those it builds on again. Raises SnapshotUnusable, which names the part, and SnapshotLocked."""
        chain = await snapshots_of(self._app.settings).verify(id)
        await note_verified(self._app.settings)
        return chain

    async def delete_snapshot(self, id: str) -> None:
        """Delete a snapshot on which no other builds. Raises NotFound and SnapshotUnusable."""
        await snapshots_of(self._app.settings).delete(id)

    async def restore_from_snapshot(
        self, id: str, options: RestoreOptions | None = None, *, actor: str = "program"
    ) -> Restored:
        """Bring a snapshot back into an empty database, whole or not at all. Raises NotEmpty, SnapshotUnusable and SnapshotLocked."""
        chosen, settings = options or RestoreOptions(), self._app.settings
        into = _into(chosen, settings)
        return await snapshots_of(settings).restore(id, into, fork=chosen.fork, actor=actor)

    async def recoverable(self, at: datetime) -> Reach:
        """How near to a time a recovery would get, and why not nearer; nothing is changed. Raises PastUnknown, which names the earliest."""
        return await snapshots_of(self._app.settings).reach(at)

    async def point_in_time_recovery(
        self, at: datetime, options: RestoreOptions | None = None, *, actor: str = "program"
    ) -> Restored:
        """Bring back what had been committed at a time, into an empty database or schema.

        The history of the application's database leads from the newest snapshot to the last commit remembered before that time. When
        that database is lost, the snapshot is brought back; `gap_s` says how much lies between, and `why`.

        Raises PastUnknown, which names the earliest, NotEmpty, SnapshotUnusable and SnapshotLocked.
        """
        settings = self._app.settings
        into = _into(options or RestoreOptions(), settings)
        fork = bool(options and options.fork)
        return await snapshots_of(settings).recover(at, into, fork=fork, actor=actor)

    async def enable_auto_snapshot(
        self, interval: Duration, retention: int, *, actor: str = "program"
    ) -> None:
        """Have the leader take a snapshot every `interval`, and keep the newest `retention` automatic ones. Raises InvalidOption."""
        policy = policy_of(parse_duration(interval, "interval"), retention)
        await (await self._policy()).set(policy, actor=actor)

    async def disable_auto_snapshot(self) -> bool:
        """Have no more automatic snapshots taken; false when none were."""
        return await (await self._policy()).drop()

    async def auto_snapshot(self) -> SnapshotPolicy | None:
        """How often automatic snapshots are taken and how many are kept; None when none are."""
        return await (await self._policy()).get()

    async def _policy(self) -> PostgresPolicy:
        return PostgresPolicy((await self._app.stores()).database, schema=self._app.settings.schema)


def _into(chosen: RestoreOptions, settings: Settings) -> PostgresArchive:
    return PostgresArchive(
        chosen.database_url or settings.database_url.get_secret_value(),
        schema=chosen.schema or settings.schema,
    )
