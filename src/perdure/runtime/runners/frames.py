"""Frames between our own processes: a length of four bytes, then JSON."""

import asyncio
import socket
import struct
from typing import Any

import msgspec

LENGTH = struct.Struct("!I")


def pack(message: object) -> bytes:
    """One message as a frame."""
    body = msgspec.json.encode(message)
    return LENGTH.pack(len(body)) + body


class Reader(asyncio.StreamReader):
    """Hears all that was said before the other side went away.

    Where that left something unread, its end comes as a reset, at which a stream of the library forgets what it holds: last words were
    lost, and a process that had drained was taken for one that had crashed.
    """

    def set_exception(self, exc: Exception) -> None:
        """Take a lost connection as the end of what is to be read."""
        if isinstance(exc, ConnectionError):
            self.feed_eof()
        else:
            super().set_exception(exc)


async def connect(connection: socket.socket) -> tuple[Reader, asyncio.StreamWriter]:
    """As `asyncio.open_connection`, with a reader of ours."""
    loop = asyncio.get_running_loop()
    reader = Reader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=connection)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def read(reader: asyncio.StreamReader) -> Any:
    """The next message; None when the other side is gone."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return msgspec.json.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def read_blocking(connection: socket.socket) -> Any:
    """The next message, for processes without an event loop; None when the other side is gone."""
    head = _exactly(connection, LENGTH.size)
    body = None if head is None else _exactly(connection, LENGTH.unpack(head)[0])
    return None if body is None else msgspec.json.decode(body)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = connection.recv(count - len(parts))
        except ConnectionError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)
