"""Facts about the server and the tables, for `perdure doctor`."""

import asyncio
import statistics
import uuid
from datetime import UTC, datetime, timedelta
from time import perf_counter

import asyncpg

from perdure.domain.diagnosis import SchemaFacts, ServerFacts, TableFacts
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

COMMITS = 5
HEARD_WITHIN_S = 1.0
MILLISECOND = timedelta(milliseconds=1)


class PostgresDiagnosis:
    """Looks at PostgreSQL through one connection and changes nothing."""

    def __init__(self, database: DedicatedDatabase, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._schema = schema
        self._sql = statements("diagnosis", schema)

    async def server(self) -> ServerFacts:
        """What the server says of itself, and what can be measured. Raises DatabaseUnavailable."""
        (row,) = await self._database.fetch(self._sql["server"])
        oldest = await self._database.fetch(self._sql["oldest_transaction"])
        return ServerFacts(
            **row,
            oldest_transaction_s=oldest[0]["age_s"] if oldest else 0.0,
            oldest_transaction=oldest[0]["who"] if oldest else "",
            clock_difference_s=await self._clock_difference_s(),
            commit_ms=None if row["in_recovery"] else await self._commit_ms(),
            listener_heard=not row["in_recovery"] and await self._listener_heard(),
        )

    async def schema(self, *, silent_for: timedelta) -> SchemaFacts:
        """How the tables stand. Raises DatabaseUnavailable and SchemaMissing."""
        tables = await self._database.fetch(self._sql["hot_tables"], self._schema)
        (partitions,) = await self._database.fetch(self._sql["partitions_missing"], self._schema)
        (workers,) = await self._database.fetch(self._sql["workers"], silent_for // MILLISECOND)
        return SchemaFacts(
            tables=[TableFacts(**table) for table in tables],
            partitions_missing=partitions["names"] or [],
            today=partitions["today"],
            workers_alive=workers["alive"],
            processes_alive=workers["processes"],
            workers_silent=workers["silent"],
            workers_deaf=workers["deaf"],
            halted=workers["halted"],
        )

    async def _clock_difference_s(self) -> float:
        """The server's time less ours at the middle of the fastest of a few round trips."""
        best = (float("inf"), 0.0)
        for _ in range(COMMITS):
            sent, began = datetime.now(UTC), perf_counter()
            (row,) = await self._database.fetch(self._sql["clock"])
            took = perf_counter() - began
            best = min(best, (took, (row["now"] - sent).total_seconds() - took / 2))
        return best[1]

    async def _commit_ms(self) -> float | None:
        times = []
        try:
            for _ in range(COMMITS):
                began = perf_counter()
                await self._database.fetch(self._sql["durable_write"])
                times.append(perf_counter() - began)
        except asyncpg.InsufficientPrivilegeError:
            return None
        return statistics.median(times) * 1000

    async def _listener_heard(self) -> bool:
        channel, heard = f"perdure_doctor_{uuid.uuid4().hex}", asyncio.Event()
        await self._database.listen(channel, lambda _: heard.set())
        await self._database.fetch(self._sql["notify"], channel)
        try:
            await asyncio.wait_for(heard.wait(), HEARD_WITHIN_S)
        except TimeoutError:
            return False
        return True
