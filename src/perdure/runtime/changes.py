"""Notices that source files have changed."""

import asyncio
import os
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
    """Size and time of change of each Python file; hidden folders and virtual environments are left out."""
    found: Stamps = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _is_source(root, name)]
        for name in files:
            if name.endswith(".py"):
                try:
                    state = os.stat(os.path.join(root, name))  # noqa: PTH116, PTH118 - some thousand files, three times a second
                except FileNotFoundError:
                    continue
                found[os.path.relpath(os.path.join(root, name), folder)] = (state.st_mtime_ns, state.st_size)  # noqa: PTH118
    return found


def _is_source(root: str, name: str) -> bool:
    return not name.startswith(".") and name not in SKIPPED and not Path(root, name, "pyvenv.cfg").exists()
