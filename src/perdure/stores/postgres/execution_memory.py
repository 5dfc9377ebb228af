"""The history in PostgreSQL, read once from its beginning to its end for the memory of executions."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from perdure.domain.execution_memory import EndedAttempt, Resolution
from perdure.domain.job import JobState
from perdure.domain.settlement import ErrorReport, Outcome
from perdure.ports.execution_memory import Cursor, Horizon
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements


class PostgresEndedAttempts:
    """The port `EndedAttempts`."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("execution_memory", schema)

    async def horizon(self) -> Horizon:
        (row,) = await self._database.fetch(self._sql["horizon"])
        return Horizon(**dict(row))

    async def cursor(self, collection: str, era: int) -> Cursor | None:
        rows = await self._database.fetch(self._sql["cursor"], collection, era)
        return Cursor(**dict(rows[0])) if rows else None

    async def advance(self, collection: str, era: int, cursor: Cursor, *, first: bool) -> None:
        values = (collection, era, cursor.position, cursor.token, cursor.remembered)
        await self._database.fetch(self._sql["begin" if first else "advance"], *values)

    async def begin_again(self, collection: str) -> None:
        await self._database.fetch(self._sql["begin_again"], collection)

    async def after(self, cursor: Cursor, ends: int, *, sample: float, limit: int) -> Sequence[EndedAttempt]:
        values = (cursor.position, cursor.token, ends, sample, limit)
        return [_attempt(row) for row in await self._database.fetch(self._sql["attempts_after"], *values)]

    async def behind(
        self, cursor: Cursor, ends: int, *, sample: float, most: int
    ) -> tuple[int, datetime | None]:
        values = (cursor.position, cursor.token, ends, sample, most)
        (row,) = await self._database.fetch(self._sql["attempts_behind"], *values)
        return row["behind"], row["since"]

    async def of_job(self, job_id: UUID) -> Sequence[EndedAttempt]:
        return [_attempt(row) for row in await self._database.fetch(self._sql["attempts_of_job"], job_id)]

    async def resolved(self, job_ids: Sequence[UUID]) -> Sequence[tuple[Sequence[UUID], Resolution]]:
        rows = await self._database.fetch(self._sql["resolved"], list(job_ids))
        return [
            (
                row["tokens"],
                Resolution(
                    how=row["how"],
                    run=row["run"],
                    attempt=row["attempt"],
                    at=row["settled_at"].timestamp(),
                    actor=row["actor"],
                    reason=row["reason"],
                ),
            )
            for row in rows
        ]


def _attempt(row: asyncpg.Record) -> EndedAttempt:
    error = row["error"]
    return EndedAttempt(
        position=row["position"],
        token=row["token"],
        job_id=row["job_id"],
        run=row["run"],
        attempt=row["attempt"],
        kind=row["kind"],
        queue=row["queue"],
        labels=tuple(row["labels"]),
        outcome=Outcome(row["outcome"]),
        state=JobState(row["state"]),
        settled_at=row["settled_at"],
        available_at=row["available_at"],
        claimed_at=row["claimed_at"],
        finished_at=row["finished_at"],
        args=row["args"] or "{}",
        error=None if error is None else msgspec.json.decode(error, type=ErrorReport),
        cause=row["cause"] or "",
        worker_id=row["worker_id"],
        worker=row["worker"] or "",
        host=row["host"] or "",
        isolated=row["isolated"],
        resolves=row["resolves"],
    )
