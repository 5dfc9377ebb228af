"""Values as text that is safe to print: no control characters reach a terminal."""

import re
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import msgspec

from perdure.domain.durations import format_duration, format_moment

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """The text with control characters written out, so that it can neither move a cursor nor break a row."""
    return _CONTROL.sub(lambda match: _escape(match[0]), text)


def ago(moment: datetime, now: datetime) -> str:
    """How long ago a moment was, or how far ahead it is, in its largest unit."""
    seconds = (now - moment).total_seconds()
    amount, unit = next(
        (abs(seconds) // size, unit) for unit, size in _UNITS if abs(seconds) >= size or unit == "s"
    )
    return f"{amount:.0f}{unit} ago" if seconds >= 0 else f"in {amount:.0f}{unit}"


def plain(value: Any) -> str:
    """One value as one line."""
    return visible(raw_text(value))


def raw_text(value: Any) -> str:
    """One value as text, control characters included."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str | msgspec.Raw):
        return value if isinstance(value, str) else bytes(value).decode()
    if isinstance(value, datetime):
        return format_moment(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, list | tuple | dict):
        return _compound(value)
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _compound(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _escape(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
