import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, Unpack
from uuid import UUID

import pytest

from perdure.domain.context import Context
from perdure.domain.errors import InvalidArguments, InvalidOption, PayloadTooLarge
from perdure.domain.payload import Payload, Result
from perdure.domain.retry import Cancel, Snooze
from tests.support.arguments import Colour, Photo, Size, Unit


def resize(image_id: UUID, width: int = 640, *, ratio: float | None = None, note: Any = None) -> Size:
    raise NotImplementedError


IMAGE = UUID("0198c5a1-0000-7000-8000-000000000001")
payload = Payload(resize)


def test_a_payload_is_one_object_keyed_by_parameter_name_without_defaults() -> None:
    assert payload.encode((IMAGE,), {}) == f'{{"image_id":"{IMAGE}"}}'
    assert payload.encode((), {"width": 640, "image_id": IMAGE}) == f'{{"width":640,"image_id":"{IMAGE}"}}'


def test_arguments_by_position_are_stored_as_the_same_arguments_by_name() -> None:
    def send(to: str, times: int, at: datetime | None) -> None: ...

    values = {"to": "a", "times": 3, "at": None}
    assert Payload(send).encode(tuple(values.values()), {}) == Payload(send).encode((), values)
    with pytest.raises(InvalidArguments) as refused:
        Payload(send).encode(("a\x00", 3, None), {})
    assert refused.value.field == "to"


def test_variadic_parameters_are_stored_under_their_own_names() -> None:
    def tag(image: str, /, *tags: str, **scores: float) -> None: ...

    stored = Payload(tag).encode(("a", "x", "y"), {"image": 0.5})
    assert stored == '{"image":"a","tags":["x","y"],"scores":{"image":0.5}}'
    assert Payload(tag).decode(stored) == (("a", "x", "y"), {"image": 0.5})


