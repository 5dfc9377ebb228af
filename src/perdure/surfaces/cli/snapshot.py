"""`perdure snapshot`: save everything, check it, bring it back into an empty database."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.confirm import confirm
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, CAREFUL, Caution, Connection, Shown, moment
from perdure.surfaces.cli.output import Listing, on_terminal, show_list, show_one, tell
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.session import located, opened, settings_of
from perdure.surfaces.cli.tables import Column

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.domain.snapshot import Manifest
    from perdure.runtime.settings import Settings
    from perdure.services.snapshot import Progress, Reach, Snapshots

app = App(name="snapshot", help="Save everything, check it, and bring it back into an empty database.")

COLUMNS = (
    Column("id", "SNAPSHOT"),
    Column("state", "STATE"),
    Column("kind", "KIND"),
    Column("at", "AT"),
    Column("rows", "ROWS", right=True),
    Column("stored_bytes", "BYTES", right=True),
    Column("automatic", "AUTOMATIC"),
    Column("encrypted_with", "KEY"),
    Column("base", "BASE"),
)
DIFFERENCES = (
    Column("table", "TABLE"),
    Column("first", "FIRST", right=True),
    Column("second", "SECOND", right=True),
    Column("more", "MORE", right=True),
)
Place = Annotated[str | None, Parameter(name="--snapshots")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a snapshot is brought back to."""

    to_database: str | None = None
    "Another database than that of the settings."
    to_schema: str | None = None
    "Another schema; it is made if it is not there."
    fork: Annotated[bool, Parameter(negative="", show_default=False)] = False
    "Make a copy with a name of its own and all queues paused."
    at: str | None = None
    "In place of an id: what had been committed at this time; an ISO time, or how long ago (`2h`)."


HERE = Target()


