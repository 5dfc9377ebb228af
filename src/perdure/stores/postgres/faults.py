"""What a torture run does to the database, and what it asks of it besides the promises."""

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from perdure.domain.errors import DatabaseUnavailable
from perdure.stores.postgres.connections import Connection, Database, connect
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, Statement, statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


TRAPPED = (
    "jobs",
    "available_jobs",
    "scheduled_jobs",
    "blocked_jobs",
    "parked_jobs",
    "leases",
    "job_executions",
    "workers",
    "leaders",
)
"""The tables to which every statement that moves a job writes."""

EVER = UUID(int=0)
"""An id before all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one attempt of a job ended; `claimed` is a moment of the database's clock, in seconds of the epoch."""

    outcome: str
    attempt: int
    isolated: bool
    worker_id: UUID
    cause: str | None
    claimed: float


class PostgresEvidence:
    """What a torture run wants to know; nothing here is bounded by an index."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("faults", schema)

    async def unfinished(self, before: UUID, since: UUID = EVER) -> int:
        """How many jobs that were made between two moments, those of ids, have not ended."""
        return await self._count("unfinished", since, before)

    async def oldest_unfinished(self) -> Sequence[str]:
        """The oldest jobs that have not ended, in words."""
        return [str(row["words"]) for row in await self._database.fetch(self._sql["oldest_unfinished"])]

    async def missing(self, ids: Sequence[UUID]) -> int:
        """How many of these acknowledged jobs are nowhere."""
        return await self._count("missing", ids)

    async def wrong_effects(self, kind: str) -> int:
        """How many jobs of a kind did not leave their mark exactly once when they completed."""
        return await self._count("wrong_effects", kind)

    async def outcomes(self) -> Mapping[str, int]:
        """How many attempts ended in which way."""
        rows = await self._database.fetch(self._sql["outcomes"])
        return {row["outcome"]: row["attempts"] for row in rows}

    async def attempts(self, job_id: UUID) -> Sequence[Attempt]:
        """The attempts of one job, in their order."""
        return [Attempt(**row) for row in await self._database.fetch(self._sql["attempts"], job_id)]

    async def letter(self, job_id: UUID) -> str:
        """Why a job is in the dead letter queue; empty when it is not."""
        rows = await self._database.fetch(self._sql["letter"], job_id)
        return str(rows[0]["cause"]) if rows else ""

    async def held(self, worker_id: UUID) -> int:
        """How many jobs a worker holds."""
        return await self._count("held", worker_id)

    async def events(self, event: str) -> int:
        """How many events of one kind were recorded."""
        return await self._count("events", event)

    async def waits_ms(self, priority: int) -> tuple[float, float]:
        """How long the completed jobs of a priority waited: the median and the 99th of 100."""
        return await self._two("waits", priority)

    async def lags_ms(self) -> tuple[float, float]:
        """How long after their time delayed jobs were claimed: the median and the 99th of 100."""
        return await self._two("lags")

    async def _two(self, statement: str, *values: object) -> tuple[float, float]:
        rows = await self._database.fetch(self._sql[statement], *values)
        median, most = rows[0]["ms"]
        return median, most

    async def _count(self, statement: str, *values: object) -> int:
        return await _count(self._database, self._sql[statement], *values)


async def _count(database: Database, statement: Statement, *values: object) -> int:
    return int((await database.fetch(statement, *values))[0][0])


class FleetEvidence:
    """What a torture run wants to know of the workers and of what they cost the server."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("faults", schema)

    async def workers_in(self, state: str) -> int:
        """How many workers are in a state."""
        return await self._count("workers_in", state)

    async def leader(self) -> int | None:
        """The process number of the supervisor that leads."""
        rows = await self._database.fetch(self._sql["leader"])
        return int(rows[0]["pid"]) if rows else None

    async def sessions_of_workers(self) -> int:
        """How many connections workers have."""
        return await self._count("sessions_of_workers")

    async def commits(self) -> int:
        """Transactions of the database since its beginning."""
        return await self._count("commits")

    async def _count(self, statement: str, *values: object) -> int:
        return await _count(self._database, self._sql[statement], *values)


async def crowd(database_url: str) -> Sequence[Connection]:
    """Open sessions until the server has room for no more; the caller ends them."""
    sessions = []
    with suppress(DatabaseUnavailable):
        while True:
            sessions.append(await connect(database_url, application_name="torture: one of a crowd"))
    return sessions


async def settle_on(database_url: str, database: str, folder: str) -> None:
    """Move a database, to which nobody is connected, to a tablespace in a folder; `database_url` leads to another."""
    connection = await connect(database_url, application_name="torture")
    try:
        await connection.execute(f"CREATE TABLESPACE torture LOCATION '{folder}'")
        await connection.execute(f'ALTER DATABASE "{database}" SET TABLESPACE torture')
    finally:
        await connection.close()


class PostgresFaults:
    """Faults of the database that are done by statements; for servers that exist to be tortured."""

    def __init__(self, database: Database, database_url: str, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._url = database_url
        self._sql = statements("faults", schema)

    async def make_effects(self) -> None:
        """Make the table in which handlers leave marks."""
        await self._database.fetch(self._sql["make_effects"])

    async def terminate(self) -> int:
        """End all sessions of workers and producers; gives how many there were."""
        return int((await self._database.fetch(self._sql["terminate"]))[0]["sessions"])

    async def refuse_writes(self) -> None:
        """From the next transaction on, everything is read-only."""
        await self._database.fetch(self._sql["refuse_writes"])
        await self._database.fetch(self._sql["reload"])

    async def allow_writes(self) -> None:
        """The end of `refuse_writes`."""
        await self._database.fetch(self._sql["allow_writes"])
        await self._database.fetch(self._sql["reload"])

    @asynccontextmanager
    async def statements_fail(self) -> "AsyncIterator[None]":
        """While this lasts, one in twenty of the statements that write to the tables of jobs fails and may be repeated."""
        await self._database.fetch(self._sql["make_traps"])
        connection = await connect(self._url, application_name="torture: traps")
        try:
            sql = self._sql["set_trap"].numbered()
            traps = [(await connection.fetch(sql, table))[0] for table in TRAPPED]
            for trap in traps:
                await connection.execute(trap["set"])
            yield
            for trap in traps:
                await connection.execute(trap["take_away"])
        finally:
            connection.terminate()

    async def settings_through(self, database_url: str, *, times: int) -> frozenset[str]:
        """What sessions at another address were told by `SET`, though nobody asks it of a new one; looked at so many times."""
        connection = await connect(database_url, application_name="torture: settings")
        found: set[str] = set()
        try:
            for _ in range(times):
                rows = await connection.fetch(self._sql["session_settings"].numbered())
                found |= {row["name"] for row in rows}
        finally:
            connection.terminate()
        return frozenset(found)

    @asynccontextmanager
    async def history_held(self) -> "AsyncIterator[None]":
        """While this lasts, no result can be stored."""
        async with self._open_transaction("hold_history"):
            yield

    @asynccontextmanager
    async def horizon_pinned(self) -> "AsyncIterator[None]":
        """While this lasts, a transaction is open that keeps every younger dead row from being removed."""
        async with self._open_transaction("look_at_jobs"):
            yield

    @asynccontextmanager
    async def _open_transaction(self, statement: str) -> "AsyncIterator[None]":
        connection = await connect(self._url, application_name="torture: an open transaction")
        transaction = connection.transaction(isolation="repeatable_read")
        try:
            await transaction.start()
            await connection.execute(self._sql[statement].numbered())
            yield
        finally:
            connection.terminate()
