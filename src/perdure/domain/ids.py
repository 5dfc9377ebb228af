"""Job ids: UUID version 7 (RFC 9562), so that ids carry their day and sort by the time they were made."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from uuid import UUID, SafeUUID

from perdure.domain.job import JobId

TAILS = 512
"""So many ids get their random halves at a time."""

_VERSION_7, _VARIANT = 0x7 << 12, 0b10 << 62

# One id is made for every enqueue. The constructor looks at six ways to be called, and costs three times what the two slots do.
_NEW: Callable[..., Any] = object.__new__
_UNKNOWN = SafeUUID.unknown
_SET_INT, _SET_SAFE = vars(UUID)["int"].__set__, vars(UUID)["is_safe"].__set__


class JobIds:
    """Makes ids that rise strictly within one process, also inside one millisecond and when the clock steps back, for all its threads.

    The 12 bits after the time count within a millisecond; when they run over, the time is moved on by
    one millisecond (RFC 9562, section 6.2, method 1).
    """

    def __init__(self, nanoseconds: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._nanoseconds = nanoseconds
        self._random_bytes = random_bytes
        self._last = 0
        self._count = 0
        self.renew()

    def renew(self) -> None:
        """Go on with other randomness, and no thread in the way: a fork would repeat the ids of its parent."""
        self._tails: list[int] = []
        self._lock = Lock()

    def __call__(self) -> JobId:
        made: JobId = _NEW(UUID)
        with self._lock:
            now = self._nanoseconds() // 1_000_000
            if now > self._last:
                self._last, self._count = now, 0
            else:
                self._count += 1
                if self._count > 0xFFF:
                    self._last, self._count = self._last + 1, 0
            tails = self._tails or self._more_tails()
            _SET_INT(made, (self._last << 16 | _VERSION_7 | self._count) << 64 | tails.pop())
        _SET_SAFE(made, _UNKNOWN)
        return made

    def _more_tails(self) -> list[int]:
        """The random halves of the next ids; asked for together, as each call of the system costs a microsecond."""
        numbers = memoryview(self._random_bytes(TAILS * 8)).cast("Q")
        self._tails = [_VARIANT | number >> 2 for number in numbers]
        return self._tails


def made_at(job_id: UUID) -> datetime:
    """The moment that a version 7 id carries."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=job_id.int >> 80)
