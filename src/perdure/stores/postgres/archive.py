"""Saving a database whole on one snapshot, and bringing it back whole into an empty one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from perdure.domain.errors import Conflict, NotEmpty, SnapshotUnusable
from perdure.domain.snapshot import Manifest, Part, RecordedCut, SnapshotKind
from perdure.state_ports import PartsOf, Saved
from perdure.stores.postgres.connections import Connection, Database, PooledDatabase, connect
from perdure.stores.postgres.migrations import (
    apply_missing,
    migrating,
    migrations,
    missing,
    require_current,
)
from perdure.stores.postgres.past import PostgresPast
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements
from perdure.stores.postgres.translation import translated

READERS = 2
"""Connections that copy at the same time."""
NAME = "perdure snapshot"
DAILY = ("jobs", "job_executions", "job_events")
GROWING = frozenset({*DAILY, "worker_history", "moments"})
"""Tables that only grow: an increment has their new rows."""
MOVING = frozenset(
    {
        "available_jobs",
        "parked_jobs",
        "scheduled_jobs",
        "blocked_jobs",
        "leases",
        "dead_letter_queue",
        "job_dependencies",
        "unique_keys",
    }
)
"""Tables whose rows come and go: an increment has those written since, and what has gone is told by history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPolicy:
    """How often automatic snapshots are taken, and how many of them are kept."""

    every: timedelta
    keep: int


