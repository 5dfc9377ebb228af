"""The stream of a page's versions."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from litestar import Request, get
from litestar.exceptions import NotFoundException
from litestar.params import FromQuery
from litestar.response import Stream

from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb
from perdure.surfaces.web.pages.acting import VIEWING, done_view
from perdure.surfaces.web.pages.alerts import alerts
from perdure.surfaces.web.pages.audit import audit
from perdure.surfaces.web.pages.database import database
from perdure.surfaces.web.pages.flows import flow_view, flows
from perdure.surfaces.web.pages.frame import View, Visit, render, visiting
from perdure.surfaces.web.pages.job import job_view
from perdure.surfaces.web.pages.jobs import jobs
from perdure.surfaces.web.pages.letters import letters
from perdure.surfaces.web.pages.now import now
from perdure.surfaces.web.pages.queues import queues
from perdure.surfaces.web.pages.runbooks import runbooks
from perdure.surfaces.web.pages.snapshots import restore_view, snapshots
from perdure.surfaces.web.pages.workers import workers

VIEWS: dict[str, View] = {
    "/": now,
    "/jobs": jobs,
    "/queues": queues,
    "/workers": workers,
    "/dead-letters": letters,
    "/flows": flows,
    "/snapshots": snapshots,
    "/alerts": alerts,
    "/runbooks": runbooks,
    "/database": database,
    "/audit": audit,
}
BY_KEY: tuple[tuple[re.Pattern[str], Callable[[Any], View], Callable[[str], Any]], ...] = (
    (re.compile(r"/jobs/([0-9a-f-]{36})"), job_view, UUID),
    (re.compile(r"/flows/([0-9a-f-]{36})"), flow_view, UUID),
    (re.compile(r"/restores/([0-9a-f-]{36})"), restore_view, UUID),
    (re.compile(r"/done/([\w-]{1,64})"), done_view, str),
)
"""Pages about one thing: the pattern of their path, what makes their view, and the type of the key."""
LONGEST_PAGE = 8_000


@get("/live", opt=VIEWING, include_in_schema=False)
async def live(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    page: FromQuery[str] = "/",
) -> Stream:
    """The part of a page that lives, again whenever it has changed."""
    parts = urlsplit(page[:LONGEST_PAGE])
    view = view_of(parts.path)
    visit = visiting(
        Visit(
            web=web,
            stores=stores,
            identity=identity,
            root=request.scope.get("root_path", ""),
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
        )
    )
    key = (visit.root, visit.path, parts.query, identity.permissions)

    async def rendered() -> str:
        return render(visit, await view(visit), live=True)

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return Stream(web.live.watch(key, rendered), media_type="text/event-stream", headers=headers)


def view_of(path: str) -> View:
    """The view of a page. Raises NotFoundException."""
    if path in VIEWS:
        return VIEWS[path]
    for pattern, made, key in BY_KEY:
        if match := pattern.fullmatch(path):
            try:
                return made(key(match[1]))
            except ValueError:
                break
    raise NotFoundException(detail=f"there is no page {path!r}")
