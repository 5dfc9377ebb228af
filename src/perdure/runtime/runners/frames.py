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
