"""A line between a host and a server that can be cut, held up and mended, as a network can."""

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

PART = 65_536


class Line:
    """Passes bytes between a port of this machine and the socket of a server.

    `cut` ends every connection and refuses new ones; `hold` keeps all of them open and lets nothing through, as a
    network does that loses every packet, in both directions or only towards the server or only back.
    """

    def __init__(self, server: Path) -> None:
        self._server = server
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self._open_there = asyncio.Event()
        self._open_back = asyncio.Event()
        self._listening: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self.mend()
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.close()
        self._drop()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def cut(self) -> None:
        """End every connection; new ones are refused until `mend`."""
        self._is_cut = True
        self._drop()

    def hold(self, *, there: bool = True, back: bool = True) -> None:
        """Let nothing through until `mend`, `there` to the server, `back` from it; nobody is told."""
        if there:
            self._open_there.clear()
        if back:
            self._open_back.clear()

    def mend(self) -> None:
        """Everything passes again; what was held back passes late."""
        self._is_cut = False
        self._open_there.set()
        self._open_back.set()

    def _drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            with suppress(OSError):
                their_reader, their_writer = await asyncio.open_unix_connection(str(self._server))
                self._writers.add(their_writer)
                self._pass(reader, their_writer, self._open_there)
                self._pass(their_reader, writer, self._open_back)
                return
            writer.transport.abort()
        finally:
            self._writers = {one for one in self._writers if not one.transport.is_closing()}

    def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        task = asyncio.create_task(_passed(reader, writer, gate))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)


async def _passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    with suppress(OSError):
        while part := await reader.read(PART):
            await gate.wait()
            writer.write(part)
            await writer.drain()
    if not writer.transport.is_closing():
        with suppress(OSError):
            writer.close()
