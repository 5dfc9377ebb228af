"""Bare statements on plain tables: what the same server does without history, fences and rules."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from uuid import UUID

from perdure.stores.postgres.connections import Connection, connect
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements
from perdure.stores.postgres.translation import translated

TABLE = "floor_jobs"
BATCH = 100
LAZILY = "SET synchronous_commit = off"

Row = tuple[UUID, int, str]
"""A job of a floor: its id, its place in the line, its arguments as JSON text."""


class PostgresFloors:
    """Each method uses tables and connections of its own and gives jobs in a second. Raises DatabaseUnavailable."""

    def __init__(self, database_url: str, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._url = database_url
        self._schema = schema
        self._sql = {name: statement.numbered() for name, statement in statements("floors", schema).items()}

    async def one_by_one(self, rows: Sequence[Row]) -> float:
        """One row after another, each in a transaction of its own."""
        async with self._connections(1) as (connection,):
            return await _timed(len(rows), self._insert(connection, rows))

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[Callable[[Sequence[Row]], Awaitable[float]]]:
        """As `one_by_one` share by share, in turn with what it is compared to: rows that it stores, and gives the seconds for."""
        async with self._connections(1) as (connection,):
            statement = await connection.prepare(self._sql["floor_insert"])

            async def insert(rows: Sequence[Row]) -> float:
                began = perf_counter()
                for row in rows:
                    await statement.fetch(*row)
                return perf_counter() - began

            yield insert

    async def from_many(self, rows: Sequence[Row], *, connections: int) -> float:
        """The same from many connections at a time."""
        async with self._connections(connections) as opened:
            shares = [rows[n::connections] for n in range(connections)]
            inserting = [self._insert(one, share) for one, share in zip(opened, shares, strict=True)]
            return await _timed(len(rows), asyncio.gather(*inserting))

    async def in_bulk(self, rows: Sequence[Row]) -> float:
        """All rows by one COPY."""
        async with self._connections(1) as (connection,):
            return await _timed(len(rows), self._copy(connection, rows))

    async def drain(self, rows: Sequence[Row], *, claimers: int) -> float:
        """Claim a batch and settle it, in turn, until nothing is left; only settling waits for the disk."""
        async with self._connections(1 + 2 * claimers) as (filling, *opened):
            await self._copy(filling, rows)
            claiming, settling = opened[:claimers], opened[claimers:]
            for connection in claiming:
                await connection.execute(LAZILY)
            drains = [self._drain(*pair) for pair in zip(claiming, settling, strict=True)]
            return await _timed(len(rows), asyncio.gather(*drains))

    async def flush_ms(self, rows: Sequence[Row]) -> float:
        """What a commit waits for the disk: the median with the wait, less the median without it."""
        half = len(rows) // 2
        async with self._connections(2) as (waiting, lazy):
            await lazy.execute(LAZILY)
            medians = [
                statistics.median([await self._insert_ms(connection, row) for row in share])
                for connection, share in ((waiting, rows[:half]), (lazy, rows[half:]))
            ]
        return max(0.0, medians[0] - medians[1])

    @asynccontextmanager
    async def _connections(self, count: int) -> AsyncIterator[list[Connection]]:
        """Open connections on empty tables."""
        async with AsyncExitStack() as stack:
            opened = []
            for _ in range(count):
                connection = await connect(self._url, application_name="perdure floors")
                stack.push_async_callback(connection.close)
                opened.append(connection)
            with translated():
                await opened[0].execute(self._sql["floor_tables"])
                yield opened

    async def _insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        insert = await connection.prepare(self._sql["floor_insert"])
        for row in rows:
            await insert.fetch(*row)

    async def _insert_ms(self, connection: Connection, row: Row) -> float:
        began = perf_counter()
        await connection.fetch(self._sql["floor_insert"], *row)
        return (perf_counter() - began) * 1000

    async def _copy(self, connection: Connection, rows: Sequence[Row]) -> None:
        await connection.copy_records_to_table(
            TABLE, schema_name=self._schema, records=rows, columns=("id", "number", "args")
        )

    async def _drain(self, claiming: Connection, settling: Connection) -> None:
        claim = await claiming.prepare(self._sql["floor_claim"])
        settle = await settling.prepare(self._sql["floor_settle"])
        after = -1
        while claimed := await claim.fetch(BATCH, after):
            after = max(row["number"] for row in claimed)
            await settle.fetch([row["id"] for row in claimed])


async def _timed(count: int, work: Awaitable[object]) -> float:
    began = perf_counter()
    await work
    return count / (perf_counter() - began)
