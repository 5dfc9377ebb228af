"""`perdure job enqueue`: one job from the command line."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Group, Parameter

from perdure.domain.bounds import OnDuplicate, checked_name
from perdure.domain.errors import DuplicateJob, InvalidArguments, InvalidOption, PayloadTooLarge
from perdure.domain.job import Disposition, JobId
from perdure.domain.kind import Kind, KindOptions
from perdure.domain.options import EnqueueOptions, effective, new_job
from perdure.domain.payload import check_storable
from perdure.surfaces.cli.acting import id_of
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, Connection, Shown, moment
from perdure.surfaces.cli.output import Listing, show_list, tell, write
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.session import located, settings_of
from perdure.surfaces.cli.tables import Column
from perdure.surfaces.cli.unserved import tell_if_unserved

if TYPE_CHECKING:
    from perdure.runtime.settings import Settings

JOB = Group("Job", sort_key=10)
COLUMNS = (Column("job_id", "JOB"), Column("disposition", "DISPOSITION"))
UNCHECKED = "warning: kind and arguments were not checked, as `--app ''` asks no application"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class What:
    """What a job is given."""

    app: Annotated[str | None, Parameter(group=JOB)] = None
    "Application that has the kind; otherwise that of the settings, or what `perdure dev` runs here, or ran last. `''`: none."
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
    on_parent_failure: Annotated[str | None, Parameter(group=JOB)] = None
    "What to do when such a job does not complete: hold (the usual), cancel or run."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class How:
    """How a job is treated; what is not given is as the kind's decorator says."""

    queue: Annotated[str | None, Parameter(group=JOB)] = None
    "Queue that it waits in."
    priority: Annotated[int | None, Parameter(group=JOB)] = None
    "From 1 to 5, the highest."
    retries: Annotated[int | None, Parameter(group=JOB)] = None
    "Attempts after the first that fails."
    timeout: Annotated[str | None, Parameter(group=JOB)] = None
    "Longest run of one attempt; `none` for no limit."
    labels: Annotated[list[str] | None, Parameter(group=JOB, negative="")] = None
    "Label that a worker must have; may be given again."
    unique_key: Annotated[str | None, Parameter(group=JOB)] = None
    "Refuse the job while another holds this key."
    unique_for: Annotated[str | None, Parameter(group=JOB)] = None
    "Hold the key for this time, whatever becomes of the job; without a key, that of the kind and its arguments."
    on_duplicate: Annotated[OnDuplicate | None, Parameter(group=JOB)] = None
    "When another job holds the key: fail (raise), or print that job's id (return)."
    concurrency_key: Annotated[str | None, Parameter(group=JOB)] = None
    "Run only so many jobs of this key at a time."
    concurrency_limit: Annotated[int | None, Parameter(group=JOB)] = None
    "How many."


EMPTY = What()
AT_ONCE = When()
AS_DECLARED = How()


async def enqueue(
    kind: str,
    *,
    what: What = EMPTY,
    how: How = AS_DECLARED,
    when: When = AT_ONCE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Enqueue one job, and print its id.

    With an application the kind and its arguments are checked, and the job has the options of its decorator. Without
    one nothing is known of the kind but what live workers say: a warning tells when none would take the job.

    Parameters
    ----------
    kind
        Name of the kind, as `@job` gives it: the function's module and name, such as `app.resize`.
    """
    from perdure.runtime.loading import kind_of
    from perdure.runtime.new_ids import new_id
    from perdure.runtime.sealing import sealed
    from perdure.runtime.wiring import connected

    settings = settings_of(connection)
    application = _application(what.app, settings)
    options = _options(how, when, what.id, asked=bool(application))
    text = arguments(what.args, most=settings.max_payload_bytes)
    declared = undeclared(kind)
    if application:
        declared = kind_of(application, kind)
        most, redact = settings.max_payload_bytes, settings.redact
        args, kwargs = declared.arguments.decode(text, redact=redact)
        text = declared.arguments.encode(args, kwargs, max_bytes=most, redact=redact)
    elif what.app is not None:
        tell(UNCHECKED)
    job = new_job(declared, options, text, new_id())
    if declared.options.encrypted:
        job = sealed(job, settings.keyring, max_bytes=settings.max_payload_bytes)
    if what.dry_run:
        tell("nothing was enqueued: this was a dry run")
        _show({"job_id": job.id, "disposition": "dry run", "holder": None}, shown)
        return Exit.DONE
    on_duplicate = effective(declared.options, options).on_duplicate
    with located(settings) as found:
        async with connected(found) as stores:
            try:
                enqueued, places = await stores.jobs.enqueue_placed([job], on_duplicate=on_duplicate)
            except DuplicateJob as error:
                error.next_step = "add --on-duplicate return to get the other job's id instead"
                raise
            await stores.dispatch.announce(places)
            if enqueued[0].disposition is Disposition.CREATED:
                await tell_if_unserved(stores, job.id, job.shape.kind)
    _show(record_of(enqueued[0]), shown, printed=enqueued[0].holder)
    return Exit.DONE


def arguments(text: str, *, most: int) -> str:
    """Arguments as JSON text of one object, read from a file or stdin where that is asked for."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = f"{text[1:]!r} cannot be read: {getattr(error, 'strerror', None) or error}"
            raise InvalidArguments("args", why, next_step="write --args @FILE with a file of JSON") from None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        why = f"not valid JSON: {error}"
        raise InvalidArguments("args", why, next_step="""write --args '{"name": 1}'""") from None
    if not isinstance(value, dict):
        raise InvalidArguments("args", "must be a JSON object", next_step="""write --args '{"name": 1}'""")
    check_storable(value)
    if len(text.encode()) > most:
        raise PayloadTooLarge("args", f"{len(text.encode())} bytes of JSON; the limit is {most}")
    return text


def undeclared(name: str) -> Kind[..., object]:
    """A kind of which nothing but the name is known; its options are the usual ones."""

    async def anything(**_: object) -> None: ...

    return Kind(anything, name=checked_name(name, "kind"), mode="async", options=KindOptions())


def _application(given: str | None, settings: "Settings") -> str:
    from perdure.runtime.current_application import noted_application

    if given is not None:
        return given
    embedded = not settings.database_url
    return settings.app or (noted_application(settings.data_dir) if embedded else "")


def _options(how: How, when: When, job_id: str | None, *, asked: bool) -> EnqueueOptions:
    """What was given, as options of one enqueue. Raises InvalidOption."""
    given: dict[str, Any] = {name: value for name, value in asdict(how).items() if value is not None}
    if how.timeout == "none":
        given["timeout"] = None
    if how.unique_for is not None and how.unique_key is None and not asked:
        raise InvalidOption(
            "unique_for", "needs a unique_key", next_step="or name the application with --app"
        )
    if when.on_parent_failure is not None:
        given["on_parent_failure"] = when.on_parent_failure
    return EnqueueOptions(
        **given,
        delay=when.delay,
        run_at=None if when.run_at is None else moment(when.run_at, "run_at"),
        depends_on=[id_of(text) for text in when.depends_on or ()],
        id=id_of(job_id) if job_id else None,
    )


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
