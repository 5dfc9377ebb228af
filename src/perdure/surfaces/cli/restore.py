"""`perdure restore`: make chosen jobs of a live system again what they were, by a plan that is looked at first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

from cyclopts import App, Group, Parameter

from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidOption
from perdure.domain.restore import MEANINGS, CaseCount, Conflicts, Phase, RestoreScope
from perdure.surfaces.cli.confirm import confirm
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, CAREFUL, Caution, Connection, Shown, moment
from perdure.surfaces.cli.output import Listing, on_terminal, show_list, show_one, tell
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.session import located, settings_of
from perdure.surfaces.cli.tables import Column

if TYPE_CHECKING:
    from perdure.domain.restore import CutOf, Restore
    from perdure.ports import By
    from perdure.runtime.restoring import Restoring

app = App(
    name="restore",
    help="Make jobs of a live system again what they were, by a plan that is looked at first.",
)

SCOPE = Group("Which jobs", sort_key=60)
CONFLICTS = Group("What is done where something has happened since", sort_key=61)
COLUMNS = (
    Column("id", "RESTORE"),
    Column("state", "STATE"),
    Column("at", "AS AT"),
    Column("source", "FROM"),
    Column("changes", "CHANGES", right=True),
    Column("planned_at", "PLANNED"),
    Column("actor", "BY"),
)
ITEMS = (
    Column("job_id", "JOB"),
    Column("circumstance", "CIRCUMSTANCE"),
    Column("action", "ACTION"),
    Column("outcome", "OUTCOME"),
    Column("state_then", "THEN"),
    Column("state_now", "WHEN PLANNED"),
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Source:
    """What the jobs are to be again."""

    at: str | None = None
    "As they were at this time: an ISO time, or how long ago (`2h`)."
    snapshot: str | None = None
    "As they were in this snapshot."
    undo: str | None = None
    "As they were before this restore changed them."
    snapshots: Annotated[str | None, Parameter(name="--snapshots")] = None
    "Where snapshots are kept."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which jobs, and what is done with those that something has happened to."""

    queue: Annotated[tuple[str, ...], Parameter(group=SCOPE, negative="")] = ()
    "Only jobs of this queue; may be given several times."
    kind: Annotated[tuple[str, ...], Parameter(group=SCOPE, negative="")] = ()
    "Only jobs of this kind; may be given several times."
    graph: Annotated[str | None, Parameter(group=SCOPE)] = None
    "Only the dependency graph that this job is in."
    policy: Annotated[Literal["merge", "skip", "overwrite"], Parameter(group=CONFLICTS)] = "merge"
    "`merge`: bring back what failed or was cancelled, keep all else. `skip`: keep all. `overwrite`: as at that time."
    choose: Annotated[tuple[str, ...], Parameter(group=CONFLICTS, negative="")] = ()
    "Differ from the policy, such as `cancelled_since=keep`; may be given several times."
    rerun: Annotated[tuple[str, ...], Parameter(group=CONFLICTS, negative="")] = ()
    "Do completed work of this kind again; its handler must bear that. May be given several times."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How far a restore may go, and how long it may wait."""

    digest: str
    "The digest of the plan that was looked at."
    drain: str = "5m"
    "How long running jobs may take to end before they are taken away, such as `5m`."
    tolerance: int = 0
    "How many jobs may have moved on since the plan was drawn."


NOTHING = Source()
ALL = Chosen()


@app.command
async def plan(
    *,
    source: Source = NOTHING,
    chosen: Chosen = ALL,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Find out what a restore would do, and keep that as a plan; no job is changed.

    The plan has an id and a digest, which `perdure restore apply` asks for.
    """
    from perdure.ports import By

    by = By(actor=caution.actor, reason=caution.reason)
    async with _restoring(connection) as (restoring, _):
        drawn = await _planned(restoring, source, chosen, by, connection)
        if caution.dry_run:
            await restoring.plans.withdraw(drawn.id)
    _show(drawn, shown)
    if not caution.dry_run:
        tell(f"to carry it out: perdure restore apply {drawn.id} --digest {drawn.digest}")


