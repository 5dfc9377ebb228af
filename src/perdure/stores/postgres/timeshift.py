"""Moves what is scheduled nearer, for tests that must not wait."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)


class PostgresTimeshift:
    """Times in the state tables, moved back; the history keeps the times that the database took."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("timeshift", schema)

    async def advance(self, by: timedelta) -> int:
        """Let that much time pass for what waits for a moment; gives the number of such jobs."""
        rows = await self._database.fetch(self._sql["advance"], by // MILLISECOND)
        return int(rows[0]["jobs"])

    async def make_due(self, job_id: UUID) -> bool:
        """Let one job wait no longer; false when it does not wait for a moment."""
        return bool(await self._database.fetch(self._sql["make_due"], job_id))

    async def next_due(self, kinds: Sequence[str]) -> timedelta | None:
        """How long it is until the next job of these kinds is due; None when none is scheduled."""
        rows = await self._database.fetch(self._sql["next_due"], list(kinds))
        return None if rows[0]["in_ms"] is None else rows[0]["in_ms"] * MILLISECOND
