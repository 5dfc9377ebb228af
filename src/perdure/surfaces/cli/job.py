"""`perdure job`: enqueue jobs, see, explain, retry and cancel them."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Annotated
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from perdure.domain.durations import parse_duration
from perdure.domain.errors import JobFailed, NotFound, ResultTimeout
from perdure.domain.job import TERMINAL, JobState
from perdure.domain.redaction import without_passwords
from perdure.domain.views import JobDetail, ResultView
from perdure.surfaces.cli.acting import id_of, on_chosen, one_selection
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import (
    ANY,
    AS_SET,
    AS_USUAL,
    CAREFUL,
    FIRST_PAGE,
    NOTHING,
    NOW,
    ONCE,
    PAGING,
    Caution,
    Connection,
    Matching,
    Moment,
    Page,
    Selection,
    Shown,
    Watch,
)
from perdure.surfaces.cli.output import Listing, show_list, show_one, write
from perdure.surfaces.cli.records import Record, flattened, record_of
from perdure.surfaces.cli.repeat import repeated
from perdure.surfaces.cli.session import opened, settings_of
from perdure.surfaces.cli.tables import Column
from perdure.surfaces.cli.unserved import tell_if_unserved

app = App(name="job", help="Enqueue jobs, see, explain, retry and cancel them.")
app.command("perdure.surfaces.cli.enqueue:enqueue", name="enqueue", help="Enqueue one job, and print its id.")
app.command(
    "perdure.surfaces.cli.memory:similar",
    name="similar",
    help="Find executions like this job's, and what fixed them.",
)

COLUMNS = (
    Column("id", "JOB"),
    Column("state", "STATE"),
    Column("kind", "KIND"),
    Column("queue", "QUEUE"),
    Column("priority", "PRI", right=True),
    Column("attempt", "ATTEMPT", right=True),
    Column("since", "SINCE"),
    Column("worker", "WORKER"),
    Column("error", "ERROR", "red"),
)
REASONS = (Column("hold", "HOLD"), Column("sentence", "WHY"))
ResultOf = Callable[[UUID], Awaitable[ResultView | None]]
FIRST_LOOK_S = 0.05
LAST_LOOK_S = 0.5


@app.command(name="list")
async def list_(
    *terms: str,
    page: Page = FIRST_PAGE,
    selection: Selection = ANY,
    moment: Moment = NOW,
    watch: Watch = ONCE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List jobs, the newest first.

    Parameters
    ----------
    terms
        A filter, such as `state:failed kind:send* args.user_id:42 error~timeout`.
    """
    async with opened(connection) as stores:
        async for _ in repeated(watch.interval):
            found = await stores.read.jobs(
                selection.terms(" ".join(terms)), limit=page.limit, cursor=page.cursor, as_of=moment.at
            )
            show_list(
                Listing(
                    schema="perdure.jobs/1",
                    item="perdure.job_summary/1",
                    columns=COLUMNS,
                    records=[record_of(job) for job in found.jobs],
                    next_cursor=found.cursor,
                    note=found.note,
                ),
                shown,
            )


@app.command
async def show(
    job: str,
    *,
    moment: Moment = NOW,
    watch: Watch = ONCE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Show one job in full: attempts, dependencies, events, result.

    Parameters
    ----------
    job
        Id of the job.
    """
    job_id = id_of(job)
    async with opened(connection) as stores:
        async for _ in repeated(watch.interval):
            show_one("perdure.job/1", _detail(await stores.read.job(job_id, as_of=moment.at)), shown)


@app.command
async def explain(
    job: str, *, moment: Moment = NOW, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Say why a job does not run.

    Parameters
    ----------
    job
        Id of the job.
    """
    async with opened(connection) as stores:
        found = await stores.read.explain(id_of(job), as_of=moment.at)
    if shown.format in {"json", "ndjson"}:
        show_one("perdure.explanation/1", record_of(found), shown, key="job_id")
        return
    show_list(
        Listing(
            schema="perdure.explanation/1",
            item="perdure.reason/1",
            columns=REASONS,
            records=[record_of(reason) for reason in found.reasons],
            key="hold",
        ),
        shown,
    )


@app.command
async def wait(
    job: str, *, timeout: str = "1h", connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Wait until a job has ended, and print its result; exit code 1 when it failed, 7 when the time is up.

    Parameters
    ----------
    job
        Id of the job.
    timeout
        The longest wait, such as `30s`.
    """
    from perdure.runtime.sealing import opened as unsealed

    job_id, limit = id_of(job), parse_duration(timeout, "timeout")
    async with opened(connection) as stores:
        await tell_if_unserved(stores, job_id)
        found = await _ended(stores.read.result_of, job_id, limit)
    ended = unsealed(found, job_id, settings_of(connection).keyring)
    if ended.state is not JobState.COMPLETED:
        error = f"{ended.error.type}: {ended.error.message}" if ended.error else ended.cause
        failed = JobFailed(job_id, ended.state, without_passwords(error or "no error was recorded"))
        failed.next_step = f"see `perdure job show {job_id}`; `perdure job retry {job_id}` gives it a new run"
        raise failed
    if shown.format == "auto":
        write(ended.result or "null")
        return
    record: Record = {"id": job_id, "state": ended.state, "result": raw_json(ended.result)}
    show_one("perdure.result/1", record, shown)


@app.command
async def retry(
    *jobs: str,
    matching: Matching = NOTHING,
    most: Annotated[int | None, Parameter(group=PAGING)] = None,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Start jobs again now that wait for a retry, were cancelled, or gave up.

    Parameters
    ----------
    jobs
        Ids of jobs.
    most
        At most so many of those that match.
    """
    one_selection(jobs, matching.text)
    async with opened(connection) as stores:
        every = partial(stores.act.retry_matching, matching.text, most=most)
        done = await on_chosen(jobs, stores.act.retry, every, caution, shown)
        for job in jobs[:1]:
            await tell_if_unserved(stores, id_of(job))
    return done


@app.command
async def cancel(
    *jobs: str,
    matching: Matching = NOTHING,
    most: Annotated[int | None, Parameter(group=PAGING)] = None,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Cancel jobs that wait, and ask the workers of running ones to stop them.

    Parameters
    ----------
    jobs
        Ids of jobs.
    most
        At most so many of those that match.
    """
    one_selection(jobs, matching.text)
    async with opened(connection) as stores:
        every = partial(stores.act.cancel_matching, matching.text, most=most)
        return await on_chosen(jobs, stores.act.cancel, every, caution, shown)


async def _ended(result_of: ResultOf, job_id: UUID, limit: timedelta) -> ResultView:
    """The end of a job, looked for less and less often. Raises NotFound and ResultTimeout."""
    import asyncio

    until, pause = time.monotonic() + limit.total_seconds(), FIRST_LOOK_S
    while True:
        view = await result_of(job_id)
        if view is None:
            raise NotFound("job", job_id, next_step="see `perdure job list`")
        if view.state in TERMINAL:
            return view
        left = until - time.monotonic()
        if left <= 0:
            raise ResultTimeout(
                f"job {job_id} is still {view.state} after {limit.total_seconds():g} s; it goes on",
                next_step=f"see `perdure job explain {job_id}`",
            )
        await asyncio.sleep(min(pause, left))
        pause = min(LAST_LOOK_S, pause * 1.5)


def _detail(detail: JobDetail) -> Record:
    return flattened(record_of(detail), "job")


def raw_json(text: str | None) -> msgspec.Raw | None:
    """JSON text as it goes into a document."""
    return None if text is None else msgspec.Raw(text.encode())
