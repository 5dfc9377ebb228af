"""What `perdure doctor` shows about the embedded servers; looks at everything and starts no server."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from perdure.runtime.embedded.binaries import PostgresBinaries, RedisBinary, find_postgres, find_redis
from perdure.runtime.embedded.errors import ServerBinariesMissing
from perdure.runtime.embedded.options import ServerOptions
from perdure.runtime.embedded.run_as import EXPLAINED, RunAs, choose_run_as
from perdure.runtime.embedded.run_directory import (
    LONGEST_SOCKET_PATH,
    fits,
    longest_socket_path_in,
    usual_parents,
)

FLUSHES = 50
FLUSHED_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What would be used, and how fast the disk under the data folder is."""

    postgres: PostgresBinaries | ServerBinariesMissing
    redis: RedisBinary | ServerBinariesMissing
    run_as: RunAs
    run_as_explained: str
    socket_folder: Path
    socket_path_bytes: int
    socket_path_bytes_max: int
    fsync_ms: float


def describe(data_dir: Path, options: ServerOptions | None = None) -> Description:
    """Find the programs and measure the disk at the nearest existing folder of `data_dir`."""
    chosen = options or ServerOptions()
    run_as = chosen.run_as or choose_run_as()
    socket_folder = next((parent for parent in usual_parents() if fits(parent)), usual_parents()[0])
    return Description(
        postgres=_postgres(chosen),
        redis=_redis(chosen),
        run_as=run_as,
        run_as_explained=EXPLAINED[run_as],
        socket_folder=socket_folder,
        socket_path_bytes=longest_socket_path_in(socket_folder),
        socket_path_bytes_max=LONGEST_SOCKET_PATH,
        fsync_ms=measure_fsync_ms(_existing(data_dir)),
    )


def measure_fsync_ms(folder: Path) -> float:
    """The median time to write one page and flush it, which bounds how fast single commits can be."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        page = os.urandom(FLUSHED_BYTES)
        times = []
        for _ in range(FLUSHES):
            began = time.perf_counter()
            file.write(page)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[FLUSHES // 2] * 1000


def _postgres(options: ServerOptions) -> PostgresBinaries | ServerBinariesMissing:
    try:
        return find_postgres(options.postgres_bin)
    except ServerBinariesMissing as error:
        return error


def _redis(options: ServerOptions) -> RedisBinary | ServerBinariesMissing:
    try:
        return find_redis(options.redis_server)
    except ServerBinariesMissing as error:
        return error


def _existing(folder: Path) -> Path:
    resolved = folder.expanduser().resolve()
    return next(place for place in (resolved, *resolved.parents) if place.is_dir())
