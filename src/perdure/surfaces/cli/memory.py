"""`perdure memory`, `perdure search` and `perdure job similar`: what is remembered of past executions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from perdure.surfaces.cli.acting import id_of
from perdure.surfaces.cli.confirm import confirm
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import (
    AS_SET,
    AS_USUAL,
    CAREFUL,
    PAGING,
    Caution,
    Connection,
    Shown,
    moment,
)
from perdure.surfaces.cli.output import Listing, show_list, show_one, tell
from perdure.surfaces.cli.records import Record, flattened, record_of
from perdure.surfaces.cli.session import opened, settings_of
from perdure.surfaces.cli.tables import Column

if TYPE_CHECKING:
    from perdure.domain.execution_memory import ExecutionContext, MemoryStatus, SimilarExecution, Wanted

app = App(name="memory", help="Keep, see and rebuild the memory of past executions.")

COLUMNS = (
    Column("similarity", "ALIKE", right=True),
    Column("job_id", "JOB"),
    Column("outcome", "OUTCOME"),
    Column("kind", "KIND"),
    Column("settled_at", "ENDED"),
    Column("error", "ERROR", "red"),
    Column("fixed_by", "FIXED BY"),
)
CONTEXT_COLUMNS = (
    Column("run", "RUN", right=True),
    Column("attempt", "ATTEMPT", right=True),
    *COLUMNS[2:],
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Which:
    """Which past executions are looked for."""

    kind: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only of this kind."
    queue: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only of this queue."
    outcome: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only with this outcome, such as `failed`, `timed_out` or `completed`."
    worker: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only on the worker of this name."
    since: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only what ended later: `2h`, or an ISO time."
    until: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only what ended earlier: `2h`, or an ISO time."
    least: Annotated[float, Parameter(group=PAGING)] = 0.0
    "Only what is at least so alike, from 0 to 1."
    limit: Annotated[int, Parameter(group=PAGING)] = 10
    "Most executions."

    @property
    def wanted(self) -> "Wanted":
        from perdure.domain.execution_memory import Wanted, known_outcome

        return Wanted(
            kind=self.kind or "",
            queue=self.queue or "",
            outcome=known_outcome(self.outcome) if self.outcome else "",
            worker=self.worker or "",
            since=None if self.since is None else moment(self.since, "since"),
            until=None if self.until is None else moment(self.until, "until"),
            least=self.least,
        )


ANY_OF_THEM = Which()


async def search(
    text: str, /, *, which: Which = ANY_OF_THEM, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Find past executions by what went wrong, in words or as a whole error message: the most alike first, and what fixed them.

    Parameters
    ----------
    text
        What is looked for, such as "connection reset while resizing".
    """
    from perdure.domain.execution_memory import checked_question

    checked_question(text)
    async with opened(connection) as stores:
        service = await stores.memory.service()
        found = await service.search(text, which.wanted, limit=which.limit)
    show_similar(found, shown)


async def similar(
    job: str, /, *, which: Which = ANY_OF_THEM, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Find executions of other jobs that are like the last failure of this one, and what fixed them.

    Parameters
    ----------
    job
        Id of the job.
    """
    async with opened(connection) as stores:
        service = await stores.memory.service()
        found = await service.similar(id_of(job), which.wanted, limit=which.limit)
    show_similar(found, shown)


@app.command
async def status(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> Exit:
    """Show how much is remembered, where, by which embedder, and how far it is behind; exit code 10 when it cannot be asked."""
    async with opened(connection) as stores:
        found = await (await stores.memory.service()).status()
    show_one("perdure.memory/1", _status(found), shown, key="collection")
    return Exit.DONE if found.searchable else Exit.DEGRADED


@app.command
async def rebuild(
    *,
    fresh: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Have PostgreSQL's history read from its beginning again, by the leader of the workers.

    Parameters
    ----------
    fresh
        Drop what is remembered first. What is older than the history (`retention_days`) is then gone.
    """
    async with opened(connection) as stores:
        service = await stores.memory.service()
        now = await service.status()
        if not caution.dry_run:
            if fresh:
                confirm(
                    now.remembered,
                    "executions are to be forgotten",
                    yes=caution.yes,
                    one="execution is to be forgotten",
                )
            now = await service.rebuild(fresh=fresh)
    show_one("perdure.memory/1", _status(now), shown, key="collection")


@app.command
async def show(job: str, /, *, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """Show what is remembered of a job, the newest attempt first.

    Parameters
    ----------
    job
        Id of the job.
    """
    async with opened(connection) as stores:
        found = await (await stores.memory.service()).contexts(id_of(job))
    _show_contexts(found, shown)


@app.command
async def store(job: str, /, *, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """Remember the ended attempts of a job now, whatever the share; else the leader of the workers does so by itself.

    Parameters
    ----------
    job
        Id of the job.
    """
    async with opened(connection) as stores:
        found = await (await stores.memory.service()).store(id_of(job))
    _show_contexts(found, shown)


@app.command
def serve(*, port: int = 0, connection: Connection = AS_SET) -> int:
    """Run Qdrant's engine for the data folder, until Ctrl-C; for one machine, not the Qdrant server.

    Commands and workers with the same data folder find it. `perdure dev` runs it by itself.

    Parameters
    ----------
    port
        Port on 127.0.0.1; 0 takes a free one.
    """
    from perdure.runtime.vectors.serving import serving

    settings = settings_of(connection)
    folder = settings.data_dir.expanduser().absolute()
    with serving(folder, port=port) as found:
        tell(f"vectors of {folder} at {found.url}; Ctrl-C ends")
        return found.wait()


def show_similar(found: "Sequence[SimilarExecution]", shown: Shown) -> None:
    """Print executions with how alike they are."""
    show_list(
        Listing(
            schema="perdure.similar_executions/1",
            item="perdure.similar_execution/1",
            columns=COLUMNS,
            records=[_similar(each) for each in found],
            key="job_id",
        ),
        shown,
    )


def _show_contexts(found: "Sequence[ExecutionContext]", shown: Shown) -> None:
    records = [{**record_of(each), **_told(each)} for each in found]
    listing = Listing(
        schema="perdure.execution_contexts/1",
        item="perdure.execution_context/1",
        columns=CONTEXT_COLUMNS,
        records=records,
        key="token",
    )
    show_list(listing, shown)


def _similar(found: "SimilarExecution") -> Record:
    return {**flattened(record_of(found), "execution"), **_told(found.execution)}


def _told(context: "ExecutionContext") -> Record:
    from perdure.domain.execution_memory import fixed_by

    return {
        "settled_at": moment_of(context.settled_at),
        "error": error_of(context),
        "fixed_by": fixed_by(context),
    }


def error_of(context: "ExecutionContext") -> str:
    """The error in one line."""
    return f"{context.error_type}: {context.message}" if context.error_type else context.cause


def moment_of(seconds: float) -> Any:
    """The moment of a time in seconds."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)


def _status(found: "MemoryStatus") -> Record:
    state = "ok" if found.searchable else "degraded"
    return {"state": state, **record_of(found)}
