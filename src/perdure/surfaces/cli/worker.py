"""`perdure worker`: run workers, see them, let them finish."""

from typing import Annotated

from cyclopts import App, Group, Parameter

from perdure.domain.errors import InvalidOption
from perdure.domain.views import WorkerView
from perdure.surfaces.cli import evacuation, outlook
from perdure.surfaces.cli.acting import on_each, show_report
from perdure.surfaces.cli.anomalies import anomalies
from perdure.surfaces.cli.confirm import confirm
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
from perdure.surfaces.cli.output import Listing, show_list, show_one, tell
from perdure.surfaces.cli.records import Record, flattened, record_of
from perdure.surfaces.cli.repeat import repeated
from perdure.surfaces.cli.session import application_of, located, opened, settings_of
from perdure.surfaces.cli.tables import Column
from perdure.surfaces.cli.trying import unserved_queues

app = App(name="worker", help="Run workers, and see them.")

CAPACITY = Group("Capacity", sort_key=10)
COLUMNS = (
    Column("id", "WORKER"),
    Column("name", "NAME"),
    Column("host", "HOST"),
    Column("pid", "PID", right=True),
    Column("state", "STATE"),
    Column("queues", "QUEUES"),
    Column("running", "RUNNING", right=True),
    Column("capacity", "CAPACITY", right=True),
    Column("silent_s", "SILENT S", right=True),
    Column("cause", "CAUSE"),
)


@app.command
async def run(
    application: str | None = None,
    /,
    *,
    queues: Annotated[str | None, Parameter(group=CAPACITY)] = None,
    processes: Annotated[int | None, Parameter(group=CAPACITY)] = None,
    concurrency: Annotated[int | None, Parameter(group=CAPACITY)] = None,
    connection: Connection = AS_SET,
    verbose: Annotated[
        tuple[bool, ...], Parameter(name=["--verbose", "-v"], negative="", show_default=False)
    ] = (),
) -> int:
    """Run a worker until it is stopped; Ctrl-C or SIGTERM lets it finish what it runs.

    Parameters
    ----------
    application
        Where the jobs are: `module`, `module:attribute`, `file.py` or `file.py:attribute`; else the setting `app`.
    queues
        Queues that it serves, separated by commas.
    processes
        Child processes.
    concurrency
        Async jobs that one process runs at a time.
    verbose
        Log more; twice: a traceback with an error.
    """
    from perdure.runtime.supervisor import run_worker

    level = "debug" if len(verbose) else None
    settings = settings_of(
        connection, queues=queues, processes=processes, concurrency=concurrency, log_level=level
    )
    found = application_of(application, settings)
    for caution in settings.cautions:
        tell(f"warning: {caution}")
    with located(settings) as settings_with_database:
        for left_out in await unserved_queues(found, settings_with_database):
            tell(f"warning: {left_out}")
        return await run_worker(settings_with_database, found)


@app.command(name="list")
async def list_(
    *,
    all: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    moment: Moment = NOW,
    watch: Watch = ONCE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List the workers that live, the newest first.

    Parameters
    ----------
    all
        Those that have ended, too.
    """
    async with opened(connection) as stores:
        async for _ in repeated(watch.interval):
            workers = await stores.read.workers(alive_only=not all, as_of=moment.at)
            show_list(
                Listing(
                    schema="perdure.workers/1",
                    item="perdure.worker/1",
                    columns=COLUMNS,
                    records=[_record(worker) for worker in workers],
                ),
                shown,
            )


@app.command
async def show(
    worker: str, *, moment: Moment = NOW, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Show one worker.

    Parameters
    ----------
    worker
        Its id or its name.
    """
    async with opened(connection) as stores:
        view = await stores.read.worker(worker, as_of=moment.at)
    show_one("perdure.worker/1", _record(view), shown)


@app.command
async def drain(
    worker: str | None = None,
    *,
    all: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Ask a worker to finish what it runs, to take nothing new, and to end.

    Parameters
    ----------
    worker
        Its id or its name.
    all
        Every worker that lives.
    """
    if (worker is None) is not all:
        raise InvalidOption("worker", "name one worker, or --all", next_step="see `perdure worker list`")
    async with opened(connection) as stores:
        if worker is not None:
            view = await stores.read.worker(worker)
            report = await stores.act.drain(
                view.worker.id, actor=caution.actor, reason=caution.reason, dry_run=caution.dry_run
            )
            return show_report(report, shown)
        ids = [view.worker.id for view in await stores.read.workers(alive_only=True)]
        if not caution.dry_run:
            confirm(
                len(ids),
                "workers will finish what they run and end",
                yes=caution.yes,
                one="worker will finish what it runs and end",
            )
        return await on_each(ids, stores.act.drain, caution, shown)


for command in (
    evacuation.cordon,
    evacuation.uncordon,
    evacuation.evacuate,
    anomalies,
    outlook.predict,
    outlook.health,
):
    app.command(command)


def _record(view: WorkerView) -> Record:
    record = flattened(record_of(view), "worker")
    state = "cordoned" if view.worker.cordoned and record["state"] == "active" else record["state"]
    return {**record, "state": "suspect" if view.suspect else state}
