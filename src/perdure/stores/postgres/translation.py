"""What the driver's errors mean: those of a server that is away, of a schema that is missing, of time that is up."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from perdure.domain.errors import DatabaseUnavailable, Locked, PerdureError, RollbackDetected, SchemaMissing

LOST = (
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What the driver raises while the server is away, restarting, full or read-only: worth trying again later."""

MISSING = (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError)
"""What the driver raises where there is no schema of ours, or not all of it."""

TRY_AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""The statement did nothing and may be repeated at once."""

HALTED = "PD007"
"""The code of our own that says that the database went back in time."""

CONFUSED = "another operation"


@contextmanager
def time_is_up() -> Iterator[None]:
    """Raise QueryCanceledError where a `statement_timeout` ran out while the driver prepared a statement.

    Now and then it takes what the server says of it for a fault of its own, and cuts the connection.
    """
    try:
        yield
    except asyncpg.InterfaceError as error:
        if isinstance(error.__context__, asyncpg.InternalClientError) and CONFUSED in str(error.__context__):
            raise asyncpg.QueryCanceledError("the time was up while a statement was prepared") from error
        raise


@contextmanager
def translated(server: str = "") -> Iterator[None]:
    """Raise DatabaseUnavailable in place of the driver's errors of a server that is away; `server` is how to call it."""
    try:
        yield
    except Exception as error:
        ours = translation(error, server)
        if ours is None:
            raise
        raise ours from error


def translation(error: Exception, server: str = "") -> PerdureError | None:
    """The error of ours that says what the driver's error means; none for all others."""
    if isinstance(error, MISSING):
        return SchemaMissing(f"the database lacks a table or a function: {error}")
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):  # a wrong password, too
        return DatabaseUnavailable(
            f"PostgreSQL refuses the user or the password: {error}",
            next_step="check both in PERDURE_DATABASE_URL, then `perdure doctor`; write / @ : # ? in a password as %2F %40 %3A %23 %3F",
        )
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return DatabaseUnavailable(f"PostgreSQL answers, but {error}", next_step="create the database")
    if isinstance(error, TimeoutError):
        return DatabaseUnavailable(
            "PostgreSQL has not answered in time: it cannot be reached, or a statement waits for a lock",
            next_step="`perdure doctor` tells whether the server answers; pg_stat_activity and pg_locks tell who waits for whom",
        )
    if isinstance(error, asyncpg.LockNotAvailableError):
        return Locked("what is to be changed is locked by a transaction that somebody holds open")
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate == HALTED:
        return RollbackDetected(error.args[0])
    if isinstance(error, LOST):
        return DatabaseUnavailable(
            f"{server or 'PostgreSQL'} does not answer ({type(error).__name__}: {error})"
        )
    return None


def server_of(database_url: str) -> str:
    """PostgreSQL with its host and port as the address names them, and nothing else of the address."""
    try:
        parts = urlsplit(database_url)
        host = parts.hostname or dict(parse_qsl(parts.query)).get("host", "")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "PostgreSQL"
    return f"PostgreSQL at {host}{port}" if host else "PostgreSQL"
