"""Values as a page shows them: hostile texts made harmless to read, numbers and times in few characters."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
from markupsafe import Markup, escape

from perdure.domain.job import JobState

_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
STATES = tuple(JobState)
SHOWN_MAX = 20_000
LINE_MAX = 240


def visible(text: object) -> Markup:
    """Text with characters that would move, hide or reverse it written out and marked, cut off where it is endless."""
    plain = str(text)
    cut = plain[:SHOWN_MAX]
    parts = []
    at = 0
    for match in _INVISIBLE.finditer(cut):
        parts += [
            escape(cut[at : match.start()]),
            Markup('<span class="odd">{}</span>').format(_code(match[0])),
        ]
        at = match.end()
    parts.append(escape(cut[at:]))
    if len(plain) > SHOWN_MAX:
        parts.append(
            Markup('<span class="odd">… {} more characters</span>').format(f"{len(plain) - SHOWN_MAX:,}")
        )
    return Markup("").join(parts)


def ticks(text: object) -> Markup:
    """A sentence of ours in which commands stand between backticks."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(visible(part)) if at % 2 else visible(part)
        for at, part in enumerate(parts)
    )


def line(text: object, most: int = LINE_MAX) -> Markup:
    """The same in one line, cut off after `most` characters."""
    plain = " ".join(str(text).split())
    return visible(plain if len(plain) <= most else f"{plain[: most - 1]}…")


def plain(text: object, most: int = LINE_MAX) -> str:
    """The same without any mark-up, for attributes and for pictures."""
    whole = " ".join(str(text).split())
    return _INVISIBLE.sub(
        lambda match: _code(match[0]), whole if len(whole) <= most else f"{whole[: most - 1]}…"
    )


def json_text(raw: msgspec.Raw | None) -> str:
    """JSON laid out for reading; every number and key as the database has it."""
    if raw is None:
        return ""
    return msgspec.json.format(bytes(raw), indent=2).decode()


def number(value: float | None, approximate: bool = False) -> str:
    """A count with separators; a large one that is estimated says so."""
    if value is None:
        return "?"
    return f"{'~' if approximate else ''}{value:,.0f}"


def percent(part: float) -> str:
    """A probability; what is not nothing does not look like it."""
    return "under 0.1 %" if 0 < part < 0.001 else f"{part:.1%}".replace("%", " %")


def rate(value: float | None) -> str:
    """A rate per second in at most four characters or so."""
    if value is None:
        return "?"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def span(value: timedelta | float | None) -> str:
    """A duration in its two largest units."""
    if value is None:
        return "–"
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        seconds = 0.0
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for at, (unit, size) in enumerate(_UNITS):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            if at + 1 < len(_UNITS) and (below := rest // _UNITS[at + 1][1]):
                return f"{whole} {unit} {below} {_UNITS[at + 1][0]}"
            return f"{whole} {unit}"
    return "0 s"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit."""
    if moment is None:
        return "–"
    seconds = (now - moment).total_seconds()
    unit, size = next(pair for pair in _UNITS if abs(seconds) >= pair[1] or pair[0] == "s")
    amount = f"{abs(seconds) // size:.0f} {unit}"
    if abs(seconds) < 1:
        return "now"
    return f"{amount} ago" if seconds >= 0 else f"in {amount}"


def stamp(moment: datetime) -> str:
    """A moment to the millisecond, in UTC."""
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def clock(moment: datetime) -> str:
    """The time of the day to the second, in UTC."""
    return f"{moment.astimezone(UTC):%H:%M:%S}"


def short(job_id: object) -> str:
    """The part of an id that tells jobs apart at a glance: its random end."""
    return str(job_id)[-8:]


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def json_line(raw: msgspec.Raw, most: int = LINE_MAX) -> Markup:
    """JSON in one line, cut off; what is very long is not laid out first."""
    whole = bytes(raw)
    if len(whole) > SHOWN_MAX:
        return line(whole[: 4 * most].decode("utf-8", "ignore"), most)
    return line(msgspec.json.format(whole, indent=-1).decode(), most)
