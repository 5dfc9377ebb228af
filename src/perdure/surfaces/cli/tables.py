"""Tables for people: they fit the width, show ages, and fall back to ASCII and to no colours."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perdure.domain.durations import brief_duration
from perdure.surfaces.cli.options import Shown
from perdure.surfaces.cli.records import field_of
from perdure.surfaces.cli.text import ago, plain, visible

Record = Mapping[str, Any]
WIDEST = 30
UNBOUNDED = 100_000
"""The width where there is no screen: a file or a pipe has room for every column."""
GAP = 3
LEAST_COLUMNS = 1
LEAST_FOR_THE_LAST = 16


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the field it shows, and its heading."""

    field: str
    heading: str
    style: str = ""
    right: bool = False


ATTEMPTS = (
    Column("attempt", "attempt"),
    Column("outcome", "outcome"),
    Column("took", "took"),
    Column("settled_at", "ended"),
    Column("state", "state"),
    Column("worker", "worker"),
    Column("process", "process"),
    Column("run", "run"),
    Column("why", "why"),
)
"""Of an attempt, the first that matters first; `why` is the last, which is never left out. A document has every field."""


def console(shown: Shown) -> Console:
    """Rich's console for stdout: heeds the width, NO_COLOR, FORCE_COLOR and TERM=dumb, and falls back to ASCII."""
    return Console(
        file=sys.stdout,
        no_color=shown.no_color or None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        width=None if sys.stdout.isatty() else get_terminal_size((UNBOUNDED, 1)).columns,
    )


def print_rich(printable: Any, shown: Shown) -> None:
    """Print something of rich's on stdout."""
    console(shown).print(printable)


def print_table(records: Sequence[Record], columns: Sequence[Column], shown: Shown) -> list[str]:
    """Print records as a table, and give the headings of columns that had no room."""
    screen = console(shown)
    cells = {c.field: [_cell(field_of(record, c.field), c) for record in records] for c in columns}
    kept = columns if shown.fields else [c for c in columns if any(text.plain for text in cells[c.field])]
    fitting = kept if shown.fields else _fitting(kept, cells, screen.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in fitting:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        short = all(text.cell_len <= WIDEST for text in cells[column.field]) or column is fitting[0]
        table.add_column(column.heading, justify=justify, no_wrap=short, overflow="fold")
    for row in zip(*(cells[column.field] for column in fitting), strict=True):
        table.add_row(*row)
    screen.print(table)
    return [column.heading for column in kept if column not in fitting]


def print_fields(record: Record, shown: Shown) -> None:
    """Print the fields that have a value, a line each; then a table for each list of records among them."""
    screen = console(shown)
    table = Table.grid(padding=(0, 2))
    nested = {name: value for name, value in record.items() if _is_records(value)}
    for name, value in record.items():
        if name not in nested and (text := plain(in_brief(value))):
            table.add_row(Text(name, "bold"), Text(text, style_of(text) if name in STATE_FIELDS else ""))
    screen.print(table)
    for name, records in nested.items():
        screen.print(Text(f"\n{name}", "bold"))
        if name == "attempts":
            print_table([_attempt(one) for one in records], ATTEMPTS, shown)
        else:
            print_table(records, [Column(field, field) for field in records[0]], shown)
    if traceback := field_of(record, "error.traceback"):
        screen.print(Text("\ntraceback", "bold"))
        screen.print(Text("\n".join(visible(line) for line in traceback.splitlines())), soft_wrap=True)


def _attempt(record: Record) -> Record:
    """An attempt with what people look for: how long it ran, and why it ended as it did."""
    started, finished = record.get("started_at"), record.get("finished_at")
    why = in_brief(record.get("error")) or record.get("cause") or record.get("result")
    took = brief_duration(finished - started) if started and finished else ""
    return {**record, "took": took, "why": why}


def in_brief(value: Any) -> Any:
    """A value for people: of an error, also of one inside, its type and its message."""
    if not isinstance(value, Mapping):
        return value
    if value.keys() >= {"type", "message", "traceback"}:
        return f"{value['type']}: {value['message']}"
    return {name: in_brief(part) for name, part in value.items()}


def style_of(state: str) -> str:
    """The colour of a state; the word itself always stands beside it."""
    return STATE_STYLES.get(state, "")


def _fitting(columns: Sequence[Column], cells: Mapping[str, Sequence[Text]], width: int) -> list[Column]:
    """The columns that there is room for: the last, which can be folded, and the first ones."""
    *first, last = columns
    room = width - LEAST_FOR_THE_LAST
    widths = [_width(column, cells[column.field]) + GAP for column in first]
    if first:  # it names the record, and no part of a name may be missing
        widths[0] = max(text.cell_len for text in (Text(first[0].heading), *cells[first[0].field])) + GAP
    while len(first) > LEAST_COLUMNS and sum(widths[: len(first)]) > room:
        first.pop()
    return [*first, last]


def _width(column: Column, cells: Sequence[Text]) -> int:
    return max(len(column.heading), *(min(text.cell_len, WIDEST) for text in cells))


def _cell(value: Any, column: Column) -> Text:
    if isinstance(value, datetime):
        return Text(ago(value, datetime.now(UTC)), column.style)
    text = plain(in_brief(value))
    return Text(text, style_of(text) if column.field in STATE_FIELDS else column.style)


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


STATE_FIELDS = frozenset({"state", "verdict", "outcome"})
STATE_STYLES = {
    "completed": "green",
    "running": "cyan",
    "active": "green",
    "discarded": "red",
    "dead": "red",
    "retryable": "yellow",
    "draining": "yellow",
    "cancelled": "dim",
    "stopped": "dim",
    "ok": "green",
    "warn": "yellow",
    "degraded": "yellow",
    "bad": "red",
    "critical": "red",
    "broken": "red",
    "missing": "yellow",
}
