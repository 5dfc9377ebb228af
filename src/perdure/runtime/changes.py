"""Notices that source files have changed."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LOOK_S = 0.3
SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages"})

Stamps = dict[str, tuple[int, int]]


class Changes:
    """Looks at the Python files below a folder again and again; needs nothing of the operating system."""

    def __init__(self, folder: Path, *, look_s: float = LOOK_S) -> None:
        self._folder = folder
        self._look_s = look_s
        self._known = stamps(folder)

    async def next(self) -> list[str]:
        """Wait until files have changed, and give their paths in the folder.

        Changes that are made between two calls are not missed; a file that is still being written is waited for.
        """
        while True:
            await asyncio.sleep(self._look_s)
            found = await asyncio.to_thread(stamps, self._folder)
            if found == self._known:
                continue
            await asyncio.sleep(self._look_s)
            settled = await asyncio.to_thread(stamps, self._folder)
            if settled == found:
                before, self._known = self._known, settled
                return sorted(path for path in before | settled if before.get(path) != settled.get(path))


def stamps(folder: Path) -> Stamps:
    """Time of change and size of each Python file; hidden folders and virtual environments are left out."""
    return dict(_stamps(str(folder), ""))


def _stamps(folder: str, prefix: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # it has just gone, or is not ours to read
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if _is_source(entry):
                yield from _stamps(entry.path, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            with suppress(FileNotFoundError):
                state = entry.stat()
                yield prefix + entry.name, (state.st_mtime_ns, state.st_size)


def _is_source(entry: "os.DirEntry[str]") -> bool:
    return not (
        entry.name.startswith(".") or entry.name in SKIPPED or Path(entry.path, "pyvenv.cfg").exists()
    )
