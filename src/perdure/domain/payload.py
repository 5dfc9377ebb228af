"""Arguments and results as JSON text, rebuilt from annotations; never pickle."""

import dataclasses
import functools
import math
import operator
import re
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, NoReturn, Protocol, TypeGuard, Union, get_args, get_origin

import msgspec
from msgspec.structs import astuple

from perdure.domain.errors import InvalidArguments, InvalidOption, PayloadTooLarge
from perdure.domain.misfits import (
    STORABLE,
    Given,
    Telling,
    Tried,
    given_as_json,
    given_by_call,
    refusal,
    why_unfit,
)
from perdure.domain.retry import Steer
from perdure.domain.signature import Arguments, Signature, result_annotation

PAYLOAD_BYTES_MAX = 1024 * 1024

_U = ord("u")

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_SCALARS = (str, int, float, bool, type(None))
_ENCODING_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, AttributeError)
_DECODING_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeError)
_MISFITS = (InvalidArguments, *_ENCODING_ERRORS, *_DECODING_ERRORS)


class _Model(Protocol):
    """The part of a pydantic model that is used here, so that pydantic need not be imported."""

    def model_dump(self, *, mode: str, by_alias: bool, round_trip: bool) -> object: ...

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> object: ...


def _is_model(kind: Any) -> TypeGuard[type[_Model]]:
    return hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump")


def _to_json(value: Any) -> object:
    """What msgspec should encode in place of a value it does not know."""
    if _is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    raise TypeError(f"an object of type {_type_name(value)} cannot be stored as JSON")


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _from_json(kind: Any, value: object) -> object:
    if _is_model(kind):
        return kind.model_validate_json(_ENCODE(value))
    if isinstance(value, str):
        return kind(value)
    raise TypeError(f"Expected `str`, got `{type(value).__qualname__}`")


_ENCODE = msgspec.json.Encoder(enc_hook=_to_json).encode


