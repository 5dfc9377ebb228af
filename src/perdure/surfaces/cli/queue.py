"""`perdure queue`: see queues, pause and resume them."""

from cyclopts import App

from perdure.domain.views import QueueView
from perdure.surfaces.cli.acting import show_report
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import (
    AS_SET,
    AS_USUAL,
    CAREFUL,
    NOW,
    ONCE,
    Caution,
    Connection,
    Moment,
    Shown,
    Watch,
)
from perdure.surfaces.cli.output import Listing, show_list, show_one
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.repeat import repeated
from perdure.surfaces.cli.session import opened
from perdure.surfaces.cli.tables import Column

app = App(name="queue", help="See queues, pause and resume them.")

COLUMNS = (
    Column("name", "QUEUE"),
    Column("state", "STATE"),
    Column("depths.available", "AVAILABLE", right=True),
    Column("depths.running", "RUNNING", right=True),
    Column("depths.scheduled", "SCHEDULED", right=True),
    Column("depths.retryable", "RETRYABLE", right=True),
    Column("oldest_available_s", "OLDEST S", right=True),
    Column("workers", "WORKERS", right=True),
    Column("unserved", "UNSERVED", "yellow"),
)


@app.command(name="list")
async def list_(
    *,
    moment: Moment = NOW,
    watch: Watch = ONCE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List the queues with what waits in them and who serves them."""
    async with opened(connection) as stores:
        async for _ in repeated(watch.interval):
            records = [_record(queue) for queue in await stores.read.queues(as_of=moment.at)]
            show_list(
                Listing(
                    schema="perdure.queues/1",
                    item="perdure.queue/1",
                    columns=COLUMNS,
                    records=records,
                    key="name",
                ),
                shown,
            )


@app.command
async def show(
    name: str, *, moment: Moment = NOW, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Show one queue: depths, lanes, kinds, and which of them nobody serves.

    Parameters
    ----------
    name
        Name of the queue.
    """
    async with opened(connection) as stores:
        queue = (await stores.read.queues(name, as_of=moment.at))[0]
    show_one("perdure.queue/1", _record(queue), shown, key="name")


@app.command
async def pause(
    name: str, *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> Exit:
    """Let nobody claim from a queue; what runs goes on.

    Parameters
    ----------
    name
        Name of the queue.
    """
    async with opened(connection) as stores:
        report = await stores.act.pause(
            name, actor=caution.actor, reason=caution.reason, dry_run=caution.dry_run
        )
    return show_report(report, shown)


@app.command
async def resume(
    name: str, *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> Exit:
    """Let a paused queue be claimed from again.

    Parameters
    ----------
    name
        Name of the queue.
    """
    async with opened(connection) as stores:
        report = await stores.act.resume(
            name, actor=caution.actor, reason=caution.reason, dry_run=caution.dry_run
        )
    return show_report(report, shown)


def _record(queue: QueueView) -> Record:
    return {"name": queue.name, "state": "paused" if queue.paused else "open", **record_of(queue)}
