"""What is said of arguments that do not fit: everything at once, and no value that is nobody's business."""

import json
import math
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from msgspec import Meta
from pydantic import BaseModel, field_validator

from perdure.domain.context import Context
from perdure.domain.errors import InvalidArguments
from perdure.domain.kind import job
from perdure.domain.misfits import MISFITS_MAX
from perdure.domain.payload import Payload
from perdure.domain.redaction import DEFAULT_NAMES

IMAGE = UUID(int=1)
SECRET = "hunter2-hunter2"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Login(BaseModel):
    """Its validator repeats what it is given, as validators of users do."""

    password: str
    age: int

    @field_validator("password")
    @classmethod
    def _check(cls, given: str) -> str:
        raise ValueError(f"{given} is too simple")


def resize(
    ctx: Context, image_id: UUID, width: int = 640, *, note: Any = None, token: str = SECRET
) -> None: ...


def tag(image: str, /, *tags: str, **scores: float) -> None: ...


def sign_in(
    password: Literal["x"], login: Login, colour: Colour, size: Annotated[int, Meta(ge=1)]
) -> None: ...


TAKES = "resize takes (image_id: uuid.UUID, width: int = 640, *, note: Any = None, token: str = …)"


def refused(function: Callable[..., Any], *args: object, **kwargs: object) -> InvalidArguments:
    with pytest.raises(InvalidArguments) as error:
        Payload(function).encode(args, kwargs, redact=DEFAULT_NAMES)
    return error.value


def test_everything_that_is_wrong_is_told_at_once_with_what_is_wanted() -> None:
    error = refused(resize, "no uuid", "wide", note=datetime.now(), hight=3, widht=4, width=5)  # noqa: DTZ005
    assert error.field == "image_id"
    assert error.message == (
        'image_id: uuid.UUID is wanted, not "no uuid"; width: int is wanted, not "wide"; '
        "note: a datetime would come back as plain JSON, since no annotation says what it is (annotate note with its type); "
        "width: given twice, by position and by name; "
        "hight: no such argument; widht: no such argument (did you mean width?)"
    )
    assert error.next_step == TAKES


def test_a_call_in_json_is_told_of_in_the_words_of_a_call_in_python() -> None:
    wrong = {"width": "wide", "widht": 3, "token": 5}
    in_python = refused(resize, **wrong)
    with pytest.raises(InvalidArguments) as in_json:
        Payload(resize).decode(json.dumps(wrong, indent=1), redact=DEFAULT_NAMES)
    assert (in_json.value.field, in_json.value.message) == (in_python.field, in_python.message)
    assert in_python.message.startswith("image_id: missing, uuid.UUID is wanted; width: ")
    assert in_json.value.next_step == in_python.next_step


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: refused(resize, IMAGE, 1, 2), "arguments: 3 were given by position, and 2 can be"),
        (lambda: refused(resize, IMAGE, width=None), "width: int is wanted, not null"),
        (lambda: refused(resize, IMAGE, note=[math.nan]), "note: nan and inf are not numbers that JSON can hold"),
        (lambda: refused(resize, IMAGE, note={1: 2}), "note: a key of type int would come back as a string (annotate note with its type)"),
        (lambda: refused(resize, IMAGE, note="\ud800"), "note: half of a surrogate pair cannot be stored"),
        (lambda: refused(resize, object()), "image_id: an object of type object cannot be stored as JSON, pass uuid.UUID"),
        (lambda: refused(tag, "a", "b", 3), 'tags: list[str] is wanted, not ["b",3] (at [1]: expected str, got int)'),
        (lambda: refused(tag, "a", x=1.5, y="z"), 'y: float is wanted, not "z"'),
        (lambda: refused(tag), "image: missing, str is wanted"),
    ],
)  # fmt: skip
def test_each_misfit_has_its_words(call: Callable[[], InvalidArguments], said: str) -> None:
    assert call().message == said


def test_where_inside_a_value_the_fault_lies_is_told_and_the_choices_are() -> None:
    error = refused(sign_in, "x", {"password": "a", "age": "old"}, "pink", 0)
    assert "at password, at age" in error.message
    assert "colour: one of 'red', 'blue' is wanted, not \"pink\"" in error.message
    assert "size: Annotated[int, msgspec.Meta(ge=1)] is wanted, not 0 (expected int >= 1)" in error.message


def test_no_secret_is_told() -> None:
    """Neither a value under a telling name, at any depth, nor what a validator says of it, nor a default."""
    error = refused(sign_in, SECRET, {"password": SECRET, "age": "old"}, "red", 1)
    assert "password: Literal['x'] is wanted, not [redacted]; login: " in error.message
    assert '{"password":"[redacted]","age":"old"}' in error.message
    for each in (error, refused(resize, IMAGE, token=[SECRET]), refused(resize, pasword=SECRET)):
        assert SECRET not in f"{each} {each.next_step} {each.__notes__}"


def test_names_of_the_settings_hide_values() -> None:
    with pytest.raises(InvalidArguments, match=r"width: int is wanted, not \[redacted\]"):
        Payload(resize).encode((IMAGE, "wide"), {}, redact=("Wid-th",))


@job(encrypted=True)
def heal(patient: str, days: int, login: Login | None = None, note: Any = SECRET) -> int:
    raise NotImplementedError


def test_no_value_of_an_encrypted_kind_is_told() -> None:
    wrong = {"patient": 3.25, "days": "many", "login": {"password": "x", "age": 7.125}, "note": {2.5: 1}}
    with pytest.raises(InvalidArguments) as error:
        heal.arguments.encode((), wrong, redact=())
    assert (
        "patient: str is wanted, not [encrypted]; days: int is wanted, not [encrypted]; "
        in error.value.message
    )
    with pytest.raises(InvalidArguments) as stored:
        heal.arguments.decode('{"patient": 3.25, "days": "many", "login": {"password": "x", "age": 7.125}}')
    with pytest.raises(InvalidArguments) as result:
        heal.result.decode('"many"')
    told = f"{error.value} {error.value.next_step} {stored.value} {stored.value.next_step} {result.value}"
    assert not [value for value in ("3.25", "many", "7.125", "2.5", SECRET) if value in told]
    assert "at age" not in told  # nor where inside a value the error lies


def test_a_stored_call_that_does_not_fit_is_told_without_its_values() -> None:
    """What hides values is not known where a worker reads them; the job's page shows them as it may."""
    with pytest.raises(InvalidArguments) as error:
        Payload(resize).decode(f'{{"image_id": "{IMAGE}", "width": "wide"}}')
    assert error.value.message == "width: int is wanted, not what was given"


def test_a_long_story_is_cut() -> None:
    error = refused(resize, "x" * 1000, **{f"n{number}": number for number in range(20)})
    assert error.message.startswith(
        f'image_id: uuid.UUID is wanted, not "{"x" * 59}…; n0: no such argument; '
    )
    assert error.message.endswith(f"; and {21 - MISFITS_MAX} more")
    assert refused(resize, IMAGE, **{"a\nb": 1}).field == r"'a\nb'"
