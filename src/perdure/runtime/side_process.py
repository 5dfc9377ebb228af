"""A process beside the supervisor that leads, for a duty that would keep a heart from beating."""

import asyncio
import os
import sys
from contextlib import suppress

import msgspec

from perdure.runtime.plain_settings import plain
from perdure.runtime.settings import Settings

END_WITHIN_S = 5.0


class SideProcess:
    """Runs one module at a time, which reads its settings and its parent's number from its input."""

    def __init__(self, module: str, settings: Settings) -> None:
        self._module = module
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def ended(self) -> int | None:
        """The code with which it ended, told once; None when there is nothing to tell."""
        if self._process is None or self.runs:
            return None
        process, self._process = self._process, None
        return process.returncode

    async def start(self) -> None:
        """Start it; it must not run."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        if self._process.stdin is not None:
            orders = {"settings": plain(self._settings), "parent": os.getpid()}
            self._process.stdin.write(msgspec.json.encode(orders))
            self._process.stdin.close()

    async def end(self) -> None:
        """End it at once, if it runs."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_WITHIN_S)
