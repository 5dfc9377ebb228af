"""`perdure dlq`: see what gave up, replay it or discard it."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from cyclopts import App, Parameter

from perdure.domain.errors import InvalidOption, NotFound
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
    PAGING,
    Caution,
    Connection,
    Matching,
    Moment,
    Page,
    Selection,
    Shown,
)
from perdure.surfaces.cli.output import Listing, show_list, show_one
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.session import opened
from perdure.surfaces.cli.tables import Column
from perdure.surfaces.cli.unserved import tell_if_unserved

app = App(name="dlq", help="See what gave up, replay or discard it.")

GROUP_COLUMNS = (
    Column("fingerprint", "FINGERPRINT"),
    Column("count", "COUNT", right=True),
    Column("kinds", "KINDS"),
    Column("queues", "QUEUES"),
    Column("last_at", "LAST"),
    Column("cause", "CAUSE"),
    Column("error.type", "ERROR"),
    Column("error.message", "MESSAGE"),
)
COLUMNS = (
    Column("job_id", "JOB"),
    Column("kind", "KIND"),
    Column("queue", "QUEUE"),
    Column("dead_at", "DIED"),
    Column("attempt", "ATTEMPT", right=True),
    Column("outcome", "OUTCOME"),
    Column("fingerprint", "FINGERPRINT"),
    Column("cause", "CAUSE"),
    Column("error.type", "ERROR"),
    Column("error.message", "MESSAGE"),
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many dead letters are replayed, and how fast."""

    sample: Annotated[int | None, Parameter(group=PAGING)] = None
    "Only the newest that many of those that match."
    rate: Annotated[float | None, Parameter(group=PAGING)] = None
    "Start so many per second; they are scheduled ahead, and nobody has to stay connected."


ALL_AT_ONCE = Pace()


@app.command
async def groups(
    *terms: str,
    page: Page = FIRST_PAGE,
    selection: Selection = ANY,
    moment: Moment = NOW,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List the dead letters by cause, the largest group first.

    Parameters
    ----------
    terms
        A filter, such as `kind:send* since:2h`.
    """
    async with opened(connection) as stores:
        found = await stores.read.groups(selection.terms(" ".join(terms)), limit=page.limit, as_of=moment.at)
    show_list(
        Listing(
            schema="perdure.dead_letter_groups/1",
            item="perdure.dead_letter_group/1",
            columns=GROUP_COLUMNS,
            records=[record_of(group) for group in found],
            key="fingerprint",
        ),
        shown,
    )


@app.command(name="list")
async def list_(
    *terms: str,
    page: Page = FIRST_PAGE,
    selection: Selection = ANY,
    moment: Moment = NOW,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List the dead letters, the newest first.

    Parameters
    ----------
    terms
        A filter, such as `fingerprint:ab12` or `kind:send* since:2h`.
    """
    async with opened(connection) as stores:
        found = await stores.read.dead_letters(
            selection.terms(" ".join(terms)), limit=page.limit, cursor=page.cursor, as_of=moment.at
        )
    show_list(
        Listing(
            schema="perdure.dead_letters/1",
            item="perdure.dead_letter/1",
            columns=COLUMNS,
            records=[record_of(letter) for letter in found.letters],
            key="job_id",
            next_cursor=found.cursor,
            note=found.note,
        ),
        shown,
    )


@app.command
async def show(
    job: str, *, moment: Moment = NOW, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Show one dead letter with its error and its arguments.

    Parameters
    ----------
    job
        Id of the job.
    """
    job_id = id_of(job)
    async with opened(connection) as stores:
        page = await stores.read.dead_letters(f"id:{job_id}", limit=1, as_of=moment.at)
    if not page.letters:
        raise NotFound("dead letter", job_id, next_step="see `perdure dlq list`")
    show_one("perdure.dead_letter/1", record_of(page.letters[0]), shown, key="job_id")


@app.command
async def replay(
    *jobs: str,
    matching: Matching = NOTHING,
    pace: Pace = ALL_AT_ONCE,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Give dead letters a new run.

    Parameters
    ----------
    jobs
        Ids of jobs.
    """
    one_selection(jobs, matching.text)
    async with opened(connection) as stores:
        every = partial(stores.act.replay, matching.text, sample=pace.sample, rate=pace.rate)
        done = await on_chosen(jobs, stores.act.replay, every, caution, shown)
        for job in jobs[:1]:
            await tell_if_unserved(stores, id_of(job))
    return done


@app.command
async def discard(
    *jobs: str,
    matching: Matching = NOTHING,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Take dead letters out of the queue for good; their history stays. Needs --reason.

    Parameters
    ----------
    jobs
        Ids of jobs.
    """
    one_selection(jobs, matching.text)
    if not caution.reason.strip():
        raise InvalidOption(
            "reason", "say why, for those who look for the jobs later", next_step="add --reason '...'"
        )
    async with opened(connection) as stores:
        every = partial(stores.act.discard, matching.text)
        return await on_chosen(jobs, stores.act.discard, every, caution, shown)
