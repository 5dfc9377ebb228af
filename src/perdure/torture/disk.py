"""A small disk that can be filled: a file system in memory, which only root can mount."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LARGEST, LEAST = 1 << 26, 1 << 12


class SmallDisk:
    """A file system of a few dozen MB with a folder for a tablespace."""

    def __init__(self, place: Path) -> None:
        self.tablespace = place / "tablespace"
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("ab") as file:
            end, part = file.tell(), LARGEST
            while part >= LEAST:
                try:
                    os.posix_fallocate(file.fileno(), end, part)
                    end += part
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    part //= 2

    def clear(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


def can_mount() -> bool:
    """Whether this user may mount a file system here."""
    return os.geteuid() == 0


@contextmanager
def small_disk(place: Path, *, mb: int) -> Iterator[SmallDisk]:
    """Mount one at a folder that is made for it, and take it away afterwards. Raises OSError when that is not allowed."""
    place.mkdir(mode=0o755)
    options = f"size={mb}m,mode=755"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "perdure-torture", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(f"a file system in memory cannot be mounted here: {done.stderr.strip()}")
    try:
        disk = SmallDisk(place)
        disk.tablespace.mkdir(mode=0o700)
        yield disk
    finally:
        with suppress(OSError):
            subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)
