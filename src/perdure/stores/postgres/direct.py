"""A connection on which statements whose rows nobody wants are said to the server directly, without the layers of the driver.

The messages are those of https://www.postgresql.org/docs/current/protocol-message-formats.html.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    Driven: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Prepared: TypeAlias = PreparedStatement[asyncpg.Record]
else:
    Driven = asyncpg.Connection
    Prepared = object

CANCEL_AGAIN_S = 0.5

NULL = b"\xff\xff\xff\xff"
ALL_AS_TEXT = b"\0\0"
NO_RESULTS = b"\0\0"
EXECUTE_AND_SYNC = b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\x04"
STORED = b"2\0\0\0\x04" + b"C\0\0\0\x0fINSERT 0 1\0" + b"Z\0\0\0\x05I"
"""All that the server answers where one row was stored: bound, executed, ready."""

HEAD = struct.Struct("!cI")
REFUSED, READY = b"E", b"Z"
UNASKED = frozenset((b"N", b"S", b"A"))
"""A notice, a changed setting, a notification: they may come at any time, and are the driver's."""


class DirectConnection(Driven):
    """A connection of the driver, which opens it, and does all on it that is not said directly. One thing at a time is asked of it.

    A statement whose rows nobody wants needs little of a driver: a message there, and an answer that is nearly always the same bytes.
    """

    _cancel: Callable[[asyncio.Future[None]], Awaitable[None]]

    def __init__(self, protocol: Any, transport: Any, loop: asyncio.AbstractEventLoop, *more: Any) -> None:
        super().__init__(protocol, transport, loop, *more)
        self._new_future = loop.create_future
        self._line = _Line(protocol, transport, loop)
        self.say = self._line.say
        """Sends a message of `Direct`. An attribute and not a method: a single enqueue feels each call."""
        transport.set_protocol(self._line)

    async def close(self, *, timeout: float | None = None) -> None:
        """As the driver's, which knows nothing of what was said directly: who waits for it is told, and the server cancels it."""
        try:
            async with asyncio.timeout(timeout):
                if self._line.is_awaited and not self.is_closed():
                    await self._cancel_direct()
                await super().close()
        except BaseException:
            self.terminate()
            raise

    async def _cancel_direct(self) -> None:
        """Ask the server to cancel, until it has answered: a request may still end what it was to run unheard before this."""
        ended = self._new_future()
        self._line.hand_on(ended)
        try:
            while not ended.done():
                # A task of its own: the driver's method returns when it is cancelled, so a timeout around it would go unnoticed.
                asking = asyncio.ensure_future(self._cancel(self._new_future()))
                try:
                    await asyncio.wait((ended,), timeout=CANCEL_AGAIN_S)
                finally:
                    asking.cancel()
        finally:
            if not ended.cancel():
                ended.exception()  # it is no news to anybody


class Direct:
    """A prepared statement whose rows, if it gives any, nobody wants."""

    def __init__(self, connection: DirectConnection, prepared: Prepared) -> None:
        self._connection = connection
        self._prepared = prepared  # the server forgets it with the last who knows it
        count = len(prepared.get_parameters())
        self._bind = b"\0%b\0" % prepared.get_name().encode() + ALL_AS_TEXT + count.to_bytes(2, "big")
        self._around = len(self._bind) + len(NO_RESULTS) + 4

    def __call__(self, values: bytes) -> asyncio.Future[None]:
        """Run it with the fields of all its values. The answer comes once the server has committed; it raises what the driver would."""
        return self._connection.say(self.message(values))

    def and_then(self, other: "Direct", values: bytes, others: bytes) -> asyncio.Future[None]:
        """As a call, and have the server run `other` right afterwards, in a transaction of its own.

        What becomes of `other` nobody is told; it runs though this one be refused.
        """
        return self._connection.say(self.message(values) + other.message(others), unheard=1)

    def message(self, values: bytes) -> bytes:
        """What runs it on the server."""
        length = (self._around + len(values)).to_bytes(4, "big")
        return b"".join((b"B", length, self._bind, values, NO_RESULTS, EXECUTE_AND_SYNC))


