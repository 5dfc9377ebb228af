"""Rows in the binary form that COPY reads, made in one pass over the jobs and sent in parts.

The driver's own encoder takes rows of Python values and costs three times as much for each. Parts, so that the server
stores one while the next is made. What does not fit into its column raises struct.error, half of a surrogate pair UnicodeError.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

BODY_COLUMNS = ("id", "args", "lane", "priority", "max_attempts", "timeout_ms", "crash_limit")
PLACE_COLUMNS = ("job_id", "rank", "lane", "band")
PART = 500

_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_JSONB = 1
"""The version that stands before the text in the binary form of jsonb."""
_ID, _RANK = 16, 8
"""Lengths of values."""

_BODY = Struct("!hi16siB").pack
_PLACE = Struct("!hi16siq").pack
_SMALL = Struct("!ih").pack
_INTEGER = Struct("!ii").pack
_NULL = Struct("!i").pack(-1)


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs of one shape: their arguments, their ids as bytes and where they wait, which is in one lane and band, each at its rank."""

    args: Sequence[str]
    ids: Sequence[bytes]
    lane: int
    band: int
    ranks: Sequence[int]
    priority: int
    max_attempts: int
    timeout_ms: int | None
    crash_limit: int | None


def bodies(groups: Iterable[Group]) -> AsyncIterator[bytes]:
    """Rows of `BODY_COLUMNS`."""
    return _sent(groups, _bodies)


def places(groups: Iterable[Group]) -> AsyncIterator[bytes]:
    """Rows of `PLACE_COLUMNS`."""
    return _sent(groups, _places)


def _bodies(group: Group, start: int) -> bytes:
    """The rows of one part, from `start` on."""
    width, rest = (
        len(BODY_COLUMNS),
        b"".join(
            (
                _integer(group.lane),
                _small(group.priority),
                _small(group.max_attempts),
                _integer(group.timeout_ms),
                _small(group.crash_limit),
            )
        ),
    )
    part = slice(start, start + PART)
    return b"".join(
        [
            _BODY(width, _ID, job_id, len(text) + 1, _JSONB) + text + rest
            for job_id, text in zip(group.ids[part], map(str.encode, group.args[part]), strict=True)
        ]
    )


def _places(group: Group, start: int) -> bytes:
    """The rows of one part, from `start` on."""
    width, rest = len(PLACE_COLUMNS), _integer(group.lane) + _small(group.band)
    part = slice(start, start + PART)
    return b"".join(
        [
            _PLACE(width, _ID, job_id, _RANK, rank) + rest
            for job_id, rank in zip(group.ids[part], group.ranks[part], strict=True)
        ]
    )


def _integer(value: int | None) -> bytes:
    return _NULL if value is None else _INTEGER(4, value)


def _small(value: int | None) -> bytes:
    return _NULL if value is None else _SMALL(2, value)


async def _sent(groups: Iterable[Group], rows: Callable[[Group, int], bytes]) -> AsyncIterator[bytes]:
    yield _BEGIN
    for group in groups:
        for start in range(0, len(group.ids), PART):
            yield rows(group, start)
    yield _END
