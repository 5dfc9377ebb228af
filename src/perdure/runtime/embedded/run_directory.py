"""The short private folder that holds the sockets, because the length of a socket's path is limited."""

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from perdure.runtime.embedded.errors import SocketPathTooLong
from perdure.runtime.embedded.run_as import NOBODY

PREFIX = "perdure-"
CONTROL_SOCKET = "control"
REDIS_SOCKET = "redis.sock"
POSTGRES_PORT = 5432
POSTGRES_SOCKET = f".s.PGSQL.{POSTGRES_PORT}"
PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
LONGEST_SOCKET_PATH = 107 if sys.platform == "linux" else 103
"""Bytes; sockaddr_un holds 108 on Linux and 104 on macOS and BSD, the closing zero included."""


def longest_socket_path_in(folder: Path) -> int:
    """The bytes of the longest socket path that a run directory under `folder` would need."""
    return _length(folder / f"{PREFIX}xxxxxxxx")


def fits(parent: Path) -> bool:
    """Whether a run directory under `parent` can hold sockets."""
    return fits_sockets(parent / f"{PREFIX}xxxxxxxx")


def fits_sockets(folder: Path) -> bool:
    """Whether sockets in `folder` have short enough paths, made of characters that every driver's URL takes."""
    return _length(folder) <= LONGEST_SOCKET_PATH and PLAIN.fullmatch(str(folder)) is not None


def _length(folder: Path) -> int:
    return len(os.fsencode(folder / POSTGRES_SOCKET))


def usual_parents() -> list[Path]:
    """The user's temporary folder, and the machine's when that one is too long."""
    return [Path(tempfile.gettempdir()), Path("/") / "tmp"]


def create_run_directory(parents: Iterable[Path] | None = None) -> Path:
    """A new folder that only this user can enter, under the first parent that is short enough."""
    tried = list(usual_parents() if parents is None else parents)
    for parent in tried:
        if fits(parent) and os.access(parent, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lengths = ", ".join(f"{parent} ({longest_socket_path_in(parent)})" for parent in tried)
    raise SocketPathTooLong(
        f"no temporary folder can hold a socket: a socket's path may have {LONGEST_SOCKET_PATH} bytes, "
        f"and these would need more, have an unusual name or cannot be written: {lengths}",
        next_step="set TMPDIR to a short folder that you can write to, such as /tmp",
    )


def point_to(run_directory: Path, link: Path) -> None:
    """Make `link` name the run directory, and remove the one that a killed owner left behind."""
    with suppress(OSError):
        remove(link.readlink())
    link.unlink(missing_ok=True)
    link.symlink_to(run_directory)


def remove(run_directory: Path) -> None:
    """Remove a run directory; anything else that a link may name is left alone."""
    with suppress(OSError):
        found = run_directory.lstat()
        ours = found.st_uid in (os.geteuid(), NOBODY)
        if ours and run_directory.name.startswith(PREFIX) and stat.S_ISDIR(found.st_mode):
            shutil.rmtree(run_directory, ignore_errors=True)


def control_socket(link: Path) -> Path | None:
    """Where the present owner listens, or None when there is no owner."""
    try:
        return link.readlink() / CONTROL_SOCKET
    except OSError:
        return None
