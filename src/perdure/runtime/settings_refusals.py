"""What is said of a setting that cannot be used: its value, where it comes from, and what is wanted instead."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from perdure.domain.errors import InvalidSettings
from perdure.runtime.settings_sources import Fields, nearest

Complaint = Mapping[str, Any]

SHOWN_MAX = 60
WORDS = {
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "string_type": "is not a text",
    "path_type": "is not a path",
    "string_pattern_mismatch": "has characters that it cannot have",
    "string_too_long": "is too long",
    "too_long": "names too many",
}
"""By pydantic's names of what can be wrong with a value; its own words of the rest are left as they are."""
URLS = {
    "database_url": "write postgresql://USER@HOST:5432/NAME",
    "redis_url": "write redis://HOST:6379/0",
}


def refusal(error: ValidationError, cls: Fields) -> InvalidSettings:
    """The first of pydantic's complaints in a sentence; a value that may be a secret is not repeated."""
    first, *others = error.errors(include_url=False)
    name = str(first["loc"][0]) if first["loc"] else "settings"
    field = cls.model_fields.get(name)
    if first["type"] == "extra_forbidden" or field is None:
        return InvalidSettings(name, "no such setting", next_step=nearest(name, cls))
    more = f"; and {len(others)} more: see `perdure config check`" if others else ""
    return InvalidSettings(name, _why(first, field), next_step=f"{_wanted(name, first, field)}{more}")


def with_source(error: InvalidSettings, sources: Mapping[str, str]) -> InvalidSettings:
    """The same refusal, which also says where the value comes from."""
    source = sources.get(error.field)
    if source is None:
        return error
    where = f"option {error.field}" if source == "flag" else source
    return InvalidSettings(error.field, f"{error.why} ({where})", next_step=error.next_step)


def _why(first: Complaint, field: FieldInfo) -> str:
    kind, value = first["type"], _shown(first["input"], field)
    if kind == "too_short":
        return "names none"
    if kind in {"greater_than_equal", "less_than_equal"} and (bounds := _bounds(field)):
        return f"{value} is outside {bounds}"
    if kind == "literal_error":
        return f"{value} is none of {first.get('ctx', {}).get('expected')}"
    if kind in WORDS:
        return f"{value} {WORDS[kind]}"
    why: str = first["msg"].removeprefix("Value error, ")
    return why[:1].lower() + why[1:]


def _wanted(name: str, first: Complaint, field: FieldInfo) -> str:
    context: Mapping[str, Any] = first.get("ctx", {})
    if name in URLS:
        return URLS[name]
    if bounds := _bounds(field):
        return f"write a {'whole ' if field.annotation is int else ''}number from {bounds}"
    match first["type"]:
        case "string_pattern_mismatch":
            return "write small letters, digits and _, and no digit first" if name == "schema" else _is(field)
        case "string_too_long" | "too_long":
            return f"at most {context.get('max_length')}"
        case "too_short":
            return f"name at least {context.get('min_length')}, or leave it out"
        case "literal_error":
            return f"write one of {context.get('expected')}"
        case _:
            return _is(field)


def _is(field: FieldInfo) -> str:
    return f"it is: {(field.description or '').rstrip('.')}"


def _bounds(field: FieldInfo) -> str:
    low, high = (
        next((getattr(each, name) for each in field.metadata if hasattr(each, name)), None)
        for name in ("ge", "le")
    )
    return "" if low is None or high is None else f"{low:,} to {high:,}"


def _shown(value: object, field: FieldInfo) -> str:
    """The value as it was given, unless it may be a secret."""
    if field.annotation is SecretStr:
        return "its value"
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
