"""Doing things: an action is shown with what it would change, asked for with a reason, and told with what came of it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from litestar import Request, Response, get, post
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.params import FromPath, URLEncodedBody
from litestar.response import Redirect

from perdure.domain.access import Identity, Permission
from perdure.domain.errors import InvalidOption, PerdureError
from perdure.domain.views import ActReport
from perdure.services.act import Progress
from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb
from perdure.surfaces.web.pages.frame import Content, View, Visit, answer, render, visit_of
from perdure.surfaces.web.pages.verbs import VERBS, Verb, Wish
from perdure.surfaces.web.problems import problem_of
from perdure.surfaces.web.routing import PERMISSION

TYPED_FROM = 100
"""From so many jobs on, the count has to be typed."""
SOON_S = 2.0
FIELDS = (
    "job",
    "filter",
    "queue",
    "worker",
    "restore",
    "digest",
    "sample",
    "rate",
    "grace",
    "reason",
    "back",
)
VIEWING = {PERMISSION: Permission.VIEW}


@get("/act/{name:str}", opt=VIEWING, include_in_schema=False)
async def ask(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    name: FromPath[str],
) -> Response[str]:
    """The page, or the dialog, that shows what an action would do and asks whether to do it."""
    verb = _allowed(name, identity)
    visit = visit_of(request, web, stores, identity)
    return await _asked(visit, verb, dict(visit.query), is_dialog="hx-request" in request.headers)


@post("/act/{name:str}", opt=VIEWING, include_in_schema=False, status_code=200)
async def act(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    name: FromPath[str],
    data: URLEncodedBody[dict[str, str]],
) -> Response[Any]:
    """Do it, as soon as the count is typed where it has to be; what takes longer goes on by itself."""
    verb = _allowed(name, identity)
    visit = visit_of(request, web, stores, identity)
    form = {field: data.get(field, "") for field in FIELDS}
    try:
        _check_count(data, form)
    except InvalidOption as error:
        return await _asked(visit, verb, form, is_dialog=False, fault=error)

    async def does(progress: Callable[[ActReport], None]) -> ActReport:
        return await verb.does(_wish(visit, form, dry_run=False, progress=progress))

    one, task = web.undertakings.begin(verb.name, identity.name, own_path(form["back"]), does)
    await asyncio.wait({task}, timeout=SOON_S)
    if one.error is not None:
        return await _asked(visit, verb, form, is_dialog=False, fault=one.error)
    return Redirect(visit.url(f"/done/{one.key}"), status_code=303)


def done_view(key: str) -> View:
    """The view of what came of an action, or has come of it so far."""

    async def done(visit: Visit) -> Content:
        one = visit.web.undertakings.get(key)
        if one is None:
            raise NotFoundException(
                detail="what came of this action is not kept any more; the audit page has its events"
            )
        return "done.html", {"one": one, "verb": VERBS[one.verb]}

    return done


@get("/done/{key:str}", opt=VIEWING, include_in_schema=False)
async def done(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    key: FromPath[str],
) -> Response[str]:
    """What came of an action."""
    visit = visit_of(request, web, stores, identity)
    return answer(render(visit, await done_view(key)(visit)))


def _wish(visit: Visit, form: Mapping[str, str], *, dry_run: bool, progress: Progress | None = None) -> Wish:
    return Wish(
        act=visit.stores.act,
        evacuate=visit.stores.evacuate,
        state=visit.web.app.state,
        form=form,
        actor=visit.identity.name,
        dry_run=dry_run,
        progress=progress,
    )


async def _asked(
    visit: Visit, verb: Verb, form: Mapping[str, str], *, is_dialog: bool, fault: PerdureError | None = None
) -> Response[str]:
    preview, status = None, 200
    try:
        preview = await verb.does(_wish(visit, form, dry_run=True))
    except PerdureError as error:
        fault = fault or error
    if fault is not None:
        status = problem_of(fault).status
    shown = {
        "verb": verb,
        "form": {field: form.get(field, "") for field in FIELDS},
        "back": own_path(form.get("back", "")),
        "preview": preview,
        "typed": preview is not None and preview.matched >= TYPED_FROM,
        "fault": fault,
        "is_many": not (form.get("job") or form.get("queue") or form.get("worker")),
    }
    html = render(visit, ("act.html", shown), live=is_dialog)
    return answer(html, 200 if is_dialog else status)


def _allowed(name: str, identity: Identity) -> Verb:
    verb = VERBS.get(name)
    if verb is None:
        raise NotFoundException(detail=f"there is no action {name!r}")
    if verb.permission not in identity.permissions:
        raise PermissionDeniedException(detail=f"{identity.name} has no permission to {verb.permission}")
    return verb


def _check_count(data: Mapping[str, str], form: Mapping[str, str]) -> None:
    """That somebody who changes many has typed how many they were shown."""
    shown = data.get("shown", "")
    is_many = not (form["job"] or form["queue"] or form["worker"])
    if is_many and (not shown.isdigit()):
        raise InvalidOption("shown", "look at what would be changed first")
    typed = data.get("typed", "").strip().replace(",", "")
    if is_many and int(shown) >= TYPED_FROM and typed != shown:
        raise InvalidOption("typed", f"type {shown} to go on; nothing was done")


def own_path(path: str) -> str:
    """Where to go afterwards: only to a page of ours."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"


HANDLERS = (ask, act, done)