def fields(*values: int | str | None) -> bytes:
    """Values as a direct statement takes them: each as text, after its length. Raises UnicodeEncodeError."""
    return b"".join(map(_field, values))


def own_fields(job_id: UUID, rank: int, args: str) -> bytes:
    """As `fields`, of what each job has of its own: in one step, for a single enqueue feels each."""
    text = args.encode()
    return b"\0\0\0\x20%032x\0\0\0\x14%020d%b%b" % (job_id.int, rank, len(text).to_bytes(4, "big"), text)


def _field(value: int | str | None) -> bytes:
    if value is None:
        return NULL
    text = value.encode() if isinstance(value, str) else b"%d" % value
    return len(text).to_bytes(4, "big") + text


class _Line(asyncio.Protocol):
    """Between the transport and the driver: says what is said directly, and hands everything to the driver but the answers to that."""

    def __init__(self, driver: Any, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._driver = driver
        self._write = transport.write
        self._new_future = loop.create_future
        self._answer: asyncio.Future[None] | None = None
        self._unheard = self._unheard_after = 0
        self._begun = b""
        self._refusal: asyncpg.PostgresError | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether the server still has to answer what was said, though nobody may wait for it any more; not what is taken in unheard."""
        return self._answer is not None

    def say(self, message: bytes, unheard: int = 0) -> asyncio.Future[None]:
        """Send a message of `Direct`; the answer comes once the server has committed. It raises what the driver would.

        The answers to so many more statements of the message are taken in unheard.
        """
        if self._answer is not None:
            raise asyncpg.InterfaceError("another statement is under way on this connection")
        self._write(message)
        self._unheard_after = unheard
        answer = self._answer = self._new_future()
        return answer

    def hand_on(self, answer: asyncio.Future[None]) -> None:
        """Have another one wait for what is under way; who waited is told that it is given up."""
        before, self._answer = self._answer, answer
        _end(before, asyncpg.InterfaceError("the connection was given up meanwhile"))

    def data_received(self, data: bytes) -> None:
        if data == STORED and self._answer is not None and not (self._begun or self._unheard):
            self._tell(None)
        else:
            self._read(self._begun + data)

    def _read(self, data: bytes) -> None:
        """Take in the messages that have come whole. The driver gets no halves, so that it may be asked nothing in the middle of one."""
        at = 0
        for kind, message in _messages(data):
            at += len(message)
            if kind in UNASKED or (self._answer is None and not self._unheard):
                self._driver.data_received(message)
            elif kind == REFUSED:
                self._refusal = asyncpg.PostgresError.new(_told(message[HEAD.size :]))
            elif kind == READY and self._unheard:
                self._unheard, self._refusal = self._unheard - 1, None
            elif kind == READY:
                self._tell(self._refusal)
        self._begun = data[at:]

    def _tell(self, error: Exception | None) -> None:
        """What was said is answered; what is not to be heard comes next."""
        answer, self._answer, self._refusal = self._answer, None, None
        self._unheard, self._unheard_after = self._unheard_after, 0
        _end(answer, error)

    def connection_lost(self, exc: Exception | None) -> None:
        lost = asyncpg.ConnectionDoesNotExistError("the connection was closed before the server had answered")
        lost.__cause__ = self._refusal or exc
        self._tell(lost)
        self._driver.connection_lost(exc)

    def eof_received(self) -> bool | None:
        ended: bool | None = self._driver.eof_received()
        return ended

    def pause_writing(self) -> None:
        self._driver.pause_writing()

    def resume_writing(self) -> None:
        self._driver.resume_writing()


def _end(answer: asyncio.Future[None] | None, error: Exception | None) -> None:
    """Tell who waits; whoever was cancelled waits no more."""
    if answer is None or answer.done():
        return
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)


def _messages(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The messages that are whole, each with its kind."""
    at = 0
    while at + HEAD.size <= len(data):
        kind, length = HEAD.unpack_from(data, at)
        end = at + 1 + length
        if end > len(data):
            return
        yield kind, data[at:end]
        at = end


def _told(message: bytes) -> dict[str, str]:
    """What an error says, by the letters of the protocol."""
    return {field[:1].decode(): field[1:].decode(errors="replace") for field in message.split(b"\0") if field}
