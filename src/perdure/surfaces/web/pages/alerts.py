"""Alerts: what fires, what is silenced and by whom, and the rules behind it."""

from typing import Any
from uuid import UUID

from litestar import Request, Response, post
from litestar.params import URLEncodedBody

from perdure.domain.access import Permission
from perdure.domain.alerts import RULES
from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidOption, PerdureError
from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb
from perdure.surfaces.web.pages.frame import Content, Visit, answer, render, visit_of
from perdure.surfaces.web.problems import problem_of
from perdure.surfaces.web.routing import PERMISSION

SILENCING = {PERMISSION: Permission.SILENCE}
LASTS = (("1h", "an hour"), ("4h", "4 hours"), ("1d", "a day"), ("7d", "a week"))


async def alerts(visit: Visit) -> Content:
    """The view of the page."""
    return await _content(visit)


async def _content(visit: Visit, fault: PerdureError | None = None) -> Content:
    page = await visit.web.recent.get("alerts", visit.stores.alerts.page)
    return "alerts.html", {
        "alerts": page.alerts,
        "silences": page.silences,
        "rules": RULES,
        "lasts": LASTS,
        "fault": fault,
    }


@post("/alerts/silence", opt=SILENCING, include_in_schema=False, status_code=200)
async def silence(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    data: URLEncodedBody[dict[str, str]],
) -> Response[Any]:
    """Say nothing of some alerts for a while."""
    visit = visit_of(request, web, stores, identity)
    try:
        await stores.alerts.silence(
            data.get("rule", ""),
            data.get("target", "").strip(),
            author=identity.name,
            reason=data.get("reason", ""),
            lasts=parse_duration(data.get("lasts", ""), "lasts"),
        )
    except InvalidOption as error:
        return await _refused(visit, error)
    return await _shown(visit)


@post("/alerts/unsilence", opt=SILENCING, include_in_schema=False, status_code=200)
async def unsilence(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    data: URLEncodedBody[dict[str, str]],
) -> Response[Any]:
    """End a silence now."""
    visit = visit_of(request, web, stores, identity)
    try:
        silence_id = UUID(data.get("id", ""))
    except ValueError:
        return await _refused(visit, InvalidOption("id", "is not the id of a silence"))
    await stores.alerts.unsilence(silence_id, author=identity.name)
    return await _shown(visit)


async def _shown(visit: Visit) -> Response[Any]:
    await visit.web.recent.get("alerts", visit.stores.alerts.page, keep_s=0)
    return Response(None, status_code=303, headers={"location": visit.url("/alerts")})


async def _refused(visit: Visit, error: PerdureError) -> Response[str]:
    page = Visit(web=visit.web, stores=visit.stores, identity=visit.identity, root=visit.root, path="/alerts")
    return answer(render(page, await _content(page, error)), problem_of(error).status)


HANDLERS = (silence, unsilence)
