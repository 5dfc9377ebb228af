"""The HTTP API: everything that the pages and the command line can do, for programs."""

from typing import Any

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from perdure.domain.access import Permission
from perdure.surfaces.web.api import (
    alerts,
    evacuation,
    jobs,
    kinds,
    memory,
    operation,
    settling,
    shared,
    state,
    workers,
)
from perdure.surfaces.web.routing import PERMISSION


@get("/openapi.json", opt={PERMISSION: Permission.VIEW}, include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """The description of the API."""
    return Response(request.app.openapi_schema.to_schema(), media_type="application/json")


def handlers() -> list[ControllerRouterHandler]:
    """Every route below `/api/v1`."""
    return [
        openapi,
        *jobs.HANDLERS,
        *settling.HANDLERS,
        *workers.HANDLERS,
        *evacuation.HANDLERS,
        *operation.HANDLERS,
        *shared.HANDLERS,
        *memory.HANDLERS,
        *kinds.HANDLERS,
        *alerts.HANDLERS,
        *state.HANDLERS,
    ]
