"""What a measurement asks of the database: how far a run has come, what it cost, and what it ran on."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from perdure.stores.postgres.connections import Database, Lent
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Counters that only rise; `statements` is None where nothing counts them.

    Commits and statements are those of the whole database, WAL is that of the whole server. A process reports its
    share at the latest when its connection ends.
    """

    commits: int
    wal_bytes: int
    dead_rows: int
    statements: int | None

    def since(self, before: "Costs") -> Mapping[str, int]:
        """What was added, without what nobody counted."""
        counted = {
            "commits": self.commits - before.commits,
            "wal_bytes": self.wal_bytes - before.wal_bytes,
            "dead_rows": self.dead_rows - before.dead_rows,
        }
        if self.statements is None or before.statements is None:
            return counted
        return {"statements": self.statements - before.statements, **counted}


class PostgresMeasures:
    """Questions of measurements; nothing here is bounded by an index."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._schema = schema
        self._sql = statements("measures", schema)

    async def alone(self) -> bool:
        """Whether no other session measures in this database; holds until this connection ends."""
        rows = await self._database.fetch(self._sql["alone"])
        return bool(rows[0]["alone"])

    async def settled(self, queue: str) -> tuple[int, float]:
        """How many jobs of a queue were completed, and the seconds from the first start to the last settling."""
        rows = await self._database.fetch(self._sql["settled"], queue)
        return rows[0]["jobs"], rows[0]["seconds"]

    async def now(self) -> datetime:
        """The moment by the database's clock."""
        rows = await self._database.fetch(self._sql["now"])
        moment: datetime = rows[0]["now"]
        return moment

    async def waiting(self, most: int) -> int:
        """How many jobs may start, up to so many."""
        rows = await self._database.fetch(self._sql["waiting"], most)
        return int(rows[0]["jobs"])

    async def may_checkpoint(self) -> bool:
        """Whether this session may ask the server for a checkpoint."""
        return bool((await self._database.fetch(self._sql["may_checkpoint"]))[0]["may"])

    async def vacuum(self) -> None:
        """Have done now what storing leaves behind: vacuum and, where this session may ask for it, a checkpoint of the server."""
        await self._database.fetch(self._sql["vacuum"])
        if await self.may_checkpoint():
            await self._database.fetch(self._sql["checkpoint"])

    async def pace(self, since: datetime, most: int, *, beside: str) -> tuple[int, float]:
        """Of the jobs completed after a moment the first `most`: how many, and the seconds from first start to last settling.

        Those of the queue `beside` do not count.
        """
        rows = await self._database.fetch(self._sql["pace"], since, most, beside)
        return rows[0]["jobs"], rows[0]["seconds"]

    @staticmethod
    async def pin(connection: Lent) -> None:
        """Keep what is deleted from now on from being vacuumed away, until the transaction of this connection ends."""
        await connection.fetch(statements("measures")["pin"].numbered())

    async def busy(self, queue: str) -> bool:
        """Whether any job of a queue waits or runs."""
        rows = await self._database.fetch(self._sql["busy"], queue)
        return bool(rows[0]["busy"])

    async def anything_busy(self) -> bool:
        """Whether any job waits or runs."""
        rows = await self._database.fetch(self._sql["anything_busy"])
        return bool(rows[0]["busy"])

    async def processes(self, worker_id: UUID) -> int:
        """How many processes of a worker have settled a job."""
        rows = await self._database.fetch(self._sql["processes"], worker_id)
        return int(rows[0]["processes"])

    async def results(self, queue: str) -> list[float]:
        """The results of the completed jobs of a queue, which are numbers."""
        return [row["result"] for row in await self._database.fetch(self._sql["results"], queue)]

    async def costs(self) -> Costs:
        """The counters as they stand."""
        rows = await self._database.fetch(self._sql["costs"], self._schema)
        return Costs(**rows[0], statements=await self._calls())

    async def _calls(self) -> int | None:
        known = await self._database.fetch(self._sql["knows_calls"])
        if known[0]["known"]:
            with suppress(asyncpg.PostgresError):  # made in the database, and not loaded by the server
                return int((await self._database.fetch(self._sql["calls"]))[0]["calls"])
        return None

    async def server(self, names: Sequence[str]) -> Mapping[str, str]:
        """The settings of the server as people write them."""
        rows = await self._database.fetch(self._sql["server"], names)
        return {row["name"]: row["value"] for row in rows}
