"""Entries of the log of several processes, read back from the one stream that they write to."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

LONGEST_LINE = 2**20
OUTPUT = "output"
WORKER = "worker"
LEFT_OUT = frozenset({"event", "level", "timestamp", "worker", "exception"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry: who says it, when, and what; `level` is empty for what a handler printed."""

    source: str
    text: str
    level: str = ""
    at: datetime | None = None
    more: str = ""


def entry_of(line: str) -> Entry:
    """The entry of one line: a log entry in JSON, or something printed."""
    try:
        fields = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return Entry(source=OUTPUT, text=line)
    if not isinstance(fields, dict) or "event" not in fields:
        return Entry(source=OUTPUT, text=line)
    process = fields.get("process")
    source = process if isinstance(process, str) else WORKER
    return Entry(
        source=source,
        text=" ".join([str(fields["event"]), *_details(fields, source)]),
        level=str(fields.get("level", "")),
        at=_moment(fields.get("timestamp")),
        more=str(fields.get("exception", "")),
    )


async def entries(reader: asyncio.StreamReader) -> AsyncIterator[Entry]:
    """The entries of a stream until its end; of a line that is too long, only that it was."""
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            yield Entry(source=OUTPUT, text=f"(a line of more than {LONGEST_LINE:,} bytes)")
            continue
        if not line:
            return
        yield entry_of(line.decode(errors="replace").rstrip("\r\n"))


def _details(fields: Mapping[str, object], source: str) -> list[str]:
    return [f"{name}={value}" for name, value in fields.items() if name not in LEFT_OUT and value != source]


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
