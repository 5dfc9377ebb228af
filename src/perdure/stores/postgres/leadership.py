"""Election of the one leader that runs the duties."""

from datetime import timedelta
from uuid import UUID

from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)


class PostgresLeadership:
    """Terms of leadership, each with an end by the database's clock."""

    def __init__(
        self, database: Database, *, holder: UUID, ttl: timedelta, schema: str = DEFAULT_SCHEMA
    ) -> None:
        self._database = database
        self._sql = statements("leadership", schema)
        self._holder = holder
        self._ttl = ttl

    async def lead(self, name: str = "duties") -> int | None:
        """Become the leader or stay it: the number of the term, or None while another leads."""
        rows = await self._database.fetch(self._sql["elect"], name, self._holder, self._ttl // MILLISECOND)
        return rows[0]["term"] if rows else None

    async def resign(self, name: str = "duties") -> None:
        """Let another lead at once."""
        await self._database.fetch(self._sql["resign"], name, self._holder)
