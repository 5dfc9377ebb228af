"""Job ids: UUID version 7 (RFC 9562), so that ids carry their day and sort by the time they were made."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from uuid import UUID, SafeUUID

from perdure.domain.job import JobId

_VERSION_7 = 0x7 << 76 | 0b10 << 62

# One id is made for every enqueue. The constructor looks at six ways to be called, and costs three times what the two slots do.
_NEW, _UNKNOWN = object.__new__, SafeUUID.unknown
_SET_INT, _SET_SAFE = vars(UUID)["int"].__set__, vars(UUID)["is_safe"].__set__


class JobIds:
    """Makes ids that rise strictly within one process, also inside one millisecond and when the clock steps back, for all its threads.

    The 12 bits after the time count within a millisecond; when they run over, the time is moved on by
    one millisecond (RFC 9562, section 6.2, method 1).
    """

    def __init__(self, nanoseconds: Callable[[], int], random_bits: Callable[[int], int]) -> None:
        self._nanoseconds = nanoseconds
        self._last = 0
        self._count = 0
        self.renew(random_bits)

    def renew(self, random_bits: Callable[[int], int]) -> None:
        """Go on with other randomness, and no thread in the way: a fork would repeat the ids of its parent."""
        self._random_bits = random_bits
        self._lock = Lock()

    def __call__(self) -> JobId:
        made = _NEW(UUID)
        with self._lock:
            now = self._nanoseconds() // 1_000_000
            if now > self._last:
                self._last, self._count = now, self._random_bits(8)
            else:
                self._count += 1
                if self._count > 0xFFF:
                    self._last, self._count = self._last + 1, 0
            _SET_INT(made, self._last << 80 | self._count << 64 | _VERSION_7 | self._random_bits(62))
        _SET_SAFE(made, _UNKNOWN)
        return JobId(made)


def made_at(job_id: UUID) -> datetime:
    """The moment that a version 7 id carries."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=job_id.int >> 80)
