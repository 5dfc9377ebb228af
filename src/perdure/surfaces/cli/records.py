"""Views of the services as flat records, with the user's JSON kept as the database's text."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec

Record = dict[str, Any]


def record_of(view: Any) -> Record:
    """The fields of a view by name, and of all views inside it."""
    if isinstance(view, Mapping):
        return {str(name): _value(value) for name, value in view.items()}
    names = (
        view.__struct_fields__ if isinstance(view, msgspec.Struct) else [each.name for each in fields(view)]
    )
    return {name: _value(getattr(view, name)) for name in names}


def flattened(record: Record, name: str) -> Record:
    """The record with the fields of its part `name` at the top."""
    rest = {key: value for key, value in record.items() if key != name}
    return {**record[name], **rest}


def as_json(document: Record, *, pretty: bool, ascii_only: bool) -> str:
    """One JSON text, in one line unless `pretty`."""
    raw = msgspec.json.encode(document)
    text = (msgspec.json.format(raw, indent=2) if pretty else msgspec.json.format(raw, indent=-1)).decode()
    return "".join(map(_in_ascii, text)) if ascii_only and not text.isascii() else text


def field_of(record: Mapping[str, Any], name: str) -> Any:
    """The value of a field; dots lead into nested ones, also into the user's JSON."""
    value: Any = record
    for part in name.split("."):
        if isinstance(value, msgspec.Raw):
            value = msgspec.json.decode(value)
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _value(value: Any) -> Any:
    if isinstance(value, msgspec.Struct) or (is_dataclass(value) and not isinstance(value, type)):
        return record_of(value)
    if isinstance(value, list | tuple | frozenset):
        return [_value(part) for part in value]
    if isinstance(value, Mapping):
        return record_of(value)
    return value


def _in_ascii(character: str) -> str:
    if character.isascii():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
