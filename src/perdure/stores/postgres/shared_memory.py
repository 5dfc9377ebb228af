"""The shared memory in PostgreSQL."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
from msgspec import Raw

from perdure.domain.shared_memory import SharedEntry, SharedNamespace
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)


class PostgresSharedEntries:
    """The port `SharedEntries`."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("shared_memory", schema)

    async def get(self, namespace: str, key: str) -> SharedEntry | None:
        rows = await self._database.fetch(self._sql["entry"], namespace, key)
        return _entry(rows[0]) if rows else None

    async def list(self, namespace: str, *, prefix: str, after: str, limit: int) -> Sequence[SharedEntry]:
        rows = await self._database.fetch(self._sql["entries"], namespace, prefix, after, limit)
        return [_entry(row) for row in rows]

    async def namespaces(self) -> Sequence[SharedNamespace]:
        rows = await self._database.fetch(self._sql["namespaces"])
        return [SharedNamespace(namespace=row["namespace"], entries=row["entries"]) for row in rows]

    async def write(self, namespace: str, key: str, value: str, ttl: timedelta | None) -> SharedEntry:
        rows = await self._database.fetch(self._sql["write"], namespace, key, value, _milliseconds(ttl))
        return _entry(rows[0])

    async def write_if(
        self, namespace: str, key: str, value: str, ttl: timedelta | None, *, version: UUID | None
    ) -> SharedEntry | None:
        given = (namespace, key, value, _milliseconds(ttl))
        if version is None:
            rows = await self._database.fetch(self._sql["write_absent"], *given)
        else:
            rows = await self._database.fetch(self._sql["write_over"], *given, version)
        return _entry(rows[0]) if rows else None

    async def erase(self, namespace: str, key: str, *, version: UUID | None) -> bool:
        rows = await self._database.fetch(self._sql["erase"], namespace, key, version)
        return bool(rows) and bool(rows[0]["alive"])


def _milliseconds(ttl: timedelta | None) -> int | None:
    return None if ttl is None else ttl // MILLISECOND


def _entry(row: asyncpg.Record) -> SharedEntry:
    return SharedEntry(
        namespace=row["namespace"],
        key=row["key"],
        value=Raw(row["value"].encode()),
        version=row["version"],
        written_at=row["written_at"],
        expires_at=row["expires_at"],
    )
