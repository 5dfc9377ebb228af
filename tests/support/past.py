"""Days long gone: partitions with bodies and history of a time that a test cannot wait for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.keeping import PostgresKeeping
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, in_schema

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

TABLES = ("jobs", "job_executions", "job_events", "worker_samples")


def midnight(days_ago: int = 0) -> datetime:
    """The beginning of a day, UTC."""
    return datetime.combine(datetime.now(UTC).date() - timedelta(days=days_ago), time(), UTC)


def names(days_ago: int, *tables: str) -> list[str]:
    """The partitions of a day, of these tables or of all."""
    return sorted(f"{table}_{midnight(days_ago):%Y%m%d}" for table in tables or TABLES)


@dataclass(frozen=True, kw_only=True)
class Past:
    """Writes bodies and history as if they were old; `sql` runs statements in the schema under test."""

    url: str
    schema: str
    connection: Connection
    keeping: PostgresKeeping

    async def sql(self, statement: str, *values: object) -> list[asyncpg.Record]:
        return await self.connection.fetch(in_schema(statement, self.schema), *values)

    async def value(self, statement: str, *values: object) -> object:
        return (await self.sql(statement, *values))[0][0]

    async def day(self, days_ago: int) -> None:
        """Make the partitions of a day."""
        for table in TABLES:
            why = await self.value("SELECT perdure.make_partition($1, $2)", table, midnight(days_ago))
            assert why is None, why

    async def body(self, days_ago: int) -> UUID:
        """A body made at some moment of that day, with nothing that refers to it."""
        made = await self.sql(
            """
            WITH known AS (INSERT INTO perdure.queues (name) VALUES ('default') ON CONFLICT DO NOTHING),
            id AS (SELECT (left(perdure.id_floor($1::timestamptz + random() * interval '23 hours')::text, 14) || '7'
                || right(gen_random_uuid()::text, 21))::uuid AS id)
            INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args, enqueued_at)
            SELECT id, 1, 3, 4, '{}', perdure.made_at(id) FROM id RETURNING id
            """,
            midnight(days_ago),
        )
        return UUID(str(made[0]["id"]))

    async def ended(self, job_id: UUID, days_ago: int, state: str = "completed") -> None:
        """History of the job's end at noon of that day."""
        await self.sql(
            """
            INSERT INTO perdure.job_executions (job_id, settled_at, outcome, state, lane, run, attempt, crashes, interruptions)
            VALUES ($1, $2, $3::perdure.outcome, $4::perdure.job_state, 1, 1, 1, 0, 0)
            """,
            job_id,
            midnight(days_ago) + timedelta(hours=12),
            "completed" if state == "completed" else "cancelled",
            state,
        )

    async def edge(self, parent: UUID, child: UUID, state: str) -> None:
        """An edge between two bodies; the child becomes the deeper one."""
        await self.sql(
            "UPDATE perdure.jobs SET depth = 1 + (SELECT p.depth FROM perdure.jobs p WHERE p.id = $1) WHERE id = $2",
            parent,
            child,
        )
        await self.sql(
            "INSERT INTO perdure.job_dependencies (parent_id, child_id, state) VALUES ($1, $2, $3::perdure.edge_state)",
            parent,
            child,
            state,
        )

    async def partitions(self) -> set[str]:
        return {row["name"] for row in await self.sql("SELECT name FROM perdure.day_partitions")}


@asynccontextmanager
async def past_of(database_url: str, *, schema: str = DEFAULT_SCHEMA) -> AsyncIterator[Past]:
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    database = DedicatedDatabase(database_url, application_name="upkeep")
    try:
        yield Past(
            url=database_url,
            schema=schema,
            connection=connection,
            keeping=PostgresKeeping(database, schema=schema),
        )
    finally:
        await database.close()
        await connection.close()
