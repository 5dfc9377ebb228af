"""A small pooler in transaction mode: a session of the server is lent for one transaction and then to whoever comes next.

What a session was told by `SET` or `LISTEN` stays with it, as with PgBouncer; statements that a client has prepared are
prepared anew on whatever session it is lent (PgBouncer's `max_prepared_statements`). Startup parameters are passed over where
PgBouncer knows them or the guide to production has it told so; any other is refused.
"""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

HEAD = struct.Struct("!cI")
SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102
PARSE, BIND, DESCRIBE, CLOSE, TERMINATE = b"P", b"B", b"D", b"C", b"X"
QUERY, SYNC = b"Q", b"S"
PARSED, READY, NOTIFICATION = b"1", b"Z", b"A"
STATEMENT = b"S"
REFUSAL = b"E"
KNOWN = frozenset(
    {
        *("user", "database", "application_name", "client_encoding"),
        *("datestyle", "timezone", "standard_conforming_strings"),
    }
)
"""What PgBouncer takes from a client by itself."""

IGNORED = frozenset(
    {
        *("jit", "timezone", "synchronous_commit", "plan_cache_mode", "lock_timeout"),
        "default_transaction_isolation",
        *("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"),
        *(
            "idle_in_transaction_session_timeout",
            "tcp_keepalives_idle",
            "tcp_keepalives_interval",
            "tcp_keepalives_count",
        ),
    }
)
"""PgBouncer's `ignore_startup_parameters`, as the guide to production has it."""

IDLE = b"I"


@dataclass(eq=False)
class _Session:
    """A session of the server, the statements it knows, and for each that is being prepared whether a client asked.

    It is not lent to anybody else while it has to say that it is ready, or has heard only a part of what it is to run.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes
    known: set[bytes] = field(default_factory=set)
    parsing: deque[tuple[bytes, bool]] = field(default_factory=deque)
    unready: int = 0
    is_begun: bool = False

    def say(self, kind: bytes, body: bytes) -> None:
        self.is_begun = kind not in (QUERY, SYNC)
        self.unready += not self.is_begun
        self.writer.write(_message(kind, body))

    def prepare(self, name: bytes, parse: bytes, *, asked: bool) -> None:
        self.say(PARSE, parse)
        self.known.add(name)
        self.parsing.append((name, asked))


class _Messages(asyncio.Queue[tuple[bytes, bytes] | None]):
    """What a client says, message by message; None when it has left."""

    def put_first(self, message: tuple[bytes, bytes]) -> None:
        """Have this one heard before all others."""
        later = [self.get_nowait() for _ in range(self.qsize())]
        for one in (message, *later):
            self.put_nowait(one)


@dataclass(eq=False)
class _Client:
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    statements: dict[bytes, bytes] = field(default_factory=dict)
    messages: _Messages = field(default_factory=_Messages)

    async def hear(self) -> None:
        """Collect what it says until it leaves."""
        with suppress(OSError, EOFError):
            while (message := await _read(self.reader))[0] != TERMINATE:
                self.messages.put_nowait(message)
        self.messages.put_nowait(None)

    def own(self, name: bytes) -> bytes:
        """A name of a statement that no other client uses; the one without a name stays so."""
        return b"c%d_%s" % (self.number, name) if name else b""


@asynccontextmanager
async def pooled(server: Path, *, user: str, database: str, sessions: int) -> AsyncIterator[int]:
    """The port of a pooler in front of the server at a socket, with so many sessions."""
    pool: asyncio.Queue[_Session] = asyncio.Queue()
    opened: list[_Session] = []

    async def renew() -> _Session:
        opened.append(await _session(server, user, database))
        return opened[-1]

    for _ in range(sessions):
        pool.put_nowait(await renew())
    numbers, serving = count(1), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            serving.add(task)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            if await _greeted(reader, writer, opened[0].greeting):
                await _served(_Client(next(numbers), reader, writer), pool, renew)
        writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for session in opened:
            session.writer.transport.abort()


async def _session(server: Path, user: str, database: str) -> _Session:
    reader, writer = await asyncio.open_unix_connection(str(server))
    wishes = {"user": user, "database": database, "application_name": "pooler"}
    words = b"".join(part.encode() + b"\0" for pair in wishes.items() for part in pair) + b"\0"
    writer.write(struct.pack("!II", 8 + len(words), 196608) + words)
    greeting = b""
    while True:
        kind, body = await _read(reader)
        greeting += _message(kind, body)
        if kind == READY:
            return _Session(reader, writer, greeting)


async def _greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: bytes) -> bool:
    """Answer a client's first words; what it wishes for its session is ignored, or refused."""
    while True:
        length, code = struct.unpack("!II", await reader.readexactly(8))
        words = (await reader.readexactly(length - 8)).rstrip(b"\0").split(b"\0")
        if code == SSL_REQUEST:
            writer.write(b"N")
        elif code == CANCEL_REQUEST:
            return False
        elif strange := {word.decode().lower() for word in words[::2]} - KNOWN - IGNORED:
            said = (
                "SFATAL",
                "VFATAL",
                "C08P01",
                f"Munsupported startup parameter: {', '.join(sorted(strange))}",
            )
            writer.write(_message(REFUSAL, b"".join(part.encode() + b"\0" for part in said) + b"\0"))
            await writer.drain()
            return False
        else:
            writer.write(greeting)
            return True


