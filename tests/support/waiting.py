"""Bounded waits, in place of sleeps."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LOOK_S = 0.02


async def eventually(look: Callable[[], Awaitable[T]], *, within_s: float = 20.0) -> T:
    """What `look` gives, once that is true; TimeoutError when it never is."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(LOOK_S)
    return found


class Gate:
    """A file that a job in another process waits for."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def open(self) -> None:
        Path(self.path).touch()
