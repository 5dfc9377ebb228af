"""Snapshots of the settings' database, and the automatic ones that the leader takes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from perdure.domain.errors import InvalidOption, Unavailable
from perdure.runtime.locating import running_database
from perdure.runtime.settings import Settings
from perdure.runtime.wiring import connected
from perdure.services.snapshot import Snapshots
from perdure.stores.postgres.archive import PostgresArchive, PostgresPolicy, SnapshotPolicy
from perdure.stores.postgres.connections import Database

SHORTEST = timedelta(minutes=1)


def archive_of(settings: Settings) -> PostgresArchive:
    """The database of the settings, as something to be saved and brought back."""
    return PostgresArchive(settings.database_url.get_secret_value(), schema=settings.schema)


def snapshots_of(settings: Settings) -> Snapshots:
    """The snapshots of the settings' database. Raises SnapshotsUnavailable without the extra `state`, and InvalidSettings."""
    from perdure.stores.objects.vault import ObjectVault

    place = settings.snapshots or str((settings.data_dir / "snapshots").expanduser().absolute())
    return Snapshots(archive_of(settings), ObjectVault(place), settings.sealing)


def policy_of(interval: timedelta, keep: int) -> SnapshotPolicy:
    """How often automatic snapshots are to be taken, and how many kept. Raises InvalidOption."""
    if interval < SHORTEST:
        raise InvalidOption("interval", f"must be at least {SHORTEST.total_seconds():.0f} s")
    if keep < 1:
        raise InvalidOption("retention", "at least one snapshot is kept")
    return SnapshotPolicy(every=interval, keep=keep)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticReport:
    """The automatic snapshot that was taken, and those that were deleted for it."""

    created: str
    pruned: tuple[str, ...]
    took_s: float


async def note_verified(settings: Settings) -> bool:
    """Keep in the database that a snapshot was found sound; false where no automatic ones are wanted or it cannot be told."""
    try:
        async with (
            running_database(settings) as found,
            connected(found, application_name="perdure snapshot", redis=False) as stores,
        ):
            return await PostgresPolicy(stores.database, schema=found.schema).note_verified()
    except (Unavailable, asyncpg.InsufficientPrivilegeError):
        return False


class AutomaticSnapshots:
    """Takes a snapshot when the policy in the database wants one and the newest automatic one is old enough.

    While it takes one, two further connections are open.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._policy = PostgresPolicy(database, schema=settings.schema)

    async def run_once(self) -> AutomaticReport | None:
        policy = await self._policy.get()
        if policy is None:
            return None
        snapshots = snapshots_of(self._settings)
        newest = max((each.at for each in await snapshots.list() if each.automatic), default=None)
        if newest is not None and datetime.now(UTC) - newest < policy.every:
            await self._policy.note_newest(newest)
            return None
        manifest = await snapshots.create(automatic=True)
        # Before it is noted, which may fail for a right that is missing: they would pile up.
        pruned = await snapshots.prune(policy.keep)
        await self._policy.note_newest(manifest.at)
        return AutomaticReport(created=manifest.id, pruned=tuple(pruned), took_s=manifest.took_s)
