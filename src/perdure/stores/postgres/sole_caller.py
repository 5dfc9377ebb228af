"""A connection for a caller who asks one thing at a time, as single enqueues do: with the least around each statement."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import asyncpg

from perdure.stores.postgres.connections import (
    ABANDONED,
    CANCEL_WITHIN_S,
    COMMAND_TIMEOUT_S,
    REPEATS,
    connect_as,
    left,
)
from perdure.stores.postgres.direct import Direct, DirectConnection
from perdure.stores.postgres.statements import Statement
from perdure.stores.postgres.translation import LOST, TRY_AGAIN, translation

LOOKS = 4
"""How often within the time that a statement may take somebody looks whether it is answered."""

DID_NOTHING = (*TRY_AGAIN, asyncpg.InvalidCachedStatementError)
"""The statement may be repeated at once; one whose tables were changed must be prepared again, too."""

_Call: TypeAlias = "Callable[..., Awaitable[Any]]"


@dataclass(frozen=True, slots=True)
class InTurn:
    """A statement, and another one that the server runs right afterwards in a transaction of its own, whatever becomes of the first."""

    name: str
    first: Statement
    second: Statement


_Asked = TypeVar("_Asked", Statement, InTurn)
_Preparing: TypeAlias = "Callable[[DirectConnection, _Asked], Awaitable[_Call]]"


class SoleCallerDatabase:
    """One connection of its own, opened at first use and opened again after it was lost; its caller asks one thing at a time.

    So it needs no line of callers, it keeps its statements prepared, and it has no timer for each of them, which would cost as much as
    the driver does: a look every now and then finds what is unanswered for longer than `command_timeout` seconds, and gives it up before half
    as long again has passed, on the server too. So is the connection of a caller who is cancelled.
    """

    def __init__(
        self, database_url: str, *, application_name: str, command_timeout: float = COMMAND_TIMEOUT_S
    ) -> None:
        self._url = database_url
        self._name = application_name
        self._command_timeout = command_timeout
        self._connection: DirectConnection | None = None
        self._prepared: dict[str, _Call] = {}
        self._asked = self._answered = 0
        self._unanswered = (0, 0.0)
        self._looking: asyncio.TimerHandle | None = None
        self._is_overdue = False
        self._leaving: set[asyncio.Task[None]] = set()

    def fetch(self, statement: Statement, *values: object) -> Coroutine[Any, Any, list[asyncpg.Record]]:
        """Run one statement and give its rows. Raises DatabaseUnavailable."""
        return self._ask(self._driven, statement, values)

    def run(self, statement: Statement, values: bytes) -> Coroutine[Any, Any, None]:
        """Run one statement whose rows nobody wants, with the `fields` of its values. Raises DatabaseUnavailable."""
        return self._ask(self._direct, statement, (values,))

    def run_both(self, statements: InTurn, values: bytes, seconds: bytes) -> Coroutine[Any, Any, None]:
        """Run one statement as `run` does, and have the second run too: of that one nothing is told. Raises DatabaseUnavailable."""
        return self._ask(self._both, statements, (values, seconds))

    async def _ask(self, prepare: "_Preparing[_Asked]", statement: _Asked, values: tuple[object, ...]) -> Any:
        if self._asked != self._answered:
            raise RuntimeError("two statements at a time on a connection that takes one")
        self._asked += 1
        try:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = await self._opened()
            if self._looking is None:
                self._look_later()
            call = self._prepared.get(statement.name) or await prepare(connection, statement)
            try:
                return await call(*values)
            except DID_NOTHING:
                return await self._ask_again(connection, prepare, statement, values)
        except asyncio.CancelledError:
            # The driver would wait for the server to end the statement, and the next caller with it, though the server be silent.
            self._leave()
            raise
        except Exception as error:
            ours = translation(TimeoutError() if self._is_overdue else error)
            self._give_up(error)
            if ours is None:
                raise
            raise ours from error
        finally:
            self._answered = self._asked

    async def _ask_again(
        self,
        connection: DirectConnection,
        prepare: "_Preparing[_Asked]",
        statement: _Asked,
        values: tuple[object, ...],
    ) -> Any:
        for _ in range(REPEATS - 1):
            self._prepared.clear()
            call = await prepare(connection, statement)
            with suppress(*DID_NOTHING):
                return await call(*values)
        return await (await prepare(connection, statement))(*values)

    async def close(self) -> None:
        """Wait for what was given up to leave, and close the connection."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await left(connection, within_s=2.0)
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _opened(self) -> DirectConnection:
        self._prepared.clear()
        self._connection, self._is_overdue = None, False
        self._connection = await connect_as(
            DirectConnection, self._url, application_name=self._name, more=ABANDONED
        )
        return self._connection

    async def _driven(self, connection: DirectConnection, statement: Statement) -> _Call:
        prepared = await connection.prepare(statement.numbered())
        self._prepared[statement.name] = prepared.fetch
        return prepared.fetch

    async def _direct(self, connection: DirectConnection, statement: Statement) -> Direct:
        known = self._prepared.get(statement.name)
        if isinstance(known, Direct):
            return known
        made = self._prepared[statement.name] = Direct(
            connection, await connection.prepare(statement.numbered())
        )
        return made

    async def _both(self, connection: DirectConnection, statements: InTurn) -> _Call:
        first = await self._direct(connection, statements.first)
        call = partial(first.and_then, await self._direct(connection, statements.second))
        self._prepared[statements.name] = call
        return call

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(self._command_timeout / LOOKS, self._look)

    def _look(self) -> None:
        """Whether what was unanswered before is so still; with nothing under way the next call looks again."""
        self._looking = None
        if self._answered == self._asked:
            return
        now = asyncio.get_running_loop().time()
        if self._unanswered[0] != self._asked:
            self._unanswered = (self._asked, now)
        if now - self._unanswered[1] < self._command_timeout:
            self._look_later()
        elif self._connection is not None:
            self._is_overdue = True
            self._leave()

    def _leave(self) -> None:
        """Give the connection up, once the server has cancelled what it runs, or in seconds where it does not answer."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            leaving = asyncio.create_task(left(connection, within_s=CANCEL_WITHIN_S))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, LOST) and self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()