class Payload:
    """The codec of one handler's arguments: one JSON object keyed by parameter name.

    `*args` are stored as a list and `**kwargs` as an object, each under its parameter's own name. No error tells a value
    of an `encrypted` kind.
    """

    def __init__(self, function: Callable[..., Any], *, encrypted: bool = False) -> None:
        self._function = function
        self._encrypted = encrypted
        self.signature = Signature(function)
        self._names = tuple(p.name for p in self.signature.parameters)
        self._all_required = all(p.required for p in self.signature.parameters)
        annotations = {p.name: checked_annotation(p.annotation, p.name) for p in self.signature.parameters}
        self._loose = tuple(name for name, annotation in annotations.items() if _is_loose(annotation))
        self._decode = msgspec.json.Decoder(self._shape(annotations), dec_hook=_from_json).decode
        renamed = {f"field_{place}": name for place, name in enumerate(self._names)}
        self._call = msgspec.defstruct("Call", [(field, Any) for field in renamed], rename=renamed, gc=False)
        self._is_direct = self._all_required and self.signature.is_named
        self._by_place = len(self._names) if self.signature.is_by_place and not self._loose else -1

    def _shape(self, annotations: Mapping[str, Any]) -> type[msgspec.Struct]:
        """A struct with a field for each parameter; the fields have names of their own, as any word may be a name."""
        fields: list[tuple[str, Any, Any]] = []
        for place, parameter in enumerate(self.signature.parameters):
            default = msgspec.NODEFAULT if parameter.required else msgspec.UNSET
            fields.append((f"field_{place}", annotations[parameter.name], default))
        rename = {f"field_{place}": name for place, name in enumerate(self._names)}
        return msgspec.defstruct("Arguments", fields, rename=rename, kw_only=True, forbid_unknown_fields=True)

    def encode(
        self,
        args: Iterable[object],
        kwargs: Mapping[str, object],
        *,
        max_bytes: int = PAYLOAD_BYTES_MAX,
        redact: Iterable[str] | None = None,
    ) -> str:
        """The call as JSON text that `decode` is known to accept. Raises PayloadTooLarge.

        Raises InvalidArguments with all that does not fit; it tells values where `redact` has the names that hide them.
        """
        args = tuple(args)
        # A call that gives everything by position needs no names to be told apart, and costs half of the other.
        is_whole = len(args) == self._by_place and not kwargs
        try:
            raw = _ENCODE(self._call(*args) if is_whole else self._bound(args, kwargs))
            # Most have no `u`, and a number is found in bytes ten times as fast as bytes are.
            if _U in raw and (b"null" in raw or b"\\u0000" in raw):
                check_storable(self.signature.bind(args, kwargs))
            if len(raw) > max_bytes:
                raise PayloadTooLarge("arguments", f"{len(raw)} bytes of JSON; the limit is {max_bytes}")
            self._decode(raw)
        except _MISFITS:
            raise self._refusal(given_by_call(self.signature, args, kwargs), redact) from None
        return raw.decode()

    def _bound(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        values = self.signature.bind(args, kwargs)
        for name in self._loose:
            if name in values and not isinstance(values[name], _SCALARS):
                check_plain(values[name], name)
        return values

    def decode(self, text: str | bytes, *, redact: Iterable[str] | None = None) -> Arguments:
        """The stored call's arguments, by position where the handler demands it and else by name.

        Raises InvalidArguments as `encode` does.
        """
        try:
            decoded = self._decode(text)
        except _DECODING_ERRORS:
            raise self._refusal(given_as_json(self.signature, text), redact) from None
        if self._is_direct:
            return (), dict(zip(self._names, astuple(decoded), strict=True))
        return self.signature.unbind(self._values(decoded))

    def named(self, text: str | bytes) -> dict[str, object]:
        """The stored call's arguments by parameter name, defaults included, `*` and `**` as one value each."""
        return self.signature.defaults | self._values(self._decoded(text))

    def canonical(self, text: str | bytes) -> bytes:
        """Bytes that are equal for equal arguments, whatever the order of their keys and sets."""
        return _ENCODE(_ordered(self._values(self._decoded(text))))

    def _values(self, decoded: msgspec.Struct) -> dict[str, object]:
        pairs = zip(self._names, astuple(decoded), strict=True)
        if self._all_required:
            return dict(pairs)
        return {name: value for name, value in pairs if value is not msgspec.UNSET}

    def _decoded(self, text: str | bytes) -> msgspec.Struct:
        try:
            return self._decode(text)
        except _DECODING_ERRORS:
            raise self._refusal(given_as_json(self.signature, text), None) from None

    def _refusal(self, given: Given | None, redact: Iterable[str] | None) -> InvalidArguments:
        telling = Telling(redact, encrypted=self._encrypted)
        return refusal(self._function, self.signature, given, _tried, telling)


def _tried(name: str, annotation: Any, value: object) -> Tried:
    text: bytes | None = None
    try:
        text = bytes(value) if isinstance(value, msgspec.Raw) else _stored(name, annotation, value)
        msgspec.json.Decoder(Any if annotation is object else annotation, dec_hook=_from_json).decode(text)
    except _MISFITS as error:
        return Tried(text, error)
    return Tried(text)


def _stored(name: str, annotation: Any, value: object) -> bytes:
    """The JSON text of one argument that loses nothing."""
    text = _ENCODE(value)
    check_storable({name: value})
    if _is_loose(annotation):
        check_plain(value, name)
    return text


class Result:
    """The codec of one handler's results; None is kept as no result. No error tells a value of an `encrypted` kind."""

    def __init__(self, function: Callable[..., Any], *, encrypted: bool = False) -> None:
        self._encrypted = encrypted
        self._annotation = checked_annotation(_without_steering(result_annotation(function)), "return")
        self._decode = msgspec.json.Decoder(self._annotation, dec_hook=_from_json).decode

    def encode(self, value: object, *, max_bytes: int = PAYLOAD_BYTES_MAX) -> str | None:
        """The result as JSON text; `InvalidArguments` when JSON cannot hold it."""
        return None if value is None else encode_plain(value, "result", max_bytes=max_bytes)

    def decode(self, text: str | bytes | None) -> Any:
        """The result as the handler's return annotation describes it."""
        if text is None:
            return None
        try:
            return self._decode(text)
        except _DECODING_ERRORS as error:
            tried = Tried(text.encode() if isinstance(text, str) else text, error)
            telling = Telling(None, encrypted=self._encrypted)
            why = why_unfit("result", self._annotation, tried, telling)
            raise InvalidArguments("result", why) from None


def encode_plain(value: object, field: str, *, max_bytes: int = PAYLOAD_BYTES_MAX) -> str:
    """Any value that JSON can hold without loss, as text."""
    try:
        raw = _ENCODE(value)
    except _ENCODING_ERRORS:
        _refuse({field: value}, f"{'return' if field == 'result' else 'give'} {STORABLE}")
    if b"null" in raw or b"\\u0000" in raw:
        check_storable({field: value})
    if len(raw) > max_bytes:
        raise PayloadTooLarge(field, f"{len(raw)} bytes of JSON; the limit is {max_bytes}")
    return raw.decode()


def check_plain(value: object, field: str) -> None:
    """Refuse what would come back from JSON as something else, where no annotation can rebuild it."""
    if isinstance(value, _SCALARS):
        return
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                why = f"a key of type {type(key).__qualname__} would come back as a string"
                raise InvalidArguments(field, why, next_step=f"annotate {field} with its type")
            check_plain(part, field)
    elif isinstance(value, list | tuple):
        for part in value:
            check_plain(part, field)
    else:
        why = (
            f"a {type(value).__qualname__} would come back as plain JSON, since no annotation says what it is"
        )
        raise InvalidArguments(field, why, next_step=f"annotate {field} with its type")


def _ordered(value: Any) -> object:
    """The value with its sets and mappings in one order, fit to be compared but not to be decoded."""
    if isinstance(value, set | frozenset):
        return sorted(_ENCODE(_ordered(part)) for part in value)
    if isinstance(value, Mapping):
        return sorted((_ENCODE(key), _ENCODE(_ordered(part))) for key, part in value.items())
    if isinstance(value, list | tuple):
        return [_ordered(part) for part in value]
    if dataclasses.is_dataclass(value):
        return [_ordered(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, msgspec.Struct):
        return [_ordered(part) for part in astuple(value)]
    if _is_model(type(value)):
        return _ordered(value.model_dump(mode="python", by_alias=True, round_trip=True))
    return value


def checked_annotation(annotation: Any, field: str) -> Any:
    """An annotation whose values can be rebuilt from JSON, or `InvalidOption` with the part that cannot."""
    if annotation is object:
        return Any
    try:
        described = msgspec.inspect.type_info(annotation)
        msgspec.json.Decoder(annotation, dec_hook=_from_json)
        foreign = _foreign(described, set())
    except (TypeError, ValueError, NameError, RecursionError) as error:
        raise InvalidOption(
            field, f"values of {annotation!r} cannot be rebuilt from JSON: {error}"
        ) from error
    if foreign is not None:
        raise InvalidOption(field, f"values of {foreign!r} cannot be rebuilt from JSON")
    return annotation


def _foreign(described: object, seen: set[int]) -> Any:
    """The first type inside that neither msgspec nor this module knows, else None."""
    if id(described) in seen:
        return None
    seen.add(id(described))
    if isinstance(described, msgspec.inspect.CustomType):
        known = _is_model(described.cls) or issubclass(described.cls, PurePath)
        return None if known else described.cls
    if isinstance(described, msgspec.inspect.Type | msgspec.inspect.Field):
        parts: Iterable[object] = (getattr(described, name) for name in described.__struct_fields__)
    elif isinstance(described, tuple):
        parts = described
    else:
        return None
    return next((found for part in parts if (found := _foreign(part, seen)) is not None), None)


def _is_loose(annotation: Any) -> bool:
    """Whether nothing in the annotation says what its values are."""
    if annotation in {Any, dict, list}:
        return True
    parts = get_args(annotation)
    if get_origin(annotation) is dict:
        return parts[0] is str and _is_loose(parts[1])
    return get_origin(annotation) is list and _is_loose(parts[0])


def _without_steering(annotation: Any) -> Any:
    """The annotation without the values by which a handler steers its end, which are never results."""
    if get_origin(annotation) is Annotated or get_origin(annotation) not in {Union, types.UnionType}:
        return type(None) if _is_steering(annotation) else annotation
    parts = tuple(part for part in get_args(annotation) if not _is_steering(part))
    return functools.reduce(operator.or_, parts) if parts else type(None)


def _is_steering(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Steer)


def _refuse(values: Mapping[str, object], next_step: str) -> NoReturn:
    """Name the field that cannot be encoded."""
    for name, value in values.items():
        try:
            _ENCODE(value)
        except UnicodeEncodeError:
            raise InvalidArguments(name, "half of a surrogate pair cannot be stored") from None
        except _ENCODING_ERRORS as error:
            raise InvalidArguments(name, str(error), next_step=next_step) from None
    raise InvalidArguments("arguments", "cannot be encoded as JSON")


def check_storable(values: Mapping[str, object]) -> None:
    """Refuse numbers that JSON would turn into null, and characters that PostgreSQL refuses."""
    for name, value in values.items():
        try:
            loss = _loss(msgspec.to_builtins(value, enc_hook=_to_json, str_keys=True))
        except RecursionError:
            loss = "it is nested too deeply to be stored"
        if loss:
            raise InvalidArguments(name, loss)


def _loss(plain: object) -> str:
    if isinstance(plain, float):
        return "" if math.isfinite(plain) else "nan and inf are not numbers that JSON can hold"
    if isinstance(plain, str):
        return "the NUL character cannot be stored" if _UNSTORABLE.search(plain) else ""
    if isinstance(plain, dict):
        return _first_loss(plain.keys()) or _first_loss(plain.values())
    return _first_loss(plain) if isinstance(plain, list | tuple | set | frozenset) else ""


def _first_loss(parts: Iterable[object]) -> str:
    return next((loss for part in parts if (loss := _loss(part))), "")
