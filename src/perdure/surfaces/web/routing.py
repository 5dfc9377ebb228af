"""How a route is declared: what it needs permission for, and what errors it answers with."""

from collections.abc import Callable, Mapping
from typing import Any

from litestar import get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from perdure.domain.access import Identity, Permission
from perdure.surfaces.web.problems import MEDIA_TYPE, Problem

Declare = Callable[[Callable[..., Any]], HTTPRouteHandler]
PERMISSION = "permission"
PUBLIC = {PERMISSION: None}

_REASONS = {
    400: "The request does not fit.",
    401: "It is not known who asks.",
    403: "They may not do this, or another site sent it.",
    404: "There is no such thing.",
    409: "The state of things does not allow it.",
    413: "The request is too large.",
    421: "The server has another name.",
    422: "The idempotency key was used for another request.",
    503: "A server that is needed is away or too slow.",
}


def problems(*statuses: int) -> Mapping[int, ResponseSpec]:
    """The errors of a route, for the description of the API."""
    return {
        status: ResponseSpec(
            Problem, description=_REASONS[status], generate_examples=False, media_type=MEDIA_TYPE
        )
        for status in statuses
    }


READING = problems(400, 401, 403, 404, 421, 503)
ACTING = problems(400, 401, 403, 404, 409, 413, 421, 422, 503)


def reading(path: str, *, tag: str, summary: str) -> Declare:
    """A route of the API that only reads."""
    return get(path, opt={PERMISSION: Permission.VIEW}, responses=READING, tags=[tag], summary=summary)


def acting(path: str, permission: Permission, *, tag: str, summary: str, status: int = 200) -> Declare:
    """A route of the API that changes something."""
    return post(
        path,
        opt={PERMISSION: permission},
        responses=ACTING,
        tags=[tag],
        summary=summary,
        status_code=status,
    )


def authorised(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let through whom the route lets through; a route that says nothing is closed to everybody."""
    if not isinstance(handler, HTTPRouteHandler):
        return
    needed = handler.opt.get(PERMISSION, "nothing")
    if needed is None:
        return
    identity: Identity | None = connection.scope.get("user")
    if identity is None:
        raise NotAuthorizedException(detail="it is not known who asks: sign in, or send credentials")
    if needed not in identity.permissions:
        raise PermissionDeniedException(detail=f"{identity.name} has no permission to {needed}")