@app.command
async def apply(
    restore: str,
    *,
    bounds: Bounds,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> int:
    """Carry a plan out: hold its queues, let running jobs end, change the jobs, check all promises, let go.

    When this process ends in the middle, the leader of the workers carries it on. Exit code 8 when some jobs could not be
    changed, 1 when a promise is found broken.

    Parameters
    ----------
    restore
        Its id.
    """
    from perdure.ports import By
    from perdure.services.restore import Terms

    terms = Terms(drain=parse_duration(bounds.drain, "drain"), tolerance=bounds.tolerance)
    async with _restoring(connection) as (restoring, _):
        found = await restoring.restores.get(_id(restore))
        if caution.dry_run:
            moved, _ = await restoring.restores.moved(found.id)
            show_one("perdure.restore_check/1", {"id": found.id, "state": found.phase, "moved": moved}, shown)
            return Exit.DONE
        confirm(found.changes, f"jobs will be changed, as at {found.at.isoformat()}", yes=caution.yes)
        by = By(actor=caution.actor, reason=caution.reason)
        done = await restoring.service.apply(found.id, by, digest=bounds.digest, terms=terms, heard=_Heard())
    _show(done, shown)
    return _exit(done)


@app.command
async def resume(restore: str, *, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> int:
    """Carry on at once what was begun and left in the middle; without this, the leader of the workers does so.

    Parameters
    ----------
    restore
        Its id.
    """
    async with _restoring(connection) as (restoring, _):
        done = await restoring.service.carry_on(_id(restore), heard=_Heard())
    _show(done, shown)
    return _exit(done)


@app.command
async def release(
    restore: str, *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Let the queues go that a restore still holds because it found a promise broken.

    Parameters
    ----------
    restore
        Its id.
    """
    async with _restoring(connection) as (restoring, _):
        if caution.dry_run:
            done = await restoring.restores.get(_id(restore))
        else:
            done = await restoring.service.release(_id(restore), reason=caution.reason or caution.actor)
    _show(done, shown)


@app.command(name="list")
async def list_(*, limit: int = 20, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """List plans and restores, the newest first.

    Parameters
    ----------
    limit
        Most rows.
    """
    async with _restoring(connection) as (restoring, _):
        found = await restoring.plans.newest(limit)
    records = [
        {
            "id": each.id,
            "state": each.phase,
            "at": each.at,
            "source": each.source,
            "changes": each.changes,
            "planned_at": each.planned_at,
            "actor": each.actor,
        }
        for each in found
    ]
    show_list(
        Listing(schema="perdure.restores/1", item="perdure.restore/1", columns=COLUMNS, records=records),
        shown,
    )


@app.command
async def show(restore: str, *, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """Show a plan or a restore: its circumstances with counts and ids, and what came of it.

    Parameters
    ----------
    restore
        Its id.
    """
    async with _restoring(connection) as (restoring, _):
        found = await restoring.restores.get(_id(restore))
    _show(found, shown)


@app.command
async def jobs(
    restore: str,
    *,
    limit: int = 1000,
    after: str | None = None,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """List the jobs that a restore changes, each with what is done and what came of it.

    Parameters
    ----------
    restore
        Its id.
    limit
        Most rows.
    after
        Go on after this job.
    """
    start = UUID(int=0) if after is None else _id(after)
    async with _restoring(connection) as (restoring, _):
        known = await restoring.restores.get(_id(restore))
        found = await restoring.plans.items(known.id, after=start, limit=limit)
    records = [record_of(item) for item in found]
    note = f"there may be more: --after {found[-1].job_id}" if len(found) == limit else ""
    show_list(
        Listing(
            schema="perdure.restore_jobs/1",
            item="perdure.restore_job/1",
            columns=ITEMS,
            records=records,
            key="job_id",
            note=note,
        ),
        shown,
    )


class _Heard:
    """Tells a person when a restore goes over to its next phase."""

    def __init__(self) -> None:
        self._phase: Phase | None = None

    def __call__(self, restore: "Restore") -> None:
        if restore.phase is not self._phase and on_terminal():
            tell(f"  {restore.phase}: {_done(restore.outcomes)} of {restore.changes} jobs")
        self._phase = restore.phase


@asynccontextmanager
async def _restoring(connection: Connection) -> AsyncIterator[tuple["Restoring", str]]:
    from perdure.runtime.restoring import restoring_on

    with located(settings_of(connection)) as settings:
        async with restoring_on(settings, application_name="perdure restore") as restoring:
            yield restoring, settings.schema


async def _planned(
    restoring: "Restoring", source: Source, chosen: Chosen, by: "By", connection: Connection
) -> "Restore":
    if [source.at, source.snapshot, source.undo].count(None) != 2:
        raise InvalidOption(
            "at",
            "say what to go back to with one of --at, --snapshot and --undo",
            next_step="such as `perdure restore plan --at 2h`; `perdure snapshot list` and `perdure restore list` show the others",
        )
    if source.undo is not None:
        undone = _id(source.undo)
        return await restoring.service.plan_undoing(undone, await restoring.cuts.before(undone), by)
    scope = RestoreScope(
        queues=chosen.queue, kinds=chosen.kind, graph=None if chosen.graph is None else _id(chosen.graph)
    )
    choices = dict(_choice(word) for word in chosen.choose)
    conflicts = Conflicts(policy=chosen.policy, choices=choices, rerun=chosen.rerun)
    conflicts.actions()
    cut = await _cut(restoring, source, connection)
    return await restoring.service.plan(cut, by, scope=scope, conflicts=conflicts)


async def _cut(restoring: "Restoring", source: Source, connection: Connection) -> "CutOf":
    if source.snapshot is None:
        return await restoring.cuts.of_time(moment(source.at or "", "at"))
    from perdure.runtime.saving import snapshots_of

    saved = snapshots_of(settings_of(connection, snapshots=source.snapshots))
    return await restoring.cuts.of_snapshot(await saved.trusted(source.snapshot))


def _choice(word: str) -> tuple[str, str]:
    name, sign, action = word.partition("=")
    if not sign:
        raise InvalidOption("choose", f"{word!r} has no `=`", next_step="write it as `cancelled_since=keep`")
    return name, action


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidOption("id", f"{text!r} is not an id") from None


def _exit(done: "Restore") -> int:
    if done.phase in {Phase.REFUSED, Phase.ABANDONED}:
        return Exit.REFUSED
    if done.phase is Phase.BROKEN:
        return Exit.FAILED
    return Exit.PARTLY if done.conflicts else Exit.DONE


def _done(outcomes: tuple[CaseCount, ...]) -> int:
    return sum(case.jobs for case in outcomes if case.outcome != "to do")


def _show(restore: "Restore", shown: Shown) -> None:
    cases = [_case(case) for case in restore.cases]
    record: Record = {
        "id": restore.id,
        "state": restore.phase,
        "digest": restore.digest,
        "at": restore.at,
        "source": restore.source,
        "scope": dict(restore.scope) or "everything",
        "changes": restore.changes,
        "cases": cases,
        "outcomes": [_case(case) for case in restore.outcomes],
        "report": restore.report,
        "actor": restore.actor,
        "reason": restore.reason,
        "planned_at": restore.planned_at,
        "begun_at": restore.begun_at,
        "ended_at": restore.ended_at,
        "undoes": restore.undoes,
    }
    if shown.format in {"auto", "table"}:
        record = {
            **record,
            "cases": [f"{c['jobs']} {c['means']}: {c['action']}" for c in cases],
            "outcomes": [
                f"{case.jobs} {case.circumstance}: {case.action}, {case.outcome}" for case in restore.outcomes
            ],
        }
    show_one("perdure.restore/1", record, shown)


def _case(case: CaseCount) -> Record:
    told = {
        "circumstance": case.circumstance,
        "means": MEANINGS[case.circumstance],
        "action": case.action,
        "jobs": case.jobs,
        "sample": list(case.sample),
    }
    return {**told, "outcome": case.outcome} if case.outcome else told
