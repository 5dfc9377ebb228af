"""What a request that the framework refuses is told: the field, what is wrong with it, and what to do."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from litestar.exceptions import HTTPException, ValidationException

BODY = "body"
DESCRIBED = "mend it; /api/v1/openapi.json has the type and the bounds of each field"
CODES: Mapping[int, str] = MappingProxyType(
    {
        400: "PERDURE-1001",
        401: "PERDURE-7001",
        403: "PERDURE-7002",
        404: "PERDURE-2001",
        405: "PERDURE-7003",
        409: "PERDURE-3001",
        413: "PERDURE-1004",
        421: "PERDURE-7004",
        422: "PERDURE-7005",
        500: "PERDURE-9001",
        503: "PERDURE-5001",
    }
)
"""The code of a refusal that no error of ours stands behind: that of the nearest one, or one of the 7000s, which only HTTP has."""
NEXT_STEPS: Mapping[int, str] = MappingProxyType(
    {
        400: DESCRIBED,
        401: "send a token (`Authorization: Bearer …`) or a name with its password, or sign in",
        403: "ask whoever runs this server for the permission",
        404: "check the address: /api/v1/openapi.json lists all, and an id is a whole UUID",
        405: "use one of these methods",
        413: "send less at once; `max_payload_bytes` bounds the arguments of a job",
    }
)
_MISSING = re.compile(
    r"[Mm]issing required (?:field|query parameter|parameter|header) [`'\"]?(?P<name>[\w.-]+)[`'\"]?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Code, field (empty: none), sentence and next step."""

    code: str
    detail: str
    field: str = ""
    next_step: str = ""


def refusal_of(error: HTTPException) -> Refusal:
    """What an error of the framework means to the caller."""
    status = error.status_code
    code, next_step = (
        CODES.get(status, CODES[400] if status < 500 else CODES[500]),
        NEXT_STEPS.get(status, ""),
    )
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        return _of_fields(error.extra, code)
    detail = error.detail if error.detail != HTTPStatus(status).phrase else ""
    if status == HTTPStatus.BAD_REQUEST:
        why = detail.removeprefix("JSON is malformed: ")
        return Refusal(
            code=code,
            field=BODY,
            detail=f"{BODY}: is not JSON: {_lower(why)}",
            next_step="send one JSON object in UTF-8, with content-type: application/json",
        )
    if status == HTTPStatus.NOT_FOUND:
        return Refusal(code=code, detail=detail or "there is nothing at this address", next_step=next_step)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted((error.headers or {}).get("allow", "").split(", ")))
        detail = f"this address takes {allowed}" if allowed else "this address takes other methods"
        return Refusal(code=code, detail=detail, next_step=next_step)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Refusal(code=code, field=BODY, detail=f"{BODY}: is too large", next_step=next_step)
    return Refusal(code=code, detail=detail or HTTPStatus(status).phrase, next_step=next_step)


def _of_fields(parts: Sequence[Any], code: str) -> Refusal:
    told = [
        _field(str(part.get("key", "")), str(part.get("message", "")))
        for part in parts
        if isinstance(part, dict)
    ]
    if not told:
        return Refusal(code=code, field=BODY, detail="the request does not fit", next_step=DESCRIBED)
    field, _, next_step = told[0]
    return Refusal(
        code=code,
        field=field,
        detail="; ".join(f"{name}: {why}" for name, why, _ in told),
        next_step=next_step,
    )


def _field(key: str, message: str) -> tuple[str, str, str]:
    """The name of the field, what is wrong with it, and what to do."""
    if key == "data" and message.strip("'\"") == "data":
        return BODY, "is missing", "send a JSON object, `{}` at least, with content-type: application/json"
    if missing := _MISSING.search(message):
        name = missing["name"] if key in {"", "data", missing["name"]} else f"{key}.{missing['name']}"
        return name, "is missing", "add it: the request needs it"
    return BODY if key in {"", "data"} else key, _lower(message), DESCRIBED


def _lower(text: str) -> str:
    """A sentence of the framework within one of ours."""
    return text[:1].lower() + text[1:]
