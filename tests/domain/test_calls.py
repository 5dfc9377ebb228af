"""The codec against arbitrary signatures and calls."""

import inspect
import keyword
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from types import GenericAlias
from typing import Any, Literal
from uuid import UUID

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from perdure.domain.errors import InvalidArguments
from perdure.domain.payload import Payload
from tests.support.arguments import Box, Colour, Options, Photo, Point, Size, Unit

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
zones = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(timezones=zones)
sizes = st.builds(Size, st.integers(), st.none() | st.sampled_from(Unit))
Typed = tuple[Any, st.SearchStrategy[Any]]

leaves: list[Typed] = [
    (int, st.integers(-(2**200), 2**200)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (str, texts),
    (bytes, st.binary(max_size=20)),
    (datetime, moments | st.datetimes()),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Colour, st.sampled_from(Colour)),
    (Unit, st.sampled_from(Unit)),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (Size, sizes),
    (Box, st.builds(Box, sizes, st.lists(texts, max_size=3))),
    (Options, st.fixed_dictionaries({}, optional={"crop": st.booleans(), "scale": st.floats(0, 1)})),
    (Point, st.builds(Point, st.integers(), st.integers())),
    (Photo, st.builds(Photo, taken=st.datetimes(), price=st.decimals(0, 100, places=2), Caption=texts)),
    (PurePosixPath, texts.map(PurePosixPath)),
    (Any, st.recursive(st.none() | st.booleans() | st.integers() | texts, st.lists, max_leaves=5)),
]
hashable: list[Typed] = [pair for pair in leaves if pair[0] in {int, str, UUID, date, Decimal, Size}]


def containers(children: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.one_of(
        children.map(lambda t: (GenericAlias(list, (t[0],)), st.lists(t[1], max_size=3))),
        children.map(lambda t: (GenericAlias(dict, (str, t[0])), st.dictionaries(texts, t[1], max_size=3))),
        children.map(lambda t: (GenericAlias(tuple, (t[0], ...)), st.lists(t[1], max_size=3).map(tuple))),
        children.map(lambda t: (t[0] | None if t[0] is not Any else Any, st.none() | t[1])),
        st.tuples(children, children).map(
            lambda p: (GenericAlias(tuple, (p[0][0], p[1][0])), st.tuples(p[0][1], p[1][1]))
        ),
        st.sampled_from(hashable).map(lambda t: (GenericAlias(set, (t[0],)), st.sets(t[1], max_size=3))),
        st.sampled_from(hashable).map(
            lambda t: (GenericAlias(frozenset, (t[0],)), st.frozensets(t[1], max_size=3))
        ),
        st.sampled_from(hashable[:3]).map(
            lambda t: (GenericAlias(dict, (t[0], int)), st.dictionaries(t[1], st.integers(), max_size=3))
        ),
    )


typed = st.recursive(st.sampled_from(leaves), containers, max_leaves=3)
names = st.text("abcdefgå_", min_size=1, max_size=4).filter(lambda n: not keyword.iskeyword(n))
KINDS = [
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
]


def function_with(signature: inspect.Signature) -> Callable[..., inspect.BoundArguments]:
    """A function of that signature that returns how it was called, defaults filled in."""

    def target(*args: Any, **kwargs: Any) -> inspect.BoundArguments:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound

    target.__signature__ = signature  # type: ignore[attr-defined]
    return target


@st.composite
def calls(draw: st.DrawFn) -> tuple[inspect.Signature, tuple[Any, ...], dict[str, Any]]:
    """Any signature, and a call that fits it."""
    kinds = sorted(draw(st.lists(st.sampled_from(KINDS), max_size=5)))
    assume(all(kinds.count(kind) <= 1 for kind in (KINDS[2], KINDS[4])))
    chosen = draw(st.lists(names, min_size=len(kinds), max_size=len(kinds), unique=True))
    parameters: list[inspect.Parameter] = []
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    optional = by_name = False
    for kind, name in zip(kinds, chosen, strict=True):
        annotation, values = draw(typed)
        default: Any = inspect.Parameter.empty
        if kind is KINDS[2]:
            args += draw(st.lists(values, max_size=3)) if len(args) == len(parameters) else []
        elif kind is KINDS[4]:
            kwargs.update(draw(st.dictionaries(names.filter(lambda n: n not in chosen), values, max_size=3)))
        else:
            optional = (optional and kind is not KINDS[3]) or draw(st.booleans())
            default = object() if optional else default
            by_name = by_name or kind is KINDS[3] or (kind is KINDS[1] and draw(st.booleans()))
            given_here = not optional or (draw(st.booleans()) and (by_name or len(args) == len(parameters)))
            if given_here and by_name:
                kwargs[name] = draw(values)
            elif given_here:
                args.append(draw(values))
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
    return inspect.Signature(parameters), tuple(args), kwargs


@given(calls())
def test_any_typed_call_comes_back_as_it_went(
    call: tuple[inspect.Signature, tuple[Any, ...], dict[str, Any]],
) -> None:
    signature, args, kwargs = call
    function = function_with(signature)
    direct = function(*args, **kwargs)
    payload = Payload(function)
    stored = payload.encode(args, kwargs)
    back_args, back_kwargs = payload.decode(stored)
    assert function(*back_args, **back_kwargs).arguments == direct.arguments


@given(calls())
def test_arguments_are_bound_exactly_once(
    call: tuple[inspect.Signature, tuple[Any, ...], dict[str, Any]],
) -> None:
    signature, args, kwargs = call
    stored = msgspec.json.decode(Payload(function_with(signature)).encode(args, kwargs))
    assert stored.keys() == signature.bind(*args, **kwargs).arguments.keys()


@given(calls())
def test_the_canonical_form_does_not_depend_on_the_spelling_of_the_call(
    call: tuple[inspect.Signature, tuple[Any, ...], dict[str, Any]],
) -> None:
    signature, args, kwargs = call
    payload = Payload(function_with(signature))
    stored = payload.encode(args, kwargs)
    assume(not any(p.kind is KINDS[0] and p.default is not p.empty for p in signature.parameters.values()))
    again = payload.encode(*payload.decode(stored))
    assert payload.canonical(stored) == payload.canonical(again)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | texts, inner, max_size=4),
    max_leaves=8,
)


@given(calls(), json_values, st.booleans())
def test_any_json_in_the_place_of_arguments_is_bound_or_refused(
    call: tuple[inspect.Signature, tuple[Any, ...], dict[str, Any]], stranger: Any, named: bool
) -> None:
    """What somebody stored by plain SQL, or an older version of the program: the handler is called as it is typed, or not at all."""
    signature = call[0]
    if named and isinstance(stranger, list):
        stranger = dict(zip(signature.parameters, stranger, strict=False))
    payload = Payload(function_with(signature))
    try:
        args, kwargs = payload.decode(msgspec.json.encode(stranger).decode())
    except InvalidArguments:
        return
    signature.bind(*args, **kwargs)
