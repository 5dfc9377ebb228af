"""`perdure shared`: the memory that workers and programs share."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from perdure.domain.errors import Conflict, InvalidOption, NotFound
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, FIRST_PAGE, Connection, Page, Shown
from perdure.surfaces.cli.output import Listing, show_list, show_one, write
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.session import opened
from perdure.surfaces.cli.tables import Column

if TYPE_CHECKING:
    from perdure.services.shared_memory import SharedMemory

app = App(name="shared", help="Read and write the memory that workers and programs share.")

COLUMNS = (
    Column("key", "KEY"),
    Column("written_at", "WRITTEN"),
    Column("expires_at", "EXPIRES"),
    Column("version", "VERSION"),
    Column("value", "VALUE"),
)
NAMESPACES = (Column("namespace", "NAMESPACE"), Column("entries", "ENTRIES", right=True))
FOR_EVER = "never"
NONE = "none"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Terms:
    """How long an entry stays, and what it may be written over."""

    ttl: str | None = None
    "How long it stays, such as `10m`, or `never`; by default as long as entries of this namespace usually do."
    expected: str | None = None
    "Write only over this version of the entry, or with `none` only where there is no entry."

    @property
    def life(self) -> str | None:
        return "default" if self.ttl is None else None if self.ttl == FOR_EVER else self.ttl


USUAL = Terms()


@app.command
async def namespaces(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """List the namespaces that have entries."""
    async with opened(connection) as stores:
        records = [record_of(each) for each in await stores.shared.namespaces()]
    show_list(
        Listing(
            schema="perdure.shared_namespaces/1",
            item="perdure.shared_namespace/1",
            columns=NAMESPACES,
            records=records,
            key="namespace",
        ),
        shown,
    )


@app.command(name="list")
async def list_(
    namespace: str,
    *,
    prefix: str = "",
    page: Page = FIRST_PAGE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List the entries of a namespace, in the order of their keys.

    Parameters
    ----------
    namespace
        Name of the namespace.
    prefix
        Only keys that begin so.
    """
    async with opened(connection) as stores:
        found = await stores.shared.list(namespace, prefix, limit=page.limit, cursor=page.cursor)
    show_list(
        Listing(
            schema="perdure.shared_entries/1",
            item="perdure.shared_entry/1",
            columns=COLUMNS,
            records=[record_of(entry) for entry in found.entries],
            key="key",
            next_cursor=found.cursor,
        ),
        shown,
    )


@app.command
async def get(namespace: str, key: str, *, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """Print the value of a key as JSON; with an output format, the whole entry.

    Parameters
    ----------
    namespace
        Name of the namespace.
    key
        Name of the entry.
    """
    async with opened(connection) as stores:
        entry = await stores.shared.get(namespace, key)
    if entry is None:
        raise _absent(namespace, key)
    if shown.format == "auto" and not shown.fields:
        write(bytes(entry.value).decode())
        return
    show_one("perdure.shared_entry/1", record_of(entry), shown, key="key")


@app.command
async def put(
    namespace: str,
    key: str,
    value: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    terms: Terms = USUAL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Write a value, over whatever is there unless `--expected` says otherwise; exit code 4 when that was not so.

    Parameters
    ----------
    namespace
        Name of the namespace.
    key
        Name of the entry.
    value
        JSON, or `-` to read it from standard input.
    """
    json = _json(sys.stdin.read() if value == "-" else value)
    ttl, expected = terms.life, terms.expected
    async with opened(connection) as stores:
        if expected is None:
            entry = await stores.shared.put(namespace, key, json, ttl=ttl)
        else:
            version = None if expected == NONE else _version(expected)
            written = await stores.shared.compare_and_set(namespace, key, json, expected=version, ttl=ttl)
            if written is None:
                raise await _overtaken(stores.shared, namespace, key)
            entry = written
    show_one("perdure.shared_entry/1", record_of(entry), shown, key="key")


@app.command
async def delete(
    namespace: str,
    key: str,
    *,
    expected: str | None = None,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Delete an entry; exit code 3 when there is none.

    Parameters
    ----------
    namespace
        Name of the namespace.
    key
        Name of the entry.
    expected
        Delete only this version of it; exit code 4 when it is another.
    """
    version = None if expected is None else _version(expected)
    async with opened(connection) as stores:
        if not await stores.shared.delete(namespace, key, expected=version):
            if version is not None and await stores.shared.get(namespace, key) is not None:
                raise await _overtaken(stores.shared, namespace, key)
            raise _absent(namespace, key)
    record = {"namespace": namespace, "key": key, "state": "deleted"}
    show_one("perdure.deleted_shared_entry/1", record, shown, key="key")


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidOption(
            "value", f"is not JSON: {error}", next_step="write a text in quotation marks: '\"text\"'"
        ) from None


def _version(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidOption(
            "expected", f"{text!r} is no version", next_step="see `perdure shared get --json`"
        ) from None


def _absent(namespace: str, key: str) -> NotFound:
    return NotFound("shared entry", f"{namespace}/{key}", next_step=f"see `perdure shared list {namespace}`")


async def _overtaken(shared: "SharedMemory", namespace: str, key: str) -> Conflict:
    now = await shared.get(namespace, key)
    stands = "there is none" if now is None else f"it has version {now.version}"
    return Conflict(
        f"shared entry {namespace}/{key} is not as expected: {stands}; nothing was changed",
        next_step="read it again and decide anew",
    )
