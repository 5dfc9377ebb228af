"""Durations as people write them: "500ms", "2m", "1h30m"."""

import math
import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from perdure.domain.errors import InvalidOption

Duration = str | timedelta | int | float
"""Text with units, a timedelta, or a number of seconds."""

LONGEST = timedelta(days=36_500)

_MICROSECONDS = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
_TEXT = re.compile(
    r"\s*".join(rf"(?:(?P<{unit}>[0-9]{{1,20}}(?:\.[0-9]{{1,20}})?)\s*{unit})?" for unit in _MICROSECONDS)
)
_HINT = 'write a number with a unit, such as "500ms", "10s", "2m", "1h30m" or "1d"'


def parse_duration(value: Duration, field: str = "duration") -> timedelta:
    """The span that `value` means, never negative; `InvalidOption` names `field` otherwise."""
    if isinstance(value, timedelta):
        span = value
    elif isinstance(value, str):
        span = _of_text(value, field)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(field, f"{value!r} is not a duration", next_step=_HINT)
    else:
        span = _of_seconds(value, field)
    if not timedelta(0) <= span <= LONGEST:
        raise InvalidOption(field, f"{value!r} is outside 0 to {LONGEST.days} days")
    return span


def _of_text(text: str, field: str) -> timedelta:
    match = _TEXT.fullmatch(text.strip())
    parts = {unit: amount for unit, amount in match.groupdict().items() if amount} if match else {}
    if not parts:
        raise InvalidOption(field, f"{text!r} is not a duration", next_step=_HINT)
    return _of_microseconds(sum(Fraction(amount) * _MICROSECONDS[unit] for unit, amount in parts.items()))


def _of_seconds(seconds: float, field: str) -> timedelta:
    if not math.isfinite(seconds):
        raise InvalidOption(field, f"{seconds!r} is not a duration", next_step=_HINT)
    return _of_microseconds(Fraction(seconds) * 1_000_000)


def _of_microseconds(amount: Fraction | int) -> timedelta:
    ceiling = (LONGEST + timedelta(days=1)) // timedelta(microseconds=1)
    return timedelta(microseconds=max(-1, min(round(amount), ceiling)))


def format_moment(moment: datetime) -> str:
    """A moment as lists show it, in UTC to the millisecond: `2030-01-31T12:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_duration(span: timedelta) -> str:
    """Text that `parse_duration` reads back as exactly `span`, with at most days as the largest unit."""
    rest = abs(span) // timedelta(microseconds=1)
    parts = []
    for unit, size in _MICROSECONDS.items():
        amount, rest = divmod(rest, size) if unit != "w" else (0, rest)
        if amount:
            parts.append(f"{amount}{unit}")
    sign = "-" if span < timedelta(0) else ""
    return sign + ("".join(parts) or "0s")


def brief_duration(span: timedelta) -> str:
    """A span as people read it, to three digits below a minute."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1_000:.0f}ms"
    return f"{seconds:.3g}s" if seconds < 59.95 else format_duration(timedelta(seconds=round(seconds)))
