"""Errors as answers: problem details (RFC 9457) for programs, a page for people."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.response import Redirect

from perdure.domain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    PerdureError,
    ResultTimeout,
    ResultUnavailable,
    Unavailable,
)
from perdure.runtime.urls import masked_text
from perdure.surfaces.cli.exits import code_of
from perdure.surfaces.web.refusals import NEXT_STEPS, refusal_of

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
STATUS: tuple[tuple[type[PerdureError], int], ...] = (
    (PayloadTooLarge, 413),
    (InvalidInput, 400),
    (NotFound, 404),
    (Conflict, 409),
    (ResultTimeout, 504),
    (ResultUnavailable, 409),
    (Unavailable, 503),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong: `detail` says what happened and why, `next_step` what to do, `code` is stable."""

    status: int
    title: str
    detail: str
    type: str = "about:blank"
    code: str = ""
    field: str = ""
    next_step: str = ""


def problem_bytes(problem: Problem) -> bytes:
    """Its JSON."""
    return msgspec.json.encode(problem)


def problem_of(error: Exception) -> Problem:
    """What an error means to the caller. What was not raised on purpose is logged, and tells nothing of itself."""
    if isinstance(error, PerdureError):
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
        return Problem(
            status=status,
            title=HTTPStatus(status).phrase,
            detail=masked_text(error.message),
            code=str(code_of(error)),
            field=getattr(error, "field", ""),
            next_step=masked_text(error.next_step or NEXT_STEPS.get(status, "")),
        )
    if isinstance(error, HTTPException):
        refusal = refusal_of(error)
        return Problem(
            status=error.status_code,
            title=HTTPStatus(error.status_code).phrase,
            detail=masked_text(refusal.detail),
            code=refusal.code,
            field=refusal.field,
            next_step=refusal.next_step,
        )
    log.error("a request failed in a way that should not happen", exc_info=error)
    return Problem(
        status=500,
        title="Internal Server Error",
        detail="an error that should not happen; the server's log has it",
        code=str(code_of(error)),
    )


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The answer to an error: problem details under /api and for programs, a page otherwise."""
    from perdure.surfaces.web.pages.frame import error_page

    problem = problem_of(error)
    headers = {}
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED and isinstance(error, HTTPException):
        headers |= error.headers or {}
    authentication = request.app.state.web.authentication
    if isinstance(error, NotAuthorizedException):
        if authentication.form and not is_for_programs(request):
            return Redirect(f"{request.scope.get('root_path', '')}/sign-in?{_to(request)}", status_code=303)
        if authentication.challenge:
            headers["www-authenticate"] = authentication.challenge
    if is_for_programs(request):
        return Response(
            problem_bytes(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers
        )
    return error_page(request, problem, headers)


def is_for_programs(request: Request[Any, Any, Any]) -> bool:
    """Whether the caller wants JSON rather than a page."""
    path = request.scope["path"]
    return path.startswith("/api/") or "text/html" not in request.headers.get("accept", "*/*").replace(
        "*/*", "text/html"
    )


def _to(request: Request[Any, Any, Any]) -> str:
    from urllib.parse import urlencode

    query = request.scope["query_string"].decode("latin-1")
    return urlencode({"to": request.scope["path"] + (f"?{query}" if query else "")})
