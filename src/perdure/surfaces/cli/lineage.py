"""`perdure db epochs`, `forgotten` and `adopt`: a database that went back in time, or was moved."""

from typing import Literal

from cyclopts import App

from perdure.surfaces.cli.confirm import confirm
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, CAREFUL, Caution, Connection, Shown
from perdure.surfaces.cli.output import Listing, show_list, show_one, tell
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.session import opened
from perdure.surfaces.cli.tables import Column

EPOCHS = (
    Column("number", "EPOCH", right=True),
    Column("state", "STATE"),
    Column("opened_at", "OPENED"),
    Column("released", "GIVEN BACK", right=True),
    Column("forgotten", "FORGOTTEN", right=True),
    Column("adopted_by", "ADOPTED BY"),
    Column("cause", "CAUSE"),
)
FORGOTTEN = (
    Column("job_id", "JOB"),
    Column("lost", "LOST"),
    Column("state", "STANDS"),
    Column("remembered_by", "REMEMBERED BY"),
    Column("told_at", "TOLD"),
)


async def epochs(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> Exit:
    """List the breaks of the database's time, the newest first; exit code 12 while one is not adopted."""
    async with opened(connection) as stores:
        views = await stores.lineage.epochs()
    records = [{**record_of(view), "state": "adopted" if view.adopted_at else "halted"} for view in views]
    show_list(
        Listing(
            schema="perdure.epochs/1", item="perdure.epoch/1", columns=EPOCHS, records=records, key="number"
        ),
        shown,
    )
    if not views:
        tell("the database has never gone back in time, as far as anybody saw")
    elif views[0].adopted_at is None:
        tell(
            "nothing runs until somebody adopts this database: see `perdure db forgotten`, then `perdure db adopt`"
        )
        return Exit.ROLLED_BACK
    return Exit.DONE


async def forgotten(
    epoch: int | None = None,
    *,
    lost: Literal["enqueue", "success"] | None = None,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List the jobs that workers and producers remember and the database forgot when an epoch opened.

    `enqueue`: it was stored, and is gone. `success`: it had succeeded, and the database does not know; if it is
    available, it will run again.

    Parameters
    ----------
    epoch
        Number of the epoch; by default the newest.
    lost
        Only those that lost this.
    """
    async with opened(connection) as stores:
        if epoch is None:
            epoch, _ = await stores.lineage.halted()
        views = await stores.lineage.forgotten(epoch)
    records = [record_of(view) for view in views if lost in (None, view.lost)]
    show_list(
        Listing(
            schema="perdure.forgotten/1",
            item="perdure.forgotten_job/1",
            columns=FORGOTTEN,
            records=records,
            key="job_id",
        ),
        shown,
    )


async def adopt(
    *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Go on with this database, though it went back in time or was moved; workers take up work by themselves.

    Where nothing was detected, this acknowledges a planned move: run it on the new database before workers are
    pointed at it. All workers start anew then, and what they ran is given back.
    """
    async with opened(connection) as stores:
        number, why = await stores.lineage.halted()
        if not caution.dry_run:
            alive = len(await stores.read.workers(alive_only=True))
            if why is None and alive:
                confirm(
                    alive,
                    "workers will lose what they run and start anew",
                    yes=caution.yes,
                    one="worker will lose what it runs and start anew",
                )
            number = await stores.lineage.adopt(actor=caution.actor, reason=caution.reason)
    show_one(
        "perdure.adoption/1",
        {"epoch": number, "cause": why or "a planned move", "changed": not caution.dry_run},
        shown,
        key="epoch",
    )


def add_to(app: App) -> None:
    """Make them commands of `app`."""
    for command in (epochs, forgotten, adopt):
        app.command(command)
