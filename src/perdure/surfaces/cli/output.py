"""What commands print: data on stdout in one of six formats, everything else on stderr."""

import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.options import Shown
from perdure.surfaces.cli.records import as_json, field_of
from perdure.surfaces.cli.tables import Column, print_fields, print_table
from perdure.surfaces.cli.text import plain, raw_text, visible

Record = Mapping[str, Any]


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
            print_fields(chosen, shown)
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
    if not listing.records:
        tell("nothing found")
    elif hidden := print_table(listing.records, columns, shown):
        tell(f"no room for {', '.join(hidden)}: widen the terminal, or choose with --fields")


_LISTS: Mapping[str, Callable[[Listing, Sequence[Column], Shown], None]] = {
    "json": _json,
    "ndjson": _ndjson,
    "csv": _csv_list,
    "ids": _ids,
    "table": _table,
    "tabs": _tabs,
}
