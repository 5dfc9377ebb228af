"""What a worker host remembers of its database over restarts: a small file in `data_dir`, where that folder exists."""

import hashlib
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from urllib.parse import parse_qsl, urlsplit

import msgspec
import structlog

from perdure.domain.errors import RollbackDetected
from perdure.domain.lineage import MEMORY_LASTS, Memory
from perdure.domain.worker import WorkerId
from perdure.ports import Lineage
from perdure.runtime.children import ChildProcess
from perdure.runtime.settings import Settings
from perdure.services.guard import Guard

KEPT_EVERY_S = 5.0
CREDENTIALS = frozenset({"user", "password"})

log = structlog.get_logger("perdure.guard")


def guard_of_worker(settings: Settings, lineage: Lineage, worker_id: WorkerId) -> Guard:
    """The guard of a supervisor, with what its host remembers."""
    file = memory_file(settings)
    return Guard(
        lineage, who=f"worker {worker_id}", memory=read_memory(file), marks=True, keep=MemoryKeeper(file)
    )


async def look(guard: Guard, children: Iterable[ChildProcess]) -> None:
    """See whether the database has all that it had, and tell the processes; while it has not, nothing may run in them.

    Raises RollbackDetected.
    """
    try:
        news = await guard.look()
    except RollbackDetected:
        for child in children:
            child.tell({"lost": True})
        raise
    for child in children:
        if news and child.hears:
            child.tell(seen_by(guard))


def seen_by(guard: Guard) -> dict[str, object]:
    """The newest mark, as a process is told of it."""
    return {"seen": msgspec.to_builtins(guard.memory)}


def memory_file(settings: Settings) -> Path:
    """The file for one schema of one database, by its address without the credentials."""
    parts = urlsplit(settings.database_url.get_secret_value())
    query = sorted(pair for pair in parse_qsl(parts.query) if pair[0] not in CREDENTIALS)
    address = repr((parts.netloc.rpartition("@")[2], parts.path, query, settings.schema))
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    return settings.data_dir.expanduser() / "lineage" / f"{name}.json"


def read_memory(file: Path) -> Memory | None:
    """What is remembered; nothing when there is no file, none that can be read, or only an old one."""
    try:
        memory = msgspec.json.decode(file.read_bytes(), type=Memory)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeError) as error:
        log.warning("what was remembered of the database cannot be read", file=str(file), why=str(error))
        return None
    return memory if datetime.now(UTC) - memory.at < MEMORY_LASTS else None


class MemoryKeeper:
    """Writes a memory to its file, whole or not at all, and at most every five seconds."""

    def __init__(self, file: Path, *, clock: Callable[[], float] = monotonic) -> None:
        self._file = file
        self._clock = clock
        self._kept: tuple[float, int] | None = None

    def __call__(self, memory: Memory) -> None:
        now = self._clock()
        if self._kept is not None and now - self._kept[0] < KEPT_EVERY_S and memory.epoch == self._kept[1]:
            return
        self._kept = now, memory.epoch
        if not self._file.parent.parent.is_dir():
            return
        try:
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}")
            draft.write_bytes(msgspec.json.encode(memory))
            draft.replace(self._file)
        except OSError as error:
            log.warning(
                "the database cannot be remembered over a restart", file=str(self._file), why=str(error)
            )
