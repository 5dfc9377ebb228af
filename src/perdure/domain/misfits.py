"""What is said of a call whose arguments do not fit: everything that is wrong with it, in one wording for every face."""

import enum
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args, get_origin, runtime_checkable

import msgspec

from perdure.domain.errors import InvalidArguments
from perdure.domain.signature import Parameter, Signature

STORABLE = "text, numbers, bool, None, lists and dicts of them, dates, UUIDs, dataclasses, msgspec structs or pydantic models"

MISFITS_MAX = 10
VALUE_MAX = 60
WANTED_MAX = 100
SIGNATURE_MAX = 400
DETAILS_MAX = 3

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_TWICE = "given twice, by position and by name"
_PLACE = re.compile(r" - at (?P<place>.*)$", re.DOTALL)
_ANOTHER_TYPE = re.compile(r"Expected `[^`]*`, got `[^`]*`|Invalid (?:enum value|UUID)\b.*", re.DOTALL)
_REPEATED = re.compile(r"(Invalid (?:enum )?value) .*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Misfit:
    """One argument that does not fit, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Given:
    """What a call gives each parameter by name, and what it gives to none of them."""

    values: Mapping[str, object] = field(default_factory=dict)
    misfits: Sequence[Misfit] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of encoding one argument and decoding it again: its JSON text, if it has one, and the error, if any."""

    text: bytes | None
    error: Exception | None = None


Try = Callable[[str, Any, object], Tried]
"""Encodes and decodes an argument, given its name, its annotation and its value."""


class Telling:
    """What may be told of values: nothing of those of an encrypted kind, and none under a telling name.

    `redact` are the names in force; None tells no value at all, for where they are not known.
    """

    def __init__(self, redact: Iterable[str] | None, *, encrypted: bool) -> None:
        from perdure.domain.redaction import Redaction

        self._redaction = Redaction() if redact is None else Redaction(redact)
        self._tells_values = redact is not None
        self.encrypted = encrypted

    def hides(self, name: str) -> bool:
        """Whether nothing of this argument's value may be told."""
        return self.encrypted or self._redaction.tells(name)

    def value(self, name: str, text: bytes) -> str:
        """A value as it is named in a sentence."""
        from perdure.domain.redaction import ENCRYPTED, MASK

        if self.encrypted:
            return ENCRYPTED
        if not self._tells_values:
            return "what was given"
        return MASK if self.hides(name) else _shortened(self._redacted(text), VALUE_MAX)

    def is_open(self, name: str, text: bytes) -> bool:
        """Whether nothing had to be hidden in this value, so that a library's own words about it may be told."""
        return not self.hides(name) and self._redacted(text) == _on_one_line(text)

    def _redacted(self, text: bytes) -> str:
        try:
            return _on_one_line(bytes(self._redaction.of_json(msgspec.Raw(text)) or b""))
        except RecursionError:
            return "…"


def refusal(
    function: Callable[..., Any], signature: Signature, given: Given | None, attempt: Try, telling: Telling
) -> InvalidArguments:
    """Everything that is wrong with a call, its `field` the first argument that is; the next step says what is wanted.

    `given` is None where the call is no JSON object.
    """
    if given is None:
        found = [Misfit("arguments", "a JSON object by parameter name is wanted")]
    else:
        found = [*_misfits(signature, given, attempt, telling), *given.misfits]
    first, *others = found or [Misfit("arguments", "cannot be stored as JSON")]
    told = [first.why, *(f"{_named(other.name)}: {other.why}" for other in others[: MISFITS_MAX - 1])]
    if len(found) > MISFITS_MAX:
        told.append(f"and {len(found) - MISFITS_MAX} more")
    takes = _shortened(_called(signature, telling), SIGNATURE_MAX)
    return InvalidArguments(
        _named(first.name), "; ".join(told), next_step=f"{function.__qualname__} takes {takes}"
    )


def given_by_call(signature: Signature, args: Sequence[object], kwargs: Mapping[str, object]) -> Given:
    """What a call in Python gives, be it too much or too little."""
    by_name = {p.name for p in signature.parameters if p.kind in _BY_NAME}
    values: dict[str, object] = dict(zip(signature.positional, args, strict=False))
    misfits = [Misfit(name, _TWICE) for name in kwargs if name in by_name and name in values]
    surplus = args[len(signature.positional) :]
    if surplus and signature.rest:
        values[signature.rest] = surplus
    elif surplus:
        why = f"{len(args)} were given by position, and {len(signature.positional)} can be"
        misfits.append(Misfit("arguments", why))
    strange = {name: value for name, value in kwargs.items() if name not in by_name}
    if strange and signature.extra:
        values[signature.extra] = strange
    else:
        misfits += [_strange(name, signature) for name in strange]
    named = {name: value for name, value in kwargs.items() if name in by_name}
    return Given(named | values, misfits)


def given_as_json(signature: Signature, text: str | bytes) -> Given | None:
    """What a call gives as one JSON object by parameter name; None where the text is no such object."""
    try:
        values = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    known = {p.name for p in signature.parameters}
    return Given(
        {name: value for name, value in values.items() if name in known},
        [_strange(name, signature) for name in values if name not in known],
    )


def _misfits(signature: Signature, given: Given, attempt: Try, telling: Telling) -> Iterator[Misfit]:
    for parameter in signature.parameters:
        if parameter.name not in given.values:
            if parameter.required:
                wanted = _wanted(parameter.annotation)
                yield Misfit(parameter.name, f"missing, {wanted} is wanted" if wanted else "missing")
            continue
        for name, annotation, value in _parts(parameter, given.values[parameter.name]):
            tried = attempt(name, annotation, value)
            if tried.error is not None:
                yield Misfit(name, why_unfit(name, annotation, tried, telling))


def _parts(parameter: Parameter, value: object) -> Iterable[tuple[str, Any, object]]:
    """The arguments that a parameter gathers: those of `**` are told of by names of their own."""
    if parameter.kind is inspect.Parameter.VAR_KEYWORD and get_origin(parameter.annotation) is dict:
        if isinstance(value, msgspec.Raw) and bytes(value).lstrip().startswith(b"{"):
            value = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        if isinstance(value, Mapping):
            _, annotation = get_args(parameter.annotation)
            return [(str(name), annotation, part) for name, part in value.items()]
    return [(parameter.name, parameter.annotation, value)]


def why_unfit(name: str, annotation: Any, tried: Tried, telling: Telling) -> str:
    """What is wrong with one value that was tried in vain."""
    error, wanted = tried.error, _wanted(annotation)
    if isinstance(error, InvalidArguments):
        return f"{error.why} ({error.next_step})" if error.next_step else error.why
    if isinstance(error, RecursionError):
        return "it is nested too deeply to be stored"
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair cannot be stored"
    if tried.text is None:
        why = "it cannot be stored as JSON" if telling.hides(name) else str(error)
        return f"{why}, pass {wanted or STORABLE}"
    details = "" if telling.encrypted else _details(error, is_open=telling.is_open(name, tried.text))
    return f"{wanted} is wanted, not {telling.value(name, tried.text)}{details}"


def _strange(name: str, signature: Signature) -> Misfit:
    from difflib import get_close_matches

    known = [p.name for p in signature.parameters]
    if name in known:
        return Misfit(name, "can be given by position only")
    near = get_close_matches(name[:VALUE_MAX], known, n=1)
    return Misfit(name, f"no such argument (did you mean {near[0]}?)" if near else "no such argument")


@runtime_checkable
class _Report(Protocol):
    """The part of pydantic's error that is used here."""

    def errors(
        self, *, include_url: bool, include_context: bool, include_input: bool
    ) -> Sequence[Mapping[str, Any]]: ...


def _details(error: Exception | None, *, is_open: bool) -> str:
    """Where inside the value the error lies, and what it is; the latter only where the value itself may be told."""
    cause: object = None if error is None else error.__cause__
    if isinstance(cause, _Report):
        faults = cause.errors(include_url=False, include_context=False, include_input=False)
        found = [(".".join(map(str, fault["loc"])), str(fault["msg"])) for fault in faults[:DETAILS_MAX]]
    else:
        place = _PLACE.search(str(error))
        where = re.sub(r"`|\$\.?", "", place["place"]) if place else ""
        why = _PLACE.sub("", str(error))
        # What the sentence says already is not said twice.
        is_said = not where and _ANOTHER_TYPE.fullmatch(why)
        found = [(where, "" if is_said else _REPEATED.sub(r"\1", why).replace("`", ""))]
    told = [_detail(where, why if is_open else "") for where, why in found]
    return f" ({', '.join(told)})" if any(told) else ""


def _detail(where: str, why: str) -> str:
    why = why[:1].lower() + why[1:]
    return f"at {where}: {why}" if where and why else f"at {where}" if where else why


def _wanted(annotation: Any) -> str:
    """An annotation as people write it, empty where there is none; the values of an enumeration."""
    if annotation is Any or annotation is object:
        return ""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _shortened(f"one of {', '.join(repr(each.value) for each in annotation)}", WANTED_MAX)
    return _shortened(inspect.formatannotation(annotation).replace("typing.", ""), WANTED_MAX)


def _called(signature: Signature, telling: Telling) -> str:
    """The parameters as in the handler's definition, without the context."""
    empty = inspect.Parameter.empty
    shown = []
    for parameter in signature.bare.parameters.values():
        default = empty if parameter.default is empty else _Shown(_default(parameter, telling))
        annotation = parameter.annotation
        if isinstance(annotation, str):
            annotation = _Shown(annotation)
        shown.append(parameter.replace(default=default, annotation=annotation))
    return str(signature.bare.replace(parameters=shown))


def _default(parameter: inspect.Parameter, telling: Telling) -> str:
    value = parameter.default
    if isinstance(value, str | int | float | None) and not telling.hides(parameter.name):
        return _shortened(repr(value), VALUE_MAX)
    return "…"


class _Shown:
    """Stands for a default or an annotation in a signature's text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _named(name: str) -> str:
    return name if name.isidentifier() and len(name) <= VALUE_MAX else _shortened(ascii(name), VALUE_MAX)


def _on_one_line(text: bytes) -> str:
    return msgspec.json.format(text, indent=-1).decode()


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