async def _served(
    client: _Client, pool: "asyncio.Queue[_Session]", renew: Callable[[], Awaitable[_Session]]
) -> None:
    """Lend a session for each transaction, until the client leaves; one that it leaves in the middle is given up."""
    hearing = asyncio.create_task(client.hear())
    try:
        while (message := await client.messages.get()) is not None:
            session = await pool.get()
            try:
                await _transaction(client, session, message)
            except BaseException:
                session.writer.transport.abort()
                session = await renew()
                raise
            finally:
                pool.put_nowait(session)
    finally:
        hearing.cancel()


async def _transaction(client: _Client, session: _Session, first: tuple[bytes, bytes]) -> None:
    """Pass on what both say, until the server is ready for another transaction. Raises EOFError when the client leaves."""
    _there(client, session, *first)
    back = asyncio.create_task(_pass_back(client, session))
    there = asyncio.create_task(_pass_there(client, session, back))
    try:
        await asyncio.wait({back, there}, return_when=asyncio.FIRST_COMPLETED)
        await (back if back.done() else there)
    finally:
        for task in (back, there):
            task.cancel()
        await asyncio.gather(back, there, return_exceptions=True)


async def _pass_back(client: _Client, session: _Session) -> None:
    while True:
        kind, body = await _read(session.reader)
        if (kind == PARSED and not session.parsing.popleft()[1]) or kind == NOTIFICATION:
            continue
        client.writer.write(_message(kind, body))
        if kind == READY:
            for name, _ in session.parsing:  # an error came before it
                session.known.discard(name)
            session.parsing.clear()
            session.unready -= 1
            if body == IDLE and not (session.unready or session.is_begun):
                return


async def _pass_there(client: _Client, session: _Session, back: "asyncio.Task[None]") -> None:
    while (message := await client.messages.get()) is not None:
        if back.done():
            client.messages.put_first(message)  # it begins the next transaction
            return
        _there(client, session, *message)
    raise EOFError


def _there(client: _Client, session: _Session, kind: bytes, body: bytes) -> None:
    """Pass a message to the server, statements under a name of this client's own."""
    if kind == PARSE:
        name, _, rest = body.partition(b"\0")
        own = client.own(name)
        client.statements[name] = rest
        session.prepare(own, own + b"\0" + rest, asked=True)
        return
    if kind == BIND:
        portal, _, rest = body.partition(b"\0")
        name, _, values = rest.partition(b"\0")
        body = portal + b"\0" + _known(client, session, name) + b"\0" + values
    elif kind in (DESCRIBE, CLOSE) and body[:1] == STATEMENT:
        name = body[1:-1]
        own = client.own(name) if kind == CLOSE else _known(client, session, name)
        if kind == CLOSE:
            session.known.discard(own)
            client.statements.pop(name, None)
        body = STATEMENT + own + b"\0"
    session.say(kind, body)


def _known(client: _Client, session: _Session, name: bytes) -> bytes:
    """The name of a client's statement on a session, which learns it where it does not know it."""
    own = client.own(name)
    if name and own not in session.known:
        session.prepare(own, own + b"\0" + client.statements[name], asked=False)
    return own


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, length = HEAD.unpack(await reader.readexactly(HEAD.size))
    return kind, await reader.readexactly(length - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return HEAD.pack(kind, len(body) + 4) + body
