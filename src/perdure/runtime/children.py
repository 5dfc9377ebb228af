"""The processes of a worker as their supervisor sees them."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any
from uuid import UUID

from perdure.runtime.runners import frames
from perdure.runtime.runners.processes import death
from perdure.runtime.running import Running, shared_page


class ChildProcess:
    """One process of a worker: started, told, listened to, and waited for."""

    def __init__(self, number: int, *, isolated: bool, slots: int = 1_000) -> None:
        self.number = number
        self._slots = slots
        self.ran: frozenset[UUID] | None = None
        self.looks_at_start = 0
        self.hung = False
        self.isolated = isolated
        self.started = monotonic()
        self.silent_looks = 0
        self.figures: Mapping[str, float] = {}
        self.ready = asyncio.Event()
        self.said_goodbye = False
        self.lost = False
        self.error: tuple[str, str] | None = None
        self.fault = ""
        self.kinds: tuple[str, ...] = ()
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._untold: list[object] = []
        self._killed = False

    async def run(self, orders: Mapping[str, object], on_news: Callable[["ChildProcess"], None]) -> str:
        """Start the process, hear it until it ends, and tell how it ended, in words. Raises OSError if it cannot start.

        `on_news` is called when it is ready, and when it has learned that its worker was given up for dead.
        """
        page = shared_page(self._slots)
        running = Running(page, self._slots)
        try:
            process, reader, writer = await self._begin(page, str(orders["worker_id"]))
        except BaseException:
            running.close()
            raise
        finally:
            os.close(page)
        writer.write(
            frames.pack(
                {
                    **orders,
                    "process": self.number,
                    "isolated": self.isolated,
                    "supervisor": os.getpid(),
                    "page": page,
                    "slots": self._slots,
                }
            )
        )
        self._writer = writer
        for message in self._untold:
            self.tell(message)
        if self._killed:
            self.kill()
        while (message := await frames.read(reader)) is not None:
            self._hear(message, on_news)
        code = await process.wait()
        self.ran = running.tokens()
        running.close()
        writer.close()
        self.ready.set()
        return death(code)

    async def _begin(
        self, page: int, worker_id: str
    ) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]:
        """Start the process, with a line to it and the page that it shares. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = process = await self._start(theirs, page, worker_id)
            except BaseException:
                ours.close()
                raise
        reader, writer = await frames.connect(ours)
        return process, reader, writer

    async def _start(self, theirs: socket.socket, page: int, worker_id: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "perdure.runtime.child",
            str(theirs.fileno()),
            f"process {self.number} of worker {worker_id}",  # for `ps`
            pass_fds=[theirs.fileno(), page],
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    def _hear(self, message: Mapping[str, Any], on_news: Callable[["ChildProcess"], None]) -> None:
        self.silent_looks = 0
        match message:
            case {"ready": kinds}:
                self.kinds = tuple(kinds)
                self.ready.set()
                on_news(self)
            case {"figures": dict() as figures}:
                self.figures = figures
            case {"bye": True, "running": running, "finished": finished}:
                self.figures = {"running": running, "finished": finished}
                self.said_goodbye = True
            case {"lost": True}:
                self.lost = True
                on_news(self)
            case {"error": error, "next_step": next_step}:
                self.error = (error, next_step)
            case {"fault": fault}:
                self.fault = fault

    def tell(self, message: object) -> None:
        """Say something to the process, without waiting: it may be frozen, or starting, or gone."""
        if self._writer is None:
            self._untold.append(message)
        else:
            with contextlib.suppress(ConnectionError):
                self._writer.write(frames.pack(message))

    @property
    def pid(self) -> int | None:
        """The number of the process while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def hears(self) -> bool:
        """Whether nothing lies in wait that it was told before."""
        return self._writer is not None and not self._writer.transport.get_write_buffer_size()

    @property
    def alive(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    def kill(self) -> None:
        """End the process at once, or as soon as it has started."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