@pytest.mark.parametrize(
    ("args", "kwargs", "field"),
    [
        ((), {}, "image_id"),
        ((IMAGE, "wide"), {}, "width"),
        ((IMAGE, 1, 2), {}, "arguments"),
        ((IMAGE,), {"height": 3}, "height"),
        ((IMAGE,), {"image_id": IMAGE}, "image_id"),
        ((IMAGE, True), {}, "width"),
        ((IMAGE, 1.5), {}, "width"),
        ((IMAGE,), {"ratio": math.nan}, "ratio"),
        ((IMAGE,), {"ratio": math.inf}, "ratio"),
        ((IMAGE,), {"note": {"deep": [math.nan]}}, "note"),
        ((IMAGE,), {"note": "a\x00b"}, "note"),
        ((IMAGE,), {"note": {"a\x00b": 1}}, "note"),
        ((IMAGE,), {"note": "\ud800"}, "note"),
        ((IMAGE,), {"note": datetime.now(UTC)}, "note"),
        ((IMAGE,), {"note": [{1, 2}]}, "note"),
        ((IMAGE,), {"note": {1: 2}}, "note"),
        ((IMAGE,), {"note": object()}, "note"),
        ((object(),), {}, "image_id"),
        (("no uuid",), {}, "image_id"),
        ((None,), {}, "image_id"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_by_parameter(
    args: tuple[Any, ...], kwargs: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArguments) as refused:
        payload.encode(args, kwargs)
    assert refused.value.field == field


def test_a_text_that_only_looks_like_an_escaped_nul_is_kept() -> None:
    assert payload.decode(payload.encode((IMAGE,), {"note": "\\u0000 null"}))[1]["note"] == "\\u0000 null"


def test_null_beside_numbers_is_kept() -> None:
    assert payload.decode(payload.encode((IMAGE,), {"ratio": None, "note": [None, 1.5]}))[1]["ratio"] is None


def test_a_cycle_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises((InvalidArguments, RecursionError)):
        payload.encode((IMAGE,), {"note": loop})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{}", "image_id"),
        (f'{{"image_id":"{IMAGE}","hight":1}}', "hight"),
        (f'{{"image_id":"{IMAGE}","width":"1"}}', "width"),
        ("[]", "arguments"),
        ("{", "arguments"),
    ],
)
def test_a_stored_payload_that_does_not_fit_is_refused_by_field(text: str, field: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        payload.decode(text)
    assert refused.value.field == field


def test_a_payload_over_the_limit_is_refused() -> None:
    fits = payload.encode((IMAGE,), {"note": "x" * 100})
    assert payload.encode((IMAGE,), {"note": "x" * 100}, max_bytes=len(fits)) == fits
    with pytest.raises(PayloadTooLarge, match="the limit is"):
        payload.encode((IMAGE,), {"note": "x" * 100}, max_bytes=len(fits) - 1)


CONTEXT = Context(
    job_id=IMAGE,
    kind="k",
    queue="q",
    attempt=1,
    max_attempts=1,
    deadline=None,
    line=None,  # type: ignore[arg-type]
)


def first(ctx: Context, a: int, b: int = 2) -> Any:
    return ctx, a, b


def last(a: int, b: int = 2, ctx: Context | None = None) -> Any:
    return ctx, a, b


def middle(a: int, /, ctx: Context, *rest: int) -> Any:
    return ctx, a, *rest


def only_by_position(a: int = 1, ctx: Context = CONTEXT, b: int = 2, /) -> Any:
    return ctx, a, b


def only_by_name(*rest: int, ctx: Context, b: int = 2) -> Any:
    return ctx, *rest, b


def before_the_rest(ctx: Context, *rest: int) -> Any:
    return ctx, *rest


@pytest.mark.parametrize("function", [first, last, middle, only_by_position, only_by_name, before_the_rest])
@pytest.mark.parametrize("args", [(1,), (1, 2)])
def test_the_context_is_put_where_its_annotation_stands_and_never_stored(
    function: Callable[..., Any], args: tuple[int, ...]
) -> None:
    codec = Payload(function)
    stored = codec.encode(args, {})
    assert "ctx" not in stored
    call_args, call_kwargs = codec.signature.with_context(codec.decode(stored), CONTEXT)
    context, *others = function(*call_args, **call_kwargs)
    assert context is CONTEXT
    assert tuple(others[: len(args)]) == args


def test_a_second_context_is_refused() -> None:
    def greedy(one: Context, two: Context) -> None: ...

    with pytest.raises(InvalidOption, match="two"):
        Payload(greedy)


@pytest.mark.parametrize(
    "annotation",
    [
        "Missing",
        "no such",
        object,
        Callable[[], int],
        type,
        complex,
        list[complex],
        int | list[int] | set[int],
        Photo | int,
    ],
)
def test_an_annotation_that_json_cannot_rebuild_is_refused_by_parameter(annotation: Any) -> None:
    def function(thing): ...  # type: ignore[no-untyped-def]

    function.__annotations__["thing"] = annotation
    if annotation is object:
        assert Payload(function).decode(Payload(function).encode(([1],), {})) == ((), {"thing": [1]})
        return
    with pytest.raises(InvalidOption) as refused:
        Payload(function)
    assert refused.value.field == "thing"


def test_annotations_in_text_are_resolved_where_the_function_was_defined() -> None:
    def function(size: "Size", ctx: "Context", *colours: "Colour") -> "Size":
        raise NotImplementedError

    codec = Payload(function)
    stored = codec.encode((Size(1), Colour.RED), {})
    assert codec.decode(stored) == ((Size(1), Colour.RED), {})


def test_a_result_comes_back_as_annotated() -> None:
    result = Result(resize)
    stored = result.encode(Size(3, Unit.POINT))
    assert stored == '{"width":3,"unit":"pt"}'
    assert result.decode(stored) == Size(3, Unit.POINT)


def test_no_result_is_kept_as_none() -> None:
    assert Result(resize).encode(None) is None
    assert Result(resize).decode(None) is None


def test_values_that_steer_are_no_part_of_the_result() -> None:
    def one() -> Size | Snooze | Cancel:
        raise NotImplementedError

    def none() -> Cancel:
        raise NotImplementedError

    def both() -> Snooze | Cancel:
        raise NotImplementedError

    assert Result(one).decode('{"width":1}') == Size(1)
    assert Result(none).decode(None) is None
    assert Result(both).decode(None) is None


@pytest.mark.parametrize("value", [math.nan, "\x00", "\ud800", object(), [math.inf]])
def test_a_result_that_cannot_be_stored_is_refused(value: object) -> None:
    with pytest.raises(InvalidArguments) as refused:
        Result(resize).encode(value)
    assert refused.value.field == "result"


def test_a_stored_result_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="width"):
        Result(resize).decode('{"width":"x"}')
    with pytest.raises(PayloadTooLarge):
        Result(resize).encode("x" * 100, max_bytes=100)


class Name(str):
    """A text of a type of its own, as libraries make them."""

    __slots__ = ()


class Count(int):
    """A number of a type of its own."""


class Share(float):
    """A fraction of a type of its own."""


def test_subclasses_of_plain_types_are_stored_as_those() -> None:
    stored = payload.encode((IMAGE, Count(7)), {"ratio": Share(0.5), "note": [Name("a"), Count(2**80)]})
    assert payload.decode(stored)[1] == {"image_id": IMAGE, "width": 7, "ratio": 0.5, "note": ["a", 2**80]}


class Named(TypedDict):
    width: int


def test_unpacked_parameters_are_checked_by_their_parts() -> None:
    def draw(*points: *tuple[int, str], **named: Unpack[Named]) -> None: ...

    codec = Payload(draw)
    assert codec.decode(codec.encode((1, "a"), {"width": 2})) == ((1, "a"), {"width": 2})
    with pytest.raises(InvalidArguments, match="points"):
        codec.encode(("a", 1), {"width": 2})
    with pytest.raises(InvalidArguments, match="width"):
        codec.encode((1, "a"), {"width": "x"})


def test_a_payload_stored_for_an_older_signature_is_filled_with_defaults() -> None:
    def newer(a: int, b: int = 5, *rest: int) -> None: ...

    assert Payload(newer).decode('{"a":1,"rest":[3]}') == ((1, 5, 3), {})


def test_a_path_comes_back_as_a_path() -> None:
    def read(path: Path) -> None: ...

    codec = Payload(read)
    assert codec.decode(codec.encode((Path("/tmp/x"),), {}))[1] == {"path": Path("/tmp/x")}  # noqa: S108
    with pytest.raises(InvalidArguments, match="path"):
        codec.encode((3,), {})
