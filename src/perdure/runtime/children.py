"""The processes of a worker as their supervisor sees them."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from perdure.runtime.runners import frames
from perdure.runtime.runners.processes import death


class ChildProcess:
    """One process of a worker: started, told, listened to, and waited for."""

    def __init__(self, number: int, *, isolated: bool) -> None:
        self.number = number
        self.isolated = isolated
        self.started = monotonic()
        self.silent_looks = 0
        self.figures: Mapping[str, int] = {}
        self.ready = asyncio.Event()
        self.said_goodbye = False
        self.error: tuple[str, str] | None = None
        self.fault = ""
        self.kinds: tuple[str, ...] = ()

    async def run(self, orders: Mapping[str, object], on_ready: Callable[["ChildProcess"], None]) -> str:
        """Start the process, hear it until it ends, and tell how it ended, in words."""
        ours, theirs = socket.socketpair()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "perdure.runtime.child",
            str(theirs.fileno()),
            f"process {self.number} of worker {orders['worker_id']}",  # for `ps`
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        await self.tell(
            {**orders, "process": self.number, "isolated": self.isolated, "supervisor": os.getpid()}
        )
        while (message := await frames.read(reader)) is not None:
            self._hear(message, on_ready)
        code = await self._process.wait()
        self._writer.close()
        self.ready.set()
        return death(code)

    def _hear(self, message: Mapping[str, Any], on_ready: Callable[["ChildProcess"], None]) -> None:
        self.silent_looks = 0
        match message:
            case {"ready": kinds}:
                self.kinds = tuple(kinds)
                self.ready.set()
                on_ready(self)
            case {"figures": dict() as figures}:
                self.figures = figures
            case {"bye": True, "running": running, "finished": finished}:
                self.figures = {"running": running, "finished": finished}
                self.said_goodbye = True
            case {"error": error, "next_step": next_step}:
                self.error = (error, next_step)
            case {"fault": fault}:
                self.fault = fault

    async def tell(self, message: object) -> None:
        """Say something to the process; one that is gone does not hear it."""
        with contextlib.suppress(ConnectionError, AttributeError):
            self._writer.write(frames.pack(message))
            await self._writer.drain()

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError, AttributeError):
            if self._process.returncode is None:
                self._process.kill()

    @property
    def pid(self) -> int:
        return self._process.pid
