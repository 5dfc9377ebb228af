"""Rows in the binary form that COPY reads, made in one pass and sent in parts.

The driver's own encoder takes rows of Python values and costs three times as much for each. Parts, so that the server
stores one while the next is made. What does not fit into its column raises struct.error, half of a surrogate pair UnicodeError.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from typing import TypeVar

from perdure.domain.job import NewJob
from perdure.ports import Place

T = TypeVar("T")

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
    """Jobs of one shape and their places, all in one lane and band."""

    jobs: Sequence[NewJob]
    places: Sequence[Place]
    priority: int
    max_attempts: int
    timeout_ms: int | None
    crash_limit: int | None


def bodies(groups: Iterable[Group]) -> AsyncIterator[bytes]:
    """Rows of `BODY_COLUMNS`."""
    return _sent(chain.from_iterable(_parts(group.jobs, _body_of(group)) for group in groups))


def places(groups: Iterable[Group]) -> AsyncIterator[bytes]:
    """Rows of `PLACE_COLUMNS`."""
    return _sent(chain.from_iterable(_parts(group.places, _place_of(group)) for group in groups))


def _body_of(group: Group) -> Callable[[NewJob], bytes]:
    width, rest = (
        len(BODY_COLUMNS),
        b"".join(
            (
                _integer(group.places[0].lane),
                _small(group.priority),
                _small(group.max_attempts),
                _integer(group.timeout_ms),
                _small(group.crash_limit),
            )
        ),
    )

    def encoded(job: NewJob) -> bytes:
        args = job.args.encode()
        return _BODY(width, _ID, job.id.int.to_bytes(_ID, "big"), len(args) + 1, _JSONB) + args + rest

    return encoded


def _place_of(group: Group) -> Callable[[Place], bytes]:
    width, rest = len(PLACE_COLUMNS), _integer(group.places[0].lane) + _small(group.places[0].band)

    def encoded(place: Place) -> bytes:
        return _PLACE(width, _ID, place[3].int.to_bytes(_ID, "big"), _RANK, place[2]) + rest

    return encoded


def _integer(value: int | None) -> bytes:
    return _NULL if value is None else _INTEGER(4, value)


def _small(value: int | None) -> bytes:
    return _NULL if value is None else _SMALL(2, value)


def _parts(rows: Sequence[T], encoded: Callable[[T], bytes]) -> Iterable[bytes]:
    for start in range(0, len(rows), PART):
        yield b"".join(map(encoded, rows[start : start + PART]))


async def _sent(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    yield _BEGIN
    for part in parts:
        yield part
    yield _END
