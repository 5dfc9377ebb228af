"""Probes for those who run the server, and metrics for those who watch it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.exceptions import NotAuthorizedException
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from perdure.domain.access import Permission
from perdure.domain.errors import Unavailable
from perdure.surfaces.cli.status import judge
from perdure.surfaces.web.context import GivenWeb, Web
from perdure.surfaces.web.routing import PERMISSION, PUBLIC

NO_JOB = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part: whether it works, and if not, why."""

    name: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of the whole in one word, and with `verbose` that of each part."""

    state: str
    components: tuple[Component, ...] = ()


@get("/livez", opt=PUBLIC, include_in_schema=False)
async def livez() -> str:
    """The event loop turns. Asks no store: a database that blinks must not restart every server."""
    return "ok"


@get("/startupz", opt=PUBLIC, include_in_schema=False)
async def startupz(web: GivenWeb) -> Response[str]:
    """The database has answered once, with the tables that are needed."""
    return await _answered(web)


@get("/readyz", opt=PUBLIC, include_in_schema=False)
async def readyz(web: GivenWeb) -> Response[str]:
    """The database answers now."""
    return await _answered(web)


@get("/healthz", opt=PUBLIC, include_in_schema=False)
async def healthz(request: Request[Any, Any, Any], web: GivenWeb) -> Response[Health]:
    """The state of the whole; each part of it for those who may look, with `?verbose`."""
    verbose = "verbose" in request.query_params
    identity = request.scope["user"]
    if verbose and (identity is None or Permission.VIEW not in identity.permissions):
        raise NotAuthorizedException(detail="the parts are for those who may look")
    health = await _health(web)
    shown = health if verbose else Health(state=health.state)
    return Response(shown, status_code=503 if health.state == "critical" else 200)


@get("/metrics", opt={PERMISSION: Permission.VIEW}, include_in_schema=False)
async def metrics(web: GivenWeb) -> Response[bytes]:
    """Everything for Prometheus."""
    return Response(await web.metrics.text(web.stores, web.recent), media_type=CONTENT_TYPE_LATEST)


async def _answered(web: Web) -> Response[str]:
    try:
        stores = await web.stores()
        await web.recent.get("ping", lambda: stores.read.result_of(NO_JOB))
    except Unavailable as error:
        return Response(error.message, status_code=503, media_type="text/plain")
    return Response("ok", media_type="text/plain")


async def _health(web: Web) -> Health:
    try:
        stores = await web.stores()
        status = await web.recent.get("status", stores.read.status)
    except Unavailable as error:
        away = Component(name="postgresql", state="critical", detail=error.message)
        return Health(state="critical", components=(away,))
    state, reasons = judge(status)
    leads = status.leader is not None and status.leader.leads
    return Health(
        state=state,
        components=(
            Component(name="postgresql", state="ok"),
            Component(
                name="workers",
                state="ok" if status.workers_active else "degraded",
                detail=f"{status.workers_active} active",
            ),
            Component(name="leader", state="ok" if leads else "degraded"),
            Component(name="work", state=state, detail="; ".join(reasons)),
        ),
    )


HANDLERS = (livez, startupz, readyz, healthz, metrics)
