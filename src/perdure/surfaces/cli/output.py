"""What commands print: data on stdout in one of six formats, everything else on stderr."""

import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.options import Shown
from perdure.surfaces.cli.records import as_json, field_of
from perdure.surfaces.cli.text import ago, plain, raw_text, visible

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the field it shows, and its heading."""

    field: str
    heading: str
    style: str = ""
    right: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Records of one kind, and how they are shown; `schema` names a document of them, `item` one of them."""

    schema: str
    item: str
    columns: Sequence[Column]
    records: Sequence[Record]
    key: str = "id"
    next_cursor: str | None = None
    note: str = ""


def show_list(listing: Listing, shown: Shown) -> None:
    """Print a list."""
    columns = _chosen(listing.columns, listing.records, shown.field_names)
    _LISTS[_format(shown)](listing, columns, shown)
    if listing.note:
        tell(listing.note)
    if listing.next_cursor and _format(shown) != "json":
        tell(f"there are more: --cursor {listing.next_cursor}")


def show_one(schema: str, record: Record, shown: Shown, *, key: str = "id") -> None:
    """Print one record: a document, or a line for each field."""
    chosen = {name: field_of(record, name) for name in shown.field_names} or dict(record)
    match _format(shown):
        case "json" | "ndjson":
            _document({"schema": schema, **chosen}, shown)
        case "ids":
            write(plain(record[key]))
        case "csv":
            _csv(list(chosen), [list(chosen.values())])
        case "table":
            _fields_table(chosen, shown)
        case _:
            for name, value in chosen.items():
                write(f"{name}\t{plain(value)}")


def tell(text: str) -> None:
    """Write a line for people on stderr."""
    sys.stdout.flush()
    sys.stderr.write(visible(text) + "\n")


def write(text: str) -> None:
    """Write a line of data on stdout."""
    sys.stdout.write(text + "\n")


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def console(shown: Shown) -> Console:
    """Rich's console for stdout: heeds the width, NO_COLOR, FORCE_COLOR and TERM=dumb, and falls back to ASCII."""
    return Console(
        file=sys.stdout,
        no_color=shown.no_color or None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def print_rich(printable: Any, shown: Shown) -> None:
    """Print something of rich's on stdout."""
    console(shown).print(printable)


def _format(shown: Shown) -> str:
    if shown.format != "auto":
        return shown.format
    return "table" if on_terminal() else "tabs"


def _document(document: dict[str, Any], shown: Shown) -> None:
    pretty = shown.format == "json" and on_terminal()
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    write(as_json(document, pretty=pretty, ascii_only=encoding != "utf8"))


def _chosen(columns: Sequence[Column], records: Sequence[Record], names: Sequence[str]) -> Sequence[Column]:
    known = {column.field: column for column in columns}
    possible = known.keys() | (records[0].keys() if records else set())
    for name in names:
        if records and name.partition(".")[0] not in possible:
            raise InvalidOption(
                "fields", f"there is no field {name!r}", next_step=f"fields: {', '.join(sorted(possible))}"
            )
    return [known.get(name, Column(name, name.upper())) for name in names] or columns


def _documents(listing: Listing, shown: Shown) -> Iterable[Record]:
    for record in listing.records:
        yield {name: field_of(record, name) for name in shown.field_names} or record


def _json(listing: Listing, columns: Sequence[Column], shown: Shown) -> None:
    document = {
        "schema": listing.schema,
        "items": list(_documents(listing, shown)),
        "next_cursor": listing.next_cursor,
        **({"note": listing.note} if listing.note else {}),
    }
    _document(document, shown)


def _ndjson(listing: Listing, columns: Sequence[Column], shown: Shown) -> None:
    for record in _documents(listing, shown):
        _document({"schema": listing.item, **record}, shown)


def _csv_list(listing: Listing, columns: Sequence[Column], shown: Shown) -> None:
    _csv(
        [column.field for column in columns],
        ([field_of(r, c.field) for c in columns] for r in listing.records),
    )


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([raw_text(value) for value in row] for row in rows)


def _ids(listing: Listing, columns: Sequence[Column], shown: Shown) -> None:
    for record in listing.records:
        write(plain(record[listing.key]))


def _tabs(listing: Listing, columns: Sequence[Column], shown: Shown) -> None:
    for record in listing.records:
        write("\t".join(plain(field_of(record, column.field)) for column in columns))


def _table(listing: Listing, columns: Sequence[Column], shown: Shown) -> None:
    if listing.records:
        print_rich(_rich_table(listing.records, columns, key=listing.key), shown)
    else:
        tell("nothing found")


def _rich_table(records: Sequence[Record], columns: Sequence[Column], *, key: str = "") -> Table:
    now = datetime.now(UTC)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.heading, justify=justify, no_wrap=column.field == key, overflow="fold")
    for record in records:
        table.add_row(*(_cell(field_of(record, column.field), column, now) for column in columns))
    return table


def _cell(value: Any, column: Column, now: datetime) -> Text:
    if isinstance(value, datetime):
        return Text(ago(value, now), column.style)
    text = plain(value)
    return Text(text, style_of(text) if column.field in STATE_FIELDS else column.style)


def _fields_table(record: Record, shown: Shown) -> None:
    """The fields that have a value, a line each; then a table for each list of records among them."""
    table = Table.grid(padding=(0, 2))
    nested = {name: value for name, value in record.items() if _is_records(value)}
    for name, value in record.items():
        if name not in nested and (text := plain(value)):
            table.add_row(Text(name, "bold"), Text(text, style_of(text) if name in STATE_FIELDS else ""))
    print_rich(table, shown)
    for name, records in nested.items():
        names = [field for field in records[0] if any(plain(each.get(field)) for each in records)]
        print_rich(Text(f"\n{name}", "bold"), shown)
        print_rich(_rich_table(records, [Column(field, field) for field in names]), shown)


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


def style_of(state: str) -> str:
    """The colour of a state; the word itself always stands beside it."""
    return STATE_STYLES.get(state, "")


_LISTS: Mapping[str, Callable[[Listing, Sequence[Column], Shown], None]] = {
    "json": _json,
    "ndjson": _ndjson,
    "csv": _csv_list,
    "ids": _ids,
    "table": _table,
    "tabs": _tabs,
}
