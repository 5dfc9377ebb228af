"""A way to PostgreSQL on which notifications do not come through, as with a pooler in transaction mode."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

NOTIFICATION = b"A"
HEAD = struct.Struct("!cI")


@asynccontextmanager
async def deaf_link(url: str) -> AsyncIterator[str]:
    """The address of a link to the server of `url` that passes everything on but notifications."""
    server = conninfo_to_dict(url)
    socket = Path(str(server["host"])) / f".s.PGSQL.{server['port']}"
    lines: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        up_reader, up_writer = await asyncio.open_unix_connection(str(socket))
        writers.append(up_writer)
        lines.append(asyncio.create_task(_all(reader, up_writer)))
        lines.append(asyncio.create_task(_without_notifications(up_reader, writer)))

    link = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = link.sockets[0].getsockname()[1]
    try:
        yield f"postgresql://{server['user']}@127.0.0.1:{port}/{server['dbname']}?sslmode=disable"
    finally:
        link.close()
        for task in lines:
            task.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


async def _without_notifications(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(HEAD.size)
            kind, length = HEAD.unpack(head)
            body = await reader.readexactly(length - 4)
            if kind != NOTIFICATION:
                writer.write(head + body)
                await writer.drain()
    writer.close()
