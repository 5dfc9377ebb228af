"""The parameters of a handler as the payload sees them: named, typed, without the context."""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, Unpack, get_args, get_origin, get_type_hints

from perdure.domain.context import Context
from perdure.domain.errors import InvalidOption

Arguments = tuple[tuple[object, ...], dict[str, object]]
"""What a call passes: by position, and by name."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_UNRESOLVED = (
    "define or import the names of annotations at module level, not in a function or under TYPE_CHECKING"
)


def checked_function(function: object) -> Callable[..., Any]:
    """A function that can be a job, or `InvalidOption` with the reason why it cannot."""
    if not inspect.isfunction(function):
        raise InvalidOption("function", f"{function!r} is not a plain function")
    name = function.__qualname__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidOption("function", f"{name} is a generator; a job must return its result")
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is not None and first.name in {"self", "cls"} and first.annotation is inspect.Parameter.empty:
        raise InvalidOption("function", f"{name} is a method; a job has no object to call it on")
    return function


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter as it is stored: `annotation` is that of its JSON value, lists and objects for `*` and `**`."""

    name: str
    annotation: Any
    required: bool
    kind: Any
    default: object


class Signature:
    """Binds calls to parameter names and back; built once for each handler, when it is first used."""

    def __init__(self, function: Callable[..., Any]) -> None:
        whole = inspect.signature(function)
        hints = {name: _resolved(function, parameter) for name, parameter in whole.parameters.items()}
        self.bare = whole.replace(
            parameters=[p for name, p in whole.parameters.items() if not _is_context(hints[name])],
            return_annotation=inspect.Signature.empty,
        )
        self.parameters = tuple(_stored(p, hints[p.name]) for p in self.bare.parameters.values())
        self.context = _context_of(whole, hints)
        self._context_kind = whole.parameters[self.context].kind if self.context else None
        self._context_place = list(whole.parameters).index(self.context) if self.context else 0
        self._prepare()

    def _prepare(self) -> None:
        kinds = inspect.Parameter
        self.positional = tuple(p.name for p in self.parameters if p.kind in _POSITIONAL)
        self._first = tuple(p for p in self.parameters if p.kind is kinds.POSITIONAL_ONLY)
        self._by_name = frozenset(p.name for p in self.parameters) - {p.name for p in self._first}
        self._required = frozenset(p.name for p in self.parameters if p.required)
        self.rest = next((p.name for p in self.parameters if p.kind is kinds.VAR_POSITIONAL), None)
        self.extra = next((p.name for p in self.parameters if p.kind is kinds.VAR_KEYWORD), None)
        missing = inspect.Parameter.empty
        self.defaults = {p.name: p.default for p in self.parameters if p.default is not missing}
        self._is_plain = self.rest is None and self.extra is None
        self.is_named = self._is_plain and not self._first
        self.is_by_place = self._is_plain and len(self.positional) == len(self.parameters)

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """The call's arguments by parameter name, defaults left out; TypeError when they do not fit."""
        if self._is_plain and len(args) <= len(self.positional):
            values = dict(zip(self.positional, args, strict=False))
            if kwargs.keys() <= self._by_name and values.keys().isdisjoint(kwargs):
                values.update(kwargs)
                if self._required <= values.keys():
                    return values
        return dict(self.bare.bind(*args, **kwargs).arguments)

    def unbind(self, values: dict[str, object]) -> Arguments:
        """Positional and named arguments that bind to `values` again."""
        if self.is_named:
            return (), values
        rest = values.pop(self.rest, ()) if self.rest else ()
        extra = values.pop(self.extra, {}) if self.extra else {}
        args: list[object] = [values.pop(p.name, p.default) for p in self._first]
        if isinstance(rest, Sequence) and rest:
            args += [values.pop(name, self.defaults.get(name)) for name in self.positional[len(args) :]]
            args += rest
        if isinstance(extra, Mapping):
            values.update(extra)
        return tuple(args), values

    def with_context(self, arguments: Arguments, context: Context) -> Arguments:
        """The same arguments with the context where the handler wants it, if it wants one."""
        if self.context is None:
            return arguments
        args, kwargs = arguments
        place, kind = self._context_place, self._context_kind
        is_reached = len(args) > place and kind is not inspect.Parameter.KEYWORD_ONLY
        if is_reached or kind is inspect.Parameter.POSITIONAL_ONLY:
            return (*args[:place], context, *args[place:]), kwargs
        return args, {**kwargs, self.context: context}


def result_annotation(function: Callable[..., Any]) -> Any:
    """What the handler promises to return; Any when it does not say."""
    annotation = inspect.signature(function).return_annotation
    return Any if annotation is inspect.Signature.empty else _evaluated(function, "return", annotation)


def _resolved(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    return _evaluated(function, parameter.name, parameter.annotation)


def _evaluated(function: Callable[..., Any], name: str, annotation: Any) -> Any:
    """The annotation as a type; names in text are looked up where the function was defined."""
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(holder, globalns=namespace, include_extras=True)[name]
    except Exception as error:
        why = f"the annotation {annotation!r} in {function.__qualname__} cannot be resolved: {error}"
        raise InvalidOption(name, why, next_step=_UNRESOLVED) from error


def _is_context(annotation: Any) -> bool:
    if get_origin(annotation) in {Union, types.UnionType, Annotated}:
        return any(_is_context(part) for part in get_args(annotation))
    return annotation is Context


def _context_of(whole: inspect.Signature, hints: Mapping[str, Any]) -> str | None:
    names = [name for name in whole.parameters if _is_context(hints[name])]
    if len(names) > 1:
        raise InvalidOption(names[1], "a handler gets one context, and this parameter asks for a second one")
    return names[0] if names else None


def _stored(parameter: inspect.Parameter, hint: Any) -> Parameter:
    variadic = parameter.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return Parameter(
        name=parameter.name,
        annotation=_gathered(parameter.kind, hint) if variadic else hint,
        required=not variadic and parameter.default is inspect.Parameter.empty,
        kind=parameter.kind,
        default=parameter.default,
    )


def _gathered(kind: Any, hint: Any) -> Any:
    if get_origin(hint) is Unpack:
        return get_args(hint)[0]
    if getattr(hint, "__unpacked__", False):
        return types.GenericAlias(tuple, get_args(hint))
    return list[hint] if kind is inspect.Parameter.VAR_POSITIONAL else dict[str, hint]