@app.command
async def create(
    *,
    base: str | None = None,
    snapshots: Place = None,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Save everything that is committed now; nobody who works is held up.

    Parameters
    ----------
    base
        Save only what was written since this snapshot, or since the newest one (`newest`).
    snapshots
        Where they are kept: a folder, or `s3://bucket/prefix`.
    """
    with located(settings_of(connection, snapshots=snapshots)) as settings:
        service = _service(settings)
        if base == "newest":
            known = await service.list()
            if not known:
                raise InvalidOption("base", "there is no snapshot to build on", next_step="leave --base out")
            base = known[0].id
        manifest = await service.create(base=base, heard=_heard)
    show_one("perdure.snapshot/1", _record(manifest), shown)


@app.command(name="list")
async def list_(
    *,
    all: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    snapshots: Place = None,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List the snapshots, the newest first.

    Parameters
    ----------
    all
        Half ones, too: begun, and not ended.
    snapshots
        Where they are kept.
    """
    service = _service(settings_of(connection, snapshots=snapshots))
    records = [_record(manifest) for manifest in await service.list()]
    if all:
        records += [{"id": each.id, "state": "half"} for each in await service.half()]
    show_list(
        Listing(schema="perdure.snapshots/1", item="perdure.snapshot/1", columns=COLUMNS, records=records),
        shown,
    )


@app.command
async def show(
    snapshot: str, *, snapshots: Place = None, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Show one snapshot with its parts.

    Parameters
    ----------
    snapshot
        Its id.
    snapshots
        Where they are kept.
    """
    manifest = await _service(settings_of(connection, snapshots=snapshots)).get(snapshot)
    show_one("perdure.snapshot/1", {**_record(manifest), "parts": record_of(manifest)["parts"]}, shown)


@app.command
async def verify(
    snapshot: str, *, snapshots: Place = None, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Read a snapshot again, and those it builds on: every length, digest and number of rows. Exit code 4 names the part that is wrong, or the key that is missing.

    Where automatic snapshots are wanted, the database keeps when that was (`noted`), and an alert tells when it is a week ago.

    Parameters
    ----------
    snapshot
        Its id.
    snapshots
        Where they are kept.
    """
    from perdure.runtime.saving import note_verified

    settings = settings_of(connection, snapshots=snapshots)
    chain = await _service(settings).verify(snapshot, heard=_heard)
    record = {
        "id": snapshot,
        "state": "whole",
        "noted": await note_verified(settings),
        "read": [manifest.id for manifest in chain],
        "rows": sum(manifest.rows for manifest in chain),
        "stored_bytes": sum(manifest.stored_bytes for manifest in chain),
    }
    show_one("perdure.verified_snapshot/1", record, shown)


@app.command
async def diff(
    first: str,
    second: str,
    *,
    snapshots: Place = None,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Compare two full snapshots: how many rows each table had.

    Parameters
    ----------
    first
        Id of a full snapshot.
    second
        Id of another.
    snapshots
        Where they are kept.
    """
    found = await _service(settings_of(connection, snapshots=snapshots)).diff(first, second)
    show_list(
        Listing(
            schema="perdure.snapshot_difference/1",
            item="perdure.table_difference/1",
            columns=DIFFERENCES,
            records=[
                {"table": name, "first": rows[0], "second": rows[1], "more": rows[1] - rows[0]}
                for name, rows in found.rows.items()
            ],
            key="table",
        ),
        shown,
    )


@app.command
async def delete(
    snapshot: str,
    *,
    snapshots: Place = None,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Delete a snapshot, whole or half, on which no other builds.

    Parameters
    ----------
    snapshot
        Its id.
    snapshots
        Where they are kept.
    """
    service = _service(settings_of(connection, snapshots=snapshots))
    if not caution.dry_run:
        confirm(1, "snapshot is to be deleted for good", yes=caution.yes)
        await service.delete(snapshot)
    show_one(
        "perdure.deleted_snapshot/1",
        {"id": snapshot, "state": "kept" if caution.dry_run else "deleted"},
        shown,
    )


@app.command
async def restore(
    snapshot: str = "",
    *,
    target: Target = HERE,
    snapshots: Place = None,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Bring a snapshot back into an empty database or schema, whole or not at all; every file is checked first.

    What ran is available again. After the loss of a database, work goes on at once; a fork is a copy to look at, paused. With
    `--at` the history of the database of the settings leads from the newest snapshot to the last commit before that time; without
    that database the snapshot is brought back, and what lies between is told.

    Parameters
    ----------
    snapshot
        Its id.
    snapshots
        Where they are kept.
    """
    from perdure.stores.postgres.archive import PostgresArchive

    if bool(snapshot) == (target.at is not None):
        raise InvalidOption(
            "snapshot", "name a snapshot, or a time with --at", next_step="see `perdure snapshot list`"
        )
    with located(settings_of(connection, snapshots=snapshots)) as settings:
        into = PostgresArchive(
            target.to_database or settings.database_url.get_secret_value(),
            schema=target.to_schema or settings.schema,
        )
        service = _service(settings)
        at = None if target.at is None else moment(target.at, "at")
        if caution.dry_run:
            reach = None if at is None else await service.reach(at)
            chain = await service.verify(reach.snapshot.id if reach else snapshot, heard=_heard)
            into.refuse_newer(chain[-1])
            told = {"id": chain[-1].id, "state": "could be restored", **(_reached(reach) if reach else {})}
            show_one("perdure.restored_snapshot/1", told, shown)
            return
        if at is None:
            done = await service.restore(snapshot, into, fork=target.fork, actor=caution.actor, heard=_heard)
        else:
            done = await service.recover(at, into, fork=target.fork, actor=caution.actor, heard=_heard)
            _tell_gap(at=done.at, gap_s=done.gap_s, why=done.why)
    record = {"id": done.snapshot, "state": "restored", **record_of(done)}
    show_one("perdure.restored_snapshot/1", record, shown)


@app.command
async def auto(
    *,
    every: str | None = None,
    keep: int = 24,
    off: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Have the leader of the workers take snapshots by itself; without options, show what is set.

    Parameters
    ----------
    every
        How often, such as `1h`.
    keep
        How many automatic ones are kept; those taken by hand are never deleted.
    off
        Take none any more.
    """
    from perdure.runtime.saving import policy_of
    from perdure.stores.postgres.archive import PostgresPolicy

    if off and every is not None:
        raise InvalidOption("off", "say --every or --off, not both")
    async with opened(connection) as stores:
        policy = PostgresPolicy(stores.database, schema=settings_of(connection).schema)
        if off:
            await policy.drop()
        elif every is not None:
            await policy.set(policy_of(parse_duration(every, "every"), keep), actor=caution.actor)
        found = await policy.get()
    record: Record = {"state": "on" if found else "off"}
    if found:
        record |= {"every_s": found.every.total_seconds(), "keep": found.keep}
    show_one("perdure.snapshot_policy/1", record, shown, key="state")


def _service(settings: "Settings") -> "Snapshots":
    from perdure.runtime.saving import snapshots_of

    return snapshots_of(settings)


def _reached(reach: "Reach") -> Record:
    _tell_gap(at=reach.at, gap_s=reach.gap_s, why=reach.why)
    return {
        "at": reach.at,
        "asked": reach.asked,
        "gap_s": reach.gap_s,
        "why": reach.why,
        "from_history": reach.recorded is not None,
    }


def _tell_gap(*, at: "datetime", gap_s: float, why: str) -> None:
    if why:
        tell(f"the {gap_s:.1f} s from {at.isoformat()} to the time asked for are lost; {why}")
    else:
        tell(f"to the last commit before {at.isoformat()}, {gap_s:.1f} s before the time asked for")


def _heard(progress: "Progress") -> None:
    if on_terminal():
        tell(f"  {progress.parts} of {progress.of_parts} parts, {progress.rows} rows: {progress.part}")


def _record(manifest: "Manifest") -> Record:
    record = record_of(manifest)
    for name in ("parts", "days", "cut", "format", "encryption"):
        del record[name]
    return {
        "id": record.pop("id"),
        "state": "whole",
        "rows": manifest.rows,
        "stored_bytes": manifest.stored_bytes,
        "encrypted_with": manifest.encryption and manifest.encryption.key,
        **record,
    }
