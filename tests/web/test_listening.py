"""The socket that pages are served on."""

import asyncio
import socket

from perdure.surfaces.web.serve import listening


async def test_the_end_of_a_page_is_sent_at_once() -> None:
    """With the delay of Nagle's algorithm on, it would wait for the visitor's machine to acknowledge what came before."""
    delays = asyncio.Queue[int]()

    async def taken(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        delays.put_nowait(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    sock = listening("127.0.0.1", 0)
    async with await asyncio.start_server(taken, sock=sock):
        _, writer = await asyncio.open_connection(*sock.getsockname())
        assert await delays.get()
        writer.close()