class PostgresPolicy:
    """What is wanted of automatic snapshots, kept in the database itself."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("archive", schema)

    async def get(self) -> SnapshotPolicy | None:
        """None when no automatic snapshots are wanted."""
        rows = await self._database.fetch(self._sql["policy"])
        return (
            SnapshotPolicy(every=timedelta(seconds=rows[0]["every_s"]), keep=rows[0]["keep"])
            if rows
            else None
        )

    async def set(self, policy: SnapshotPolicy, *, actor: str) -> None:
        await self._database.fetch(self._sql["set_policy"], policy.every.total_seconds(), policy.keep, actor)

    async def note_newest(self, at: datetime) -> None:
        """Keep of when the newest automatic snapshot is, for those who look whether one is overdue."""
        await self._database.fetch(self._sql["note_newest"], at)

    async def note_verified(self) -> bool:
        """Keep that a snapshot was read again and found sound; false where no automatic ones are wanted. Raises InsufficientPrivilegeError."""
        return bool(await self._database.fetch(self._sql["note_verified"]))

    async def drop(self) -> bool:
        """Have no more taken; false when none were wanted."""
        return bool(await self._database.fetch(self._sql["drop_policy"]))


class FrozenDatabase:
    """The port `Frozen`: one exported snapshot, and connections that read on it."""

    def __init__(self, row: Mapping[str, Any], parts: Sequence[Saved], readers: Sequence[Connection]) -> None:
        self.cut: str = row["cut"]
        self.saved_cut: str = row["saved_cut"]
        self.at: datetime = row["at"]
        self.era: int = row["era"]
        self.installation: UUID = row["installation"]
        self.migration: int = row["migration"]
        self.server: str = row["server"]
        self.days: Sequence[datetime] = row["days"]
        self.parts = parts
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        for reader in readers:
            self._free.put_nowait(reader)

    async def copy(self, part: Saved, sink: Callable[[bytes], Coroutine[Any, Any, None]]) -> int:
        reader = await self._free.get()
        try:
            with translated():
                done = await reader.copy_from_query(part.query, output=sink)
        finally:
            self._free.put_nowait(reader)
        return int(done.removeprefix("COPY "))


class PostgresArchive:
    """The port `Archive` on PostgreSQL, with connections of its own."""

    def __init__(self, database_url: str, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._url = database_url
        self._schema = schema
        self._sql = statements("archive", schema)

    @asynccontextmanager
    async def frozen(self, base: Manifest | RecordedCut | None = None) -> AsyncIterator[FrozenDatabase]:
        until = base if isinstance(base, RecordedCut) else None
        earlier = base.base if isinstance(base, RecordedCut) else base
        connections: list[Connection] = []
        try:
            keeper = await self._reader(connections)
            await require_current(keeper, schema=self._schema)
            async with keeper.transaction(isolation="repeatable_read", readonly=True):
                (found,) = await keeper.fetch(self._sql["frozen"].numbered())
                row = dict(found)
                _refuse_foreign_base(earlier, row["installation"])
                if until is None:
                    parts = await self._parts(keeper, row["era"], earlier)
                else:
                    saved_cut = await keeper.fetchval(self._sql["aged_cut"].numbered(), until.cut, row["era"])
                    row |= {"cut": until.cut, "saved_cut": saved_cut, "at": until.at}
                    parts = await self._recorded_parts(keeper, row["era"], until)
                for _ in range(READERS - 1):
                    reader = await self._reader(connections)
                    await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    await reader.execute(f"SET TRANSACTION SNAPSHOT '{row['exported']}'")
                yield FrozenDatabase(row, parts, connections)
        finally:
            for connection in connections:
                connection.terminate()

    async def recorded(self, moment: datetime, bases: Sequence[Manifest]) -> RecordedCut | Manifest:
        with translated():
            connection = await connect(self._url, application_name=NAME)
            try:
                await require_current(connection, schema=self._schema)
            finally:
                await connection.close()
        database = await PooledDatabase.open(self._url, application_name=NAME, most=1)
        try:
            (system,) = await database.fetch(self._sql["system"])
            base = _newest_of(system["installation"], bases)
            found = await PostgresPast(database, schema=self._schema).cut(moment)
            earlier = _cut_in(system["era"], base)
            (told,) = await database.fetch(self._sql["contains"], found.cut, earlier)
        finally:
            await database.close()
        if not told["contained"]:
            return base
        return RecordedCut(
            at=found.at, cut=found.cut, newest=found.newest, open_since=found.open_since, base=base
        )

    async def refuse_full(self) -> None:
        with translated():
            connection = await connect(self._url, application_name=NAME)
            try:
                if not await missing(connection, schema=self._schema):
                    await self._refuse_held(connection)
            finally:
                await connection.close()

    async def bring_back(
        self, chain: Sequence[Manifest], parts: PartsOf, *, fork: bool, actor: str
    ) -> Mapping[str, int]:
        newest = chain[-1]
        self.refuse_newer(newest)
        with translated():
            async with migrating(
                self._url, schema=self._schema, application_name="perdure restore"
            ) as connection:
                lacking = await missing(connection, schema=self._schema)
                if len(lacking) < len(migrations()):
                    await apply_missing(connection, schema=self._schema)
                # Where there is no schema yet, it appears together with its rows: producers that wait for the
                # database to come back find nothing to write into before that, and none of their jobs is in the way.
                async with connection.transaction():
                    if len(lacking) == len(migrations()):
                        await apply_missing(connection, schema=self._schema)
                    return await self._write(connection, chain, parts, fork=fork, actor=actor)

    def refuse_newer(self, manifest: Manifest) -> None:
        """Raise SnapshotUnusable for a snapshot of a schema that this program does not know."""
        newest = migrations()[-1].number
        if manifest.migration > newest:
            raise SnapshotUnusable(
                manifest.id,
                f"is of schema {manifest.migration:04d}, and this program knows up to {newest:04d}",
                part="manifest.json",
                next_step="upgrade this program",
            )

    async def _reader(self, connections: list[Connection]) -> Connection:
        connection = await connect(self._url, application_name=NAME)
        connections.append(connection)
        return connection

    async def _parts(self, keeper: Connection, era: int, base: Manifest | None) -> list[Saved]:
        cut = None if base is None else _cut_in(era, base)
        rows = await keeper.fetch(self._sql["parts"].numbered(), era, cut, base.at if base else None)
        return [_saved(row) for row in rows]

    async def _recorded_parts(self, keeper: Connection, era: int, until: RecordedCut) -> list[Saved]:
        base = until.base
        rows = await keeper.fetch(
            self._sql["recorded_parts"].numbered(),
            era,
            _cut_in(era, base),
            base.at,
            until.cut,
            until.at,
            until.newest,
            until.open_since,
        )
        return [_saved(row) for row in rows]

    async def _write(
        self, connection: Connection, chain: Sequence[Manifest], parts: PartsOf, *, fork: bool, actor: str
    ) -> Mapping[str, int]:
        await connection.execute(self._sql["lock"].text)
        await self._refuse_held(connection)
        await self._make_days(connection, chain)
        newest = chain[-1]
        rows = await self._load(connection, chain, parts)
        await connection.execute(self._sql["unlock"].text)
        cause = f"restored from snapshot {newest.id}"
        await connection.fetch(
            self._sql["take_name"].numbered(), newest.era + 1, None if fork else newest.installation
        )
        requeued = await connection.fetch(self._sql["requeue"].numbered(), cause)
        await connection.fetch(self._sql["reopen_edges"].numbered())
        await connection.fetch(self._sql["look_again"].numbered())
        await connection.fetch(self._sql["let_go"].numbered())
        await connection.fetch(self._sql["end_workers"].numbered(), cause)
        await connection.fetch(self._sql["abandon_restores"].numbered())
        await connection.fetch(self._sql["open_epoch"].numbered(), cause, actor)
        if fork:
            await connection.fetch(self._sql["pause_all"].numbered(), actor)
        detail = {"snapshot": newest.id, "at": newest.at, "fork": fork, "requeued": len(requeued)}
        await connection.execute(self._sql["tell"].numbered(), actor, msgspec.json.encode(detail).decode())
        return rows

    async def _refuse_held(self, connection: Connection) -> None:
        held = await connection.fetchval(self._sql["held"].numbered())
        if held is not None:
            raise NotEmpty(
                f"schema {self._schema!r} of the database holds rows in {held}; nothing was changed",
                next_step="restore into an empty database or another schema, or in place by a plan: `perdure restore plan`",
            )

    async def _make_days(self, connection: Connection, chain: Sequence[Manifest]) -> None:
        for day in sorted({day for manifest in chain for day in manifest.days}):
            for parent in DAILY:
                obstacle = await connection.fetchval(self._sql["day"].numbered(), parent, day)
                if obstacle is not None:
                    raise Conflict(f"the partition of {parent} for {day:%Y-%m-%d} cannot be made: {obstacle}")

    async def _load(
        self, connection: Connection, chain: Sequence[Manifest], parts: PartsOf
    ) -> dict[str, int]:
        found = await connection.fetch(self._sql["columns"].numbered())
        here = {row["name"]: set(row["columns"]) for row in found}
        several = len(chain) > 1
        if several:
            await connection.execute(self._sql["stage_saved"].text)
        rows: dict[str, int] = {}
        for generation, (manifest, standing) in enumerate(zip(chain, _standing(chain), strict=True), start=1):
            await connection.execute(self._sql["generation"].numbered(), str(generation))
            for part in standing:
                _refuse_unknown(manifest, part, here)
                done = await connection.copy_to_table(
                    f"saved_{part.name}" if several and part.name in MOVING else part.name,
                    schema_name="pg_temp" if several and part.name in MOVING else self._schema,
                    columns=part.columns,
                    source=parts(manifest, part),
                )
                _refuse_other_count(manifest, part, int(done.removeprefix("COPY ")))
                rows[part.name] = rows.get(part.name, 0) + part.rows
        if several:
            await connection.execute(self._sql["merge"].numbered(), [m.saved_cut for m in chain])
        return rows


def _saved(row: asyncpg.Record) -> Saved:
    return Saved(
        name=row["name"], columns=tuple(row["columns"]), query=row["query"], estimate=row["estimate"]
    )


def _newest_of(installation: UUID, manifests: Sequence[Manifest]) -> Manifest:
    own = [each for each in manifests if each.installation == installation]
    if not own:
        raise SnapshotUnusable(manifests[0].id, "is of another system than the one in the database")
    return max(own, key=lambda manifest: manifest.at)


def _cut_in(era: int, manifest: Manifest) -> str:
    """The cut of a snapshot in the numbers that a database of this era holds."""
    return manifest.cut if manifest.era == era else manifest.saved_cut


def _standing(chain: Sequence[Manifest]) -> list[list[Part]]:
    """The parts of each snapshot of a chain that count.

    Of tables that only grow all do; of those whose rows come and go the parts since the last snapshot that has them whole; of all others,
    which are saved whole each time, the last.
    """
    whole = max(place for place, each in enumerate(chain) if each.recorded or each.kind is SnapshotKind.FULL)
    last = {part.name: place for place, each in enumerate(chain) for part in each.parts}
    return [
        [
            part
            for part in each.parts
            if part.name in GROWING or (place >= whole if part.name in MOVING else place == last[part.name])
        ]
        for place, each in enumerate(chain)
    ]


def _refuse_unknown(manifest: Manifest, part: Part, here: Mapping[str, set[str]]) -> None:
    if unknown := set(part.columns) - here.get(part.name, set()):
        raise SnapshotUnusable(
            manifest.id, f"has columns that are not here: {', '.join(sorted(unknown))}", part=part.name
        )


def _refuse_other_count(manifest: Manifest, part: Part, rows: int) -> None:
    if rows != part.rows:
        raise SnapshotUnusable(manifest.id, f"has {rows} rows, and should have {part.rows}", part=part.name)


def _refuse_foreign_base(base: Manifest | None, installation: UUID) -> None:
    if base is not None and base.installation != installation:
        raise SnapshotUnusable(
            base.id,
            "is of another system, so that nothing can be built on it",
            next_step="take a full snapshot",
        )
