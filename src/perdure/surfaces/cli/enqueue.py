"""`perdure job enqueue`: one job from the command line."""

import secrets
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
from cyclopts import Group, Parameter

from perdure.domain.bounds import (
    OnDuplicate,
    checked_count,
    checked_labels,
    checked_name,
    checked_parent_failure,
    checked_priority,
    checked_timeout,
)
from perdure.domain.durations import parse_duration
from perdure.domain.errors import DuplicateJob, InvalidArguments, InvalidOption, PayloadTooLarge
from perdure.domain.ids import JobIds
from perdure.domain.job import DEFAULT_PRIORITY, DEFAULT_RETRIES, LIVE, Dependency, JobId, NewJob, UniqueRule
from perdure.runtime.wiring import connected
from perdure.surfaces.cli.acting import id_of
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, Connection, Shown, moment
from perdure.surfaces.cli.output import Listing, show_list, tell, write
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.session import located, settings_of
from perdure.surfaces.cli.tables import Column

JOB = Group("Job", sort_key=10)
COLUMNS = (Column("job_id", "JOB"), Column("disposition", "DISPOSITION"))
new_job_id = JobIds(lambda: time.time_ns() // 1_000_000, secrets.randbits)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class What:
    """What a job is given."""

    args: Annotated[str, Parameter(group=JOB, allow_leading_hyphen=True)] = "{}"
    "Arguments by parameter name, as a JSON object; `@FILE` reads them from a file, `-` from stdin."
    id: Annotated[str | None, Parameter(group=JOB)] = None
    "Id of the job, a UUID version 7; a repeated call with the same id enqueues once."
    dry_run: Annotated[bool, Parameter(negative="", show_default=False, group=JOB)] = False
    "Check everything that can be checked here, and enqueue nothing."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class When:
    """When a job may start, and after what."""

    delay: Annotated[str | None, Parameter(group=JOB)] = None
    "Start no sooner than this from now, such as `10m`."
    run_at: Annotated[str | None, Parameter(group=JOB)] = None
    "Start no sooner than then: an ISO time."
    depends_on: Annotated[list[str] | None, Parameter(group=JOB, negative="")] = None
    "Id of a job that must complete before; may be given again."
    on_parent_failure: Annotated[str, Parameter(group=JOB)] = "hold"
    "What to do when such a job does not complete: hold, cancel or run."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class How:
    """How a job is treated."""

    queue: Annotated[str, Parameter(group=JOB)] = "default"
    "Queue that it waits in."
    priority: Annotated[int, Parameter(group=JOB)] = DEFAULT_PRIORITY
    "From 1 to 5, the highest."
    retries: Annotated[int, Parameter(group=JOB)] = DEFAULT_RETRIES
    "Attempts after the first that fails."
    timeout: Annotated[str | None, Parameter(group=JOB)] = "5m"
    "Longest run of one attempt; `none` for no limit."
    labels: Annotated[list[str] | None, Parameter(group=JOB, negative="")] = None
    "Label that a worker must have; may be given again."
    unique_key: Annotated[str | None, Parameter(group=JOB)] = None
    "Refuse the job while another holds this key."
    unique_for: Annotated[str | None, Parameter(group=JOB)] = None
    "Let go of the key after this time at the latest."
    on_duplicate: Annotated[OnDuplicate, Parameter(group=JOB)] = "raise"
    "When another job holds the key: fail, or print that job's id."
    concurrency_key: Annotated[str | None, Parameter(group=JOB)] = None
    "Run only so many jobs of this key at a time."
    concurrency_limit: Annotated[int, Parameter(group=JOB)] = 1
    "How many."


EMPTY = What()
AT_ONCE = When()
AS_ALWAYS = How()


async def enqueue(
    kind: str,
    *,
    what: What = EMPTY,
    how: How = AS_ALWAYS,
    when: When = AT_ONCE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Enqueue one job, and print its id.

    Parameters
    ----------
    kind
        Name of the kind, as `@job` gives it: the function's module and name, such as `app.resize`.
    """
    settings = settings_of(connection)
    job_id = JobId(id_of(what.id)) if what.id else new_job_id()
    text = arguments(what.args, most=settings.max_payload_bytes)
    job = new_job(kind, job_id, text, how, when)
    if what.dry_run:
        tell("nothing was enqueued: this was a dry run")
        record = {"job_id": job.id, "disposition": "dry run", "holder": None}
        _show(record, shown)
        return Exit.DONE
    with located(settings) as found:
        async with connected(found) as stores:
            try:
                enqueued, places = await stores.jobs.enqueue_placed([job], on_duplicate=how.on_duplicate)
            except DuplicateJob as error:
                error.next_step = "add --on-duplicate return to get the other job's id instead"
                raise
            await stores.dispatch.announce(places)
    _show(record_of(enqueued[0]), shown, printed=enqueued[0].holder)
    return Exit.DONE


def new_job(kind: str, job_id: JobId, args: str, how: How, when: When) -> NewJob:
    """The job that the options describe. Raises InvalidOption."""
    if when.delay is not None and when.run_at is not None:
        raise InvalidOption("run_at", "give a delay or a time, not both")
    return NewJob(
        id=job_id,
        queue=checked_name(how.queue, "queue"),
        kind=checked_name(kind, "kind"),
        args=args,
        priority=checked_priority(how.priority),
        max_attempts=checked_count(how.retries, "retries", low=0) + 1,
        timeout=checked_timeout(None if how.timeout in {None, "none"} else how.timeout),
        labels=checked_labels(how.labels or ()),
        run_at=_time(when.run_at),
        delay=parse_duration(when.delay, "delay") if when.delay else None,
        depends_on=_parents(when),
        unique=_unique(how),
        concurrency_key=how.concurrency_key and checked_name(how.concurrency_key, "concurrency_key"),
        concurrency_limit=checked_count(how.concurrency_limit, "concurrency_limit", low=1),
    )


def arguments(text: str, *, most: int) -> str:
    """Arguments as JSON text of one object, read from a file or stdin where that is asked for."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArguments("args", f"{text[1:]} cannot be read: {error}") from None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        why = f"not valid JSON: {error}"
        raise InvalidArguments("args", why, next_step="""write --args '{"name": 1}'""") from None
    if not isinstance(value, dict):
        raise InvalidArguments("args", "must be a JSON object", next_step="""write --args '{"name": 1}'""")
    if len(text.encode()) > most:
        raise PayloadTooLarge("args", f"{len(text.encode())} bytes of JSON; the limit is {most}")
    return text


def _time(text: str | None) -> datetime | None:
    return None if text is None else moment(text, "run_at")


def _parents(when: When) -> tuple[Dependency, ...]:
    on_failure = checked_parent_failure(when.on_parent_failure)
    ids = [JobId(UUID(str(id_of(text)))) for text in when.depends_on or ()]
    return tuple(Dependency(parent_id=parent, on_failure=on_failure) for parent in dict.fromkeys(ids))


def _unique(how: How) -> UniqueRule | None:
    if how.unique_key is None:
        if how.unique_for is not None:
            raise InvalidOption("unique_for", "needs a unique_key")
        return None
    period = parse_duration(how.unique_for, "unique_for") if how.unique_for else None
    return UniqueRule(key=checked_name(how.unique_key, "unique_key"), states=LIVE, period=period)


def _show(record: dict[str, object], shown: Shown, *, printed: JobId | None = None) -> None:
    if shown.format in {"auto", "ids"}:
        write(str(printed or record["job_id"]))
        return
    listing = Listing(
        schema="perdure.enqueued_list/1",
        item="perdure.enqueued/1",
        columns=COLUMNS,
        records=[record],
        key="job_id",
    )
    show_list(listing, shown)
