"""Snapshots: what is kept and how two differ, and restores of this system: planned, looked at, then carried out."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.params import FromPath, URLEncodedBody

from perdure.domain.access import Permission
from perdure.domain.errors import InvalidOption, PerdureError, SnapshotsUnavailable
from perdure.domain.restore import MEANINGS, POLICIES, Conflicts, Phase, Restore, RestoreScope
from perdure.domain.snapshot import HalfSnapshot, Manifest, SnapshotKind
from perdure.ports import By
from perdure.runtime.app import Perdure
from perdure.runtime.restore_operations import InPlaceOptions
from perdure.surfaces.cli.options import moment
from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb
from perdure.surfaces.web.pages.frame import Content, View, Visit, answer, render, visit_of
from perdure.surfaces.web.problems import problem_of
from perdure.surfaces.web.routing import PERMISSION

T = TypeVar("T")
PLANNING = {PERMISSION: Permission.RESTORE}
VIEWING = {PERMISSION: Permission.VIEW}
KEPT_S = 5.0
PATIENCE_S = 2.0
SHOWN = 100
JOBS_SHOWN = 50
LONGEST = 200
FIELDS = ("at", "snapshot", "queue", "kind", "graph", "policy", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is in the folder or the object store, the newest first; `problem` says why it could not be read."""

    whole: Sequence[Manifest] = ()
    half: Sequence[HalfSnapshot] = ()
    problem: str = ""


async def snapshots(visit: Visit) -> Content:
    """The view of the page."""
    return await _content(visit, dict.fromkeys(FIELDS, ""))


async def _content(visit: Visit, form: Mapping[str, str], fault: PerdureError | None = None) -> Content:
    app, recent = visit.web.app, visit.web.recent
    kept, restores, policy = await asyncio.gather(
        recent.get("snapshots", lambda: _kept(app), KEPT_S),
        recent.get("restores", app.state.restores),
        recent.get("snapshot policy", app.state.auto_snapshot),
    )
    chosen = [visit.query.get(name, "")[:LONGEST] for name in ("first", "second")]
    difference = None
    if all(chosen):
        try:
            difference = await _within(app.state.compare_snapshots(*chosen))
        except PerdureError as error:
            fault = fault or error
    return "snapshots.html", {
        "kept": kept,
        "full": [one for one in kept.whole if one.kind is SnapshotKind.FULL],
        "policy": policy,
        "restores": restores,
        "difference": difference,
        "chosen": chosen,
        "policies": POLICIES,
        "form": form,
        "fault": fault,
        "shown": SHOWN,
    }


async def _kept(app: Perdure) -> Kept:
    try:
        return Kept(
            whole=await _within(app.state.snapshots()), half=await _within(app.state.half_snapshots())
        )
    except PerdureError as error:
        return Kept(problem=error.message)


async def _within(asking: Awaitable[T]) -> T:
    """What an object store answers, which may be far away. Raises SnapshotsUnavailable, too, when it takes too long."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await asking
    except TimeoutError as error:
        raise SnapshotsUnavailable(
            f"the place of the snapshots did not answer within {PATIENCE_S:g} s"
        ) from error


def restore_view(restore_id: UUID) -> View:
    """The view of one plan or restore."""

    async def one_restore(visit: Visit) -> Content:
        found = await visit.web.app.state.restore(restore_id)
        return "restore.html", {
            "restore": found,
            "meanings": MEANINGS,
            "is_plan": found.phase is Phase.PLANNED,
            "jobs": await visit.web.app.state.restore_jobs(restore_id, limit=JOBS_SHOWN),
        }

    return one_restore


@get("/restores/{restore_id:uuid}", opt=VIEWING, include_in_schema=False)
async def show_restore(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    restore_id: FromPath[UUID],
) -> Response[str]:
    """One plan or restore."""
    visit = visit_of(request, web, stores, identity)
    return answer(render(visit, await restore_view(restore_id)(visit)))


@post("/restores", opt=PLANNING, include_in_schema=False, status_code=200)
async def plan(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    data: URLEncodedBody[dict[str, str]],
) -> Response[Any]:
    """Draw a plan, and show it; no job is changed."""
    visit = visit_of(request, web, stores, identity)
    form = {field: data.get(field, "").strip()[:LONGEST] for field in FIELDS}
    try:
        drawn = await _planned(web.app, form, By(actor=identity.name, reason=form["reason"]))
    except PerdureError as error:
        page = Visit(web=web, stores=stores, identity=identity, root=visit.root, path="/snapshots")
        return answer(render(page, await _content(page, form, error)), problem_of(error).status)
    await web.recent.get("restores", web.app.state.restores, keep_s=0)
    return Response(None, status_code=303, headers={"location": visit.url(f"/restores/{drawn.id}")})


async def _planned(app: Perdure, form: Mapping[str, str], by: By) -> Restore:
    """The plan that a form asks for. Raises InvalidOption and what planning raises."""
    if bool(form["at"]) == bool(form["snapshot"]):
        raise InvalidOption("at", "name either a time or a snapshot to go back to")
    scope = RestoreScope(
        queues=tuple(filter(None, (form["queue"],))),
        kinds=tuple(filter(None, (form["kind"],))),
        graph=_id(form["graph"]) if form["graph"] else None,
    )
    conflicts = Conflicts(policy=form["policy"] or "merge")
    conflicts.actions()
    cut = form["snapshot"] or moment(form["at"], "at")
    return await app.state.plan_restore(cut, InPlaceOptions(scope=scope, conflicts=conflicts), by=by)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidOption("graph", f"{text!r} is not the id of a job") from None


HANDLERS = (show_restore, plan)
