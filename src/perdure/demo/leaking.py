"""A bad release of the demonstration's jobs: one of them keeps memory that it should give back."""

from time import monotonic

from perdure.demo.indexing import index_job, words_of
from perdure.demo.jobs import app

__all__ = ["app", "index"]

MB = 1 << 20
LEAK_MB_PER_S = 12.0
AT_ONCE = 16


class _Leak:
    """Memory that nobody gives back: so much a second from the first job on, however many there are."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._began: float | None = None

    def grow(self) -> None:
        now = monotonic()
        if self._began is None:
            self._began = now
        missing = int((now - self._began) * LEAK_MB_PER_S) - len(self._kept)
        # Written to, for the system counts only pages that were.
        self._kept.extend(b"\1" * MB for _ in range(min(missing, AT_ONCE)))


_leak = _Leak()


@index_job
async def index(folder: str, path: str) -> int:
    """Index the words of one file, say how many there are, and leak."""
    _leak.grow()
    return await words_of(folder, path)
