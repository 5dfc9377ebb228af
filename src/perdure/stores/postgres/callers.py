"""Statements run on the caller's own connection, inside the caller's own transaction.

asyncpg connections, psycopg connections (sync and async) and SQLAlchemy connections and sessions (sync and async) are taken.
None of these libraries is imported here: whoever hands in a connection has it.
"""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any
from uuid import UUID

from perdure.domain.errors import ClaimLost, InvalidOption
from perdure.domain.job import Disposition, Enqueued, JobId, NewJob
from perdure.domain.lease import Lease
from perdure.domain.payload import PAYLOAD_BYTES_MAX, encode_plain
from perdure.stores.postgres.jobs import EnqueueErrors, encode_jobs
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, Statement, statements

Rows = Sequence[Sequence[Any]]
Encode = Callable[[object], str | None]
"""Makes a result the JSON text that is stored; none of None."""


def encoded(result: object, max_bytes: int = PAYLOAD_BYTES_MAX) -> str | None:
    """A result as JSON text; none for None. Raises InvalidArguments or PayloadTooLarge."""
    return None if result is None else encode_plain(result, "result", max_bytes=max_bytes)


async def enqueue_on(
    conn: object, jobs: Sequence[NewJob], *, on_duplicate: str, schema: str = DEFAULT_SCHEMA
) -> list[Enqueued]:
    """Store the jobs in the transaction of an async connection; they exist when it commits."""
    statement = statements("jobs", schema)["enqueue"]
    with EnqueueErrors():
        return _enqueued(await _fetch(conn, statement, _enqueue_values(jobs, on_duplicate)))


def enqueue_on_sync(
    conn: object, jobs: Sequence[NewJob], *, on_duplicate: str, schema: str = DEFAULT_SCHEMA
) -> list[Enqueued]:
    """As `enqueue_on`, for a connection that is not async."""
    statement = statements("jobs", schema)["enqueue"]
    with EnqueueErrors():
        return _enqueued(_fetch_sync(conn, statement, _enqueue_values(jobs, on_duplicate)))


async def complete(
    conn: object,
    lease: Lease,
    result: object,
    *,
    started: float,
    schema: str = DEFAULT_SCHEMA,
    encode: Encode = encoded,
) -> None:
    """Settle a job as completed in the transaction of an async connection; `started` is when its handler began, by `monotonic`.

    Raises ClaimLost or PayloadTooLarge.
    """
    statement = statements("jobs", schema)["complete"]
    values = _complete_values(lease, encode(result), started)
    _require_accepted(lease.job_id, await _fetch(conn, statement, values))


def complete_sync(
    conn: object,
    lease: Lease,
    result: object,
    *,
    started: float,
    schema: str = DEFAULT_SCHEMA,
    encode: Encode = encoded,
) -> None:
    """As `complete`, for a connection that is not async."""
    statement = statements("jobs", schema)["complete"]
    values = _complete_values(lease, encode(result), started)
    _require_accepted(lease.job_id, _fetch_sync(conn, statement, values))


def is_async(conn: object) -> bool:
    """Whether a connection is one to be awaited. Raises InvalidOption for what is no connection at all."""
    library, name = _kind(conn)
    return library == "asyncpg" or name.lower().startswith("async")


def _enqueue_values(jobs: Sequence[NewJob], on_duplicate: str) -> Mapping[str, object]:
    return {"jobs": encode_jobs(jobs), "on_duplicate": on_duplicate}


def _complete_values(lease: Lease, text: str | None, started: float) -> Mapping[str, object]:
    started_us = int((monotonic() - started) * 1_000_000)
    return {"job_id": lease.job_id, "token": lease.token, "result": text, "started_us": started_us}


def _require_accepted(job_id: UUID, rows: Rows) -> None:
    if not any(row[0] is not None for row in rows):
        raise ClaimLost(job_id)


def _enqueued(rows: Rows) -> list[Enqueued]:
    return [
        Enqueued(
            job_id=JobId(_uuid(row[1])),
            disposition=Disposition(row[2]),
            holder=None if row[3] is None else JobId(_uuid(row[3])),
        )
        for row in rows
    ]


def _uuid(value: Any) -> UUID:
    return value if type(value) is UUID else UUID(str(value))


def _kind(conn: object) -> tuple[str, str]:
    for base in type(conn).__mro__:
        library = base.__module__.partition(".")[0]
        if library in {"asyncpg", "psycopg", "psycopg_pool", "sqlalchemy"}:
            return library, base.__name__
    raise InvalidOption(
        "conn",
        f"a {type(conn).__module__}.{type(conn).__qualname__} is no connection of asyncpg, psycopg or SQLAlchemy",
    )


async def _fetch(conn: Any, statement: Statement, values: Mapping[str, object]) -> Rows:
    library, name = _kind(conn)
    rows: Rows
    if not is_async(conn):
        raise InvalidOption("conn", f"{name} is not async", next_step="use the method that ends in _sync")
    if library == "asyncpg":
        rows = await conn.fetch(statement.numbered(), *_in_order(statement, values))
        return rows
    if library == "psycopg":
        from psycopg.rows import tuple_row

        async with conn.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(statement.named(), values)
            rows = await cursor.fetchall()
            return rows
    connection = await conn.connection() if "session" in name.lower() else conn
    result = await connection.exec_driver_sql(*_driver_call(connection, statement, values))
    rows = result.all()
    return rows


def _fetch_sync(conn: Any, statement: Statement, values: Mapping[str, object]) -> Rows:
    library, name = _kind(conn)
    rows: Rows
    if is_async(conn):
        raise InvalidOption("conn", f"{name} is async", next_step="await the method without _sync")
    if library == "psycopg":
        from psycopg.rows import tuple_row

        with conn.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(statement.named(), values)
            rows = cursor.fetchall()
            return rows
    connection = conn.connection() if "session" in name.lower() else conn
    rows = connection.exec_driver_sql(*_driver_call(connection, statement, values)).all()
    return rows


def _driver_call(
    connection: Any, statement: Statement, values: Mapping[str, object]
) -> tuple[str, Mapping[str, object] | tuple[object, ...]]:
    if connection.dialect.driver == "asyncpg":
        return statement.numbered(), _in_order(statement, values)
    return statement.named(), values


def _in_order(statement: Statement, values: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(values[name] for name in statement.parameters)
