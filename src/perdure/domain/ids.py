"""Job ids: UUID version 7 (RFC 9562), so that ids carry their day and sort by the time they were made."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from threading import Lock
from typing import Any, overload
from uuid import UUID, SafeUUID

from perdure.domain.job import JobId

TAILS = 512
"""So many ids get their random halves at a time."""

_COUNT_BITS = 12
_VERSION_7, _VARIANT = 0x7 << 12, 0b10 << 62

# One id is made for every enqueue. The constructor looks at six ways to be called, and costs three times what the two slots do.
_NEW: Callable[..., Any] = object.__new__
_UNKNOWN = SafeUUID.unknown
_SET_INT, _SET_SAFE = vars(UUID)["int"].__set__, vars(UUID)["is_safe"].__set__
_BYTES = Struct("!QQ").pack


class Ids(Sequence[JobId]):
    """Ids that were made together. Each is kept as its 16 bytes, which is how it is sent, and becomes a UUID when it is asked for."""

    __slots__ = ("raw",)

    def __init__(self, raw: Iterable[bytes]) -> None:
        self.raw = tuple(raw)

    @overload
    def __getitem__(self, place: int) -> JobId: ...
    @overload
    def __getitem__(self, place: slice) -> "Ids": ...
    def __getitem__(self, place: int | slice) -> "JobId | Ids":
        return Ids(self.raw[place]) if isinstance(place, slice) else JobId(UUID(bytes=self.raw[place]))

    def __iter__(self) -> Iterator[JobId]:
        return (JobId(UUID(bytes=one)) for one in self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class JobIds:
    """Makes ids that rise strictly within one process, also inside one millisecond and when the clock steps back, for all its threads.

    The 12 bits after the time count within a millisecond; when they run over, the time is moved on by
    one millisecond (RFC 9562, section 6.2, method 1).
    """

    def __init__(self, nanoseconds: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._nanoseconds = nanoseconds
        self._random_bytes = random_bytes
        self._last = -1
        """The time and the count of the newest id, as one number."""
        self.renew()

    def renew(self) -> None:
        """Go on with other randomness, and no thread in the way: a fork would repeat the ids of its parent."""
        self._tails: list[int] = []
        self._lock = Lock()

    def __call__(self) -> JobId:
        made: JobId = _NEW(UUID)
        with self._lock:
            number = self._nanoseconds() // 1_000_000 << _COUNT_BITS
            if number <= self._last:
                number = self._last + 1
            self._last = number
            tails = self._tails or self._more_tails()
            _SET_INT(made, _first_half(number) << 64 | tails.pop())
        _SET_SAFE(made, _UNKNOWN)
        return made

    def many(self, count: int) -> Ids:
        """The next `count` ids, at a third of what so many calls cost."""
        with self._lock:
            first = max(self._nanoseconds() // 1_000_000 << _COUNT_BITS, self._last + 1)
            self._last = first + count - 1
        numbers = range(first, first + count)
        return Ids(
            [_BYTES(_first_half(n), tail) for n, tail in zip(numbers, self._tails_of(count), strict=True)]
        )

    def _more_tails(self) -> list[int]:
        """The random halves of the next ids; asked for together, as each call of the system costs a microsecond."""
        self._tails = self._tails_of(TAILS)
        return self._tails

    def _tails_of(self, count: int) -> list[int]:
        return [_VARIANT | n >> 2 for n in memoryview(self._random_bytes(count * 8)).cast("Q")]


def _first_half(number: int) -> int:
    """The time, the version and the count, of 64 bits."""
    return number >> _COUNT_BITS << 16 | _VERSION_7 | number & 0xFFF


def made_at(job_id: UUID) -> datetime:
    """The moment that a version 7 id carries."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=job_id.int >> 80)
