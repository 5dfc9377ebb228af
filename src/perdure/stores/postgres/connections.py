"""Connections to PostgreSQL, with the driver's errors translated at this border."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import asyncpg

from perdure.domain.errors import PerdureError
from perdure.stores.postgres.statements import Statement
from perdure.stores.postgres.translation import (
    LOST,
    TRY_AGAIN,
    server_of,
    time_is_up,
    translated,
    translation,
)

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Lent: TypeAlias = Connection | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool
    Lent = asyncpg.Connection

C = TypeVar("C", bound=Connection)

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0
CANCEL_WITHIN_S = 5.0
REPEATS = 5
BOUNDED = "bounded"
"""The statement that sets how long those after it may take."""

ABANDONED = {
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
"""Settings of our own sessions: a host that loses its power or its network within a transaction says no goodbye, and the locks
that it keeps would hold up rescue for as long as the server waits for it, by default two hours."""

BOUNDED_WAITS = {"lock_timeout": "2s"}
"""Settings of sessions that many duties or results share: none of them waits longer than that for what somebody else has locked. It is longer
than the server takes to find a deadlock (`deadlock_timeout`, a second)."""


class Fetching(Protocol):
    """Runs named statements one by one; each call is a transaction of its own."""

    async def fetch(self, statement: Statement, *values: object) -> list[asyncpg.Record]:
        """Run one statement and give its rows. Raises DatabaseUnavailable."""
        ...


class Database(Fetching, Protocol):
    """Runs named statements; each call is a transaction of its own."""

    async def fetch_all(self, *calls: tuple[Statement, tuple[object, ...]]) -> list[list[asyncpg.Record]]:
        """Run several statements in one transaction. Raises DatabaseUnavailable."""
        ...


class SnapshotDatabase(Protocol):
    """Reads named statements that must agree with each other."""

    async def read_all(
        self, *calls: tuple[Statement, tuple[object, ...]], timeout: float
    ) -> list[list[asyncpg.Record]]:
        """Run reading statements on one snapshot, each for at most `timeout` seconds. Raises DatabaseUnavailable."""
        ...


def _session(application_name: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {"application_name": application_name, "jit": "off", "timezone": "UTC", **(more or {})}


async def connect(
    database_url: str,
    *,
    application_name: str,
    command_timeout: float | None = None,
    more: Mapping[str, str] | None = None,
) -> Connection:
    """One connection of one's own, with `more` settings of the session. Raises DatabaseUnavailable.

    They are asked for when the session begins. A pooler that shares sessions does not know them, so they are never left
    behind for another user of it, as those of a SET would be.
    """
    return await connect_as(
        Connection,
        database_url,
        application_name=application_name,
        command_timeout=command_timeout,
        more=more,
    )


async def connect_as(
    kind: type[C],
    database_url: str,
    *,
    application_name: str,
    command_timeout: float | None = None,
    more: Mapping[str, str] | None = None,
) -> C:
    """As `connect`, with a class of connections of one's own."""
    with translated(server_of(database_url)):
        return await asyncpg.connect(
            database_url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=command_timeout,
            server_settings=_session(application_name, more),
            connection_class=kind,
        )


class PooledDatabase:
    """A pool of connections, opened as they are needed."""

    def __init__(self, pool: Pool, server: str) -> None:
        self._pool = pool
        self._server = server

    @classmethod
    async def open(
        cls,
        database_url: str,
        *,
        application_name: str,
        most: int,
        command_timeout: float | None = COMMAND_TIMEOUT_S,
    ) -> "PooledDatabase":
        """Raises DatabaseUnavailable when the URL cannot be understood; connects at first use."""
        with translated():
            pool = await asyncpg.create_pool(
                database_url,
                min_size=0,
                max_size=most,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=command_timeout,
                server_settings=_session(application_name, ABANDONED),
                reset=_as_it_is,
            )
        return cls(pool, server_of(database_url))

    async def fetch(self, statement: Statement, *values: object) -> list[asyncpg.Record]:
        with translated(self._server):
            async with self._pool.acquire() as connection:
                return await repeated(connection, statement, values)

    async def fetch_all(self, *calls: tuple[Statement, tuple[object, ...]]) -> list[list[asyncpg.Record]]:
        with translated(self._server), time_is_up() if calls[0][0].name == BOUNDED else nullcontext():
            async with self._pool.acquire() as connection:
                return await _together(connection, calls)

    async def read_all(
        self, *calls: tuple[Statement, tuple[object, ...]], timeout: float
    ) -> list[list[asyncpg.Record]]:
        with translated(self._server):
            async with self._pool.acquire() as connection:
                return await _on_one_snapshot(connection, calls, timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Lent]:
        """A connection in a transaction that commits at the end. Raises DatabaseUnavailable."""
        with translated(self._server):
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection

    @property
    def connections(self) -> Mapping[str, int]:
        """How many connections are open, by what they do."""
        idle = self._pool.get_idle_size()
        return {"busy": self._pool.get_size() - idle, "idle": idle}

    async def close(self) -> None:
        await self._pool.close()


