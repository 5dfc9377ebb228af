"""`perdure db`: migrate the database, see its schema, check the promises."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.confirm import confirm
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.lineage import add_to
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, CAUTION, Connection, Shown
from perdure.surfaces.cli.output import Listing, show_list, tell, write
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.session import located, settings_of
from perdure.surfaces.cli.tables import Column

if TYPE_CHECKING:
    from perdure.runtime.settings import Settings

app = App(name="db", help="Migrate and check the database.")
add_to(app)

COLUMNS = (Column("name", "MIGRATION"), Column("state", "STATE"))
PROMISES = (
    Column("promise", "PROMISE"),
    Column("state", "STATE"),
    Column("looked", "LOOKED AT", right=True),
    Column("violations", "BROKEN", right=True),
    Column("meaning", "MEANING"),
    Column("examples", "EXAMPLES", "red"),
)
DryRun = Annotated[bool, Parameter(negative="", show_default=False, group=CAUTION)]
Drained = Annotated[bool, Parameter(negative="", show_default=False)]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", show_default=False, group=CAUTION)]


@app.command
async def migrate(
    *, dry_run: DryRun = False, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Apply the migrations that the database lacks, and print their names.

    Parameters
    ----------
    dry_run
        Only print what would be applied.
    """
    from perdure.stores.postgres.migrations import migrate as apply

    with located(settings_of(connection)) as settings:
        if dry_run:
            names = await _missing(settings)
        else:
            names = await apply(settings.database_url.get_secret_value(), schema=settings.schema)
        _show(names, "missing" if dry_run else "applied", shown)
        if not names:
            tell("nothing to do: the schema is current")


@app.command
async def rollback(
    *,
    to: int,
    dry_run: DryRun = False,
    yes: Yes = False,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Undo the migrations above a number, newest first; what their tables hold is lost.

    Parameters
    ----------
    to
        Number of the last migration that stays; 0 undoes all.
    dry_run
        Only print what would be undone.
    yes
        Do it without asking.
    """
    from perdure.stores.postgres.migrations import migrations
    from perdure.stores.postgres.migrations import rollback as undo

    if to < 0:
        raise InvalidOption("to", "must be 0 or the number of a migration")
    with located(settings_of(connection)) as settings:
        lacking = await _missing(settings)
        names = [
            m.name for m in reversed(migrations(settings.schema)) if m.number > to and m.name not in lacking
        ]
        if not dry_run and names:
            confirm(
                len(names),
                "migrations will be undone, with the data of their tables",
                yes=yes,
                one="migration will be undone, with the data of its tables",
            )
            names = await undo(settings.database_url.get_secret_value(), to=to, schema=settings.schema)
        _show(names, "applied" if dry_run else "undone", shown)


@app.command
async def status(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> Exit:
    """List the migrations, applied and missing; exit code 10 when some are missing."""
    from perdure.stores.postgres.migrations import migrations

    with located(settings_of(connection)) as settings:
        lacking = await _missing(settings)
        records = [
            {"name": each.name, "state": "missing" if each.name in lacking else "applied"}
            for each in migrations(settings.schema)
        ]
    show_list(_listing(records), shown)
    if lacking:
        tell("run `perdure db migrate`")
    return Exit.DEGRADED if lacking else Exit.DONE


@app.command
def sql(*, connection: Connection = AS_SET) -> None:
    """Print what `migrate` runs on an empty database, as one script for psql; needs no server."""
    from perdure.stores.postgres.migrations import plain_sql

    write(plain_sql(settings_of(connection).schema).rstrip())


@app.command
async def roles(*, apply: bool = False, connection: Connection = AS_SET) -> None:
    """Print the script for psql that makes least-privilege roles for producers, workers and readers; needs no server.

    Parameters
    ----------
    apply
        Run it, as the owner of the tables, instead; again after each `perdure db migrate`.
    """
    from perdure.stores.postgres.roles import apply_roles, roles_sql

    if not apply:
        write(roles_sql(settings_of(connection).schema).rstrip())
        return
    with located(settings_of(connection)) as settings:
        names = await apply_roles(settings.database_url.get_secret_value(), schema=settings.schema)
    tell(f"roles are there: {', '.join(names)}; grant them to users that log in")


@app.command
async def check(*, drained: bool = False, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> Exit:
    """Check the promises S1 to S7 against the history; exit code 1 when one is broken.

    Parameters
    ----------
    drained
        By now all work should be done: check L1 too, that no job is left which nothing holds back.
    """
    from perdure.runtime.wiring import connected

    with located(settings_of(connection)) as settings:
        async with connected(settings, redis=False) as stores:
            report = await stores.check.run(
                crash_limit=settings.crash_limit,
                interruption_limit=settings.interruption_limit,
                drained=drained,
            )
    records = [
        {"promise": verdict.promise, "state": "ok" if verdict.ok else "broken", **record_of(verdict)}
        for verdict in report.verdicts
    ]
    show_list(
        Listing(
            schema="perdure.promises/1",
            item="perdure.promise/1",
            columns=PROMISES,
            records=records,
            key="promise",
        ),
        shown,
    )
    return Exit.DONE if report.ok else Exit.FAILED


async def _missing(settings: "Settings") -> list[str]:
    from perdure.stores.postgres.connections import connect
    from perdure.stores.postgres.migrations import missing

    connection = await connect(settings.database_url.get_secret_value(), application_name="perdure db")
    try:
        return await missing(connection, schema=settings.schema)
    finally:
        await connection.close()


def _show(names: list[str], state: str, shown: Shown) -> None:
    show_list(_listing([{"name": name, "state": state} for name in names]), shown)


def _listing(records: list[dict[str, str]]) -> Listing:
    return Listing(
        schema="perdure.migrations/1",
        item="perdure.migration/1",
        columns=COLUMNS,
        records=records,
        key="name",
    )