class DedicatedDatabase:
    """One connection of its own, opened at first use and opened again after it was lost.

    `settings` are those of its sessions; `on_open` is awaited with each new connection. A statement that is given up is cancelled
    on the server too: a session that waits for a lock would not notice that nobody listens to it any more, and each further try
    would leave one more of them, with all that it has locked.
    """

    def __init__(
        self,
        database_url: str,
        *,
        application_name: str,
        settings: Mapping[str, str] = MappingProxyType({}),
        command_timeout: float = COMMAND_TIMEOUT_S,
    ) -> None:
        self._url = database_url
        self._name = application_name
        self._settings = settings
        self.on_open: Callable[[Connection], Awaitable[None]] | None = None
        self._command_timeout = command_timeout
        self._connection: Connection | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def fetch(self, statement: Statement, *values: object) -> list[asyncpg.Record]:
        # As `_used`, spelled out: its layers would cost half as much as the driver itself, with each claim and each enqueue.
        await self._lock.acquire()
        try:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = self._connection = await self._opened()
            try:
                return await connection.fetch(statement.numbered(), *values)
            except TRY_AGAIN:
                return await repeated(connection, statement, values)
        except Exception as error:
            ours = self._given_up(error)
            if ours is None:
                raise
            raise ours from error
        finally:
            self._lock.release()

    async def fetch_all(self, *calls: tuple[Statement, tuple[object, ...]]) -> list[list[asyncpg.Record]]:
        async with self._used() as connection:
            return await _together(connection, calls)

    async def read_all(
        self, *calls: tuple[Statement, tuple[object, ...]], timeout: float
    ) -> list[list[asyncpg.Record]]:
        async with self._used() as connection:
            return await _on_one_snapshot(connection, calls, timeout)

    async def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        """Have `callback` told of notifications on `channel`, on this connection only. Raises DatabaseUnavailable."""
        async with self._used() as connection:
            await connection.add_listener(channel, lambda *message: callback(str(message[3])))

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await left(connection, within_s=2.0)
        if self._leaving:
            await asyncio.wait(self._leaving)

    @asynccontextmanager
    async def _used(self) -> AsyncIterator[Connection]:
        """The connection for one piece of work; one that failed is given up, whatever state it is in."""
        async with self._lock:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._opened()
                yield self._connection
            except Exception as error:
                ours = self._given_up(error)
                if ours is None:
                    raise
                raise ours from error

    def _given_up(self, error: Exception) -> PerdureError | None:
        """What the error means, the connection given up if it is lost."""
        if isinstance(error, LOST) and self._connection is not None:
            connection, self._connection = self._connection, None
            if isinstance(error, TimeoutError):  # the driver has only begun to cancel the statement
                leaving = asyncio.create_task(left(connection, within_s=CANCEL_WITHIN_S))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
            else:
                connection.terminate()
        return translation(error)

    async def _opened(self) -> Connection:
        connection = await connect(
            self._url,
            application_name=self._name,
            command_timeout=self._command_timeout,
            more={**ABANDONED, **self._settings},
        )
        try:
            if self.on_open is not None:
                await self.on_open(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


async def left(connection: Connection, *, within_s: float) -> None:
    """Close a connection once the server has cancelled what it ran, or cut it where the server does not answer in time."""
    try:
        await connection.close(timeout=within_s)
    except (*LOST, asyncpg.PostgresError):
        connection.terminate()


async def _as_it_is(connection: Lent) -> None:
    """In place of the driver's clean-up when a connection goes back, a round trip: nothing here changes a session."""


async def repeated(
    connection: Lent, statement: Statement, values: tuple[object, ...]
) -> list[asyncpg.Record]:
    """Run a statement again that did nothing because of others, a few times if need be."""
    text = statement.numbered()
    for _ in range(REPEATS - 1):
        try:
            return await connection.fetch(text, *values)
        except TRY_AGAIN:
            continue
    return await connection.fetch(text, *values)


async def _together(
    connection: Lent, calls: tuple[tuple[Statement, tuple[object, ...]], ...]
) -> list[list[asyncpg.Record]]:
    for tries_left in reversed(range(REPEATS)):
        try:
            async with connection.transaction():
                return [await connection.fetch(statement.numbered(), *values) for statement, values in calls]
        except TRY_AGAIN:
            if not tries_left:
                raise
    raise AssertionError("unreachable")


async def _on_one_snapshot(
    connection: Lent, calls: tuple[tuple[Statement, tuple[object, ...]], ...], timeout: float
) -> list[list[asyncpg.Record]]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return [
            await connection.fetch(statement.numbered(), *values, timeout=timeout)
            for statement, values in calls
        ]
