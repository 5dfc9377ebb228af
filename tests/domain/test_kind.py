import copy
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from perdure.domain.context import Context
from perdure.domain.errors import InvalidOption
from perdure.domain.job import JobState, OnParentFailure
from perdure.domain.kind import Handler, KindOptions, job
from perdure.domain.retry import Backoff, Fixed


@job
def double(number: int, *, times: int = 2) -> int:
    """Number times two."""
    return number * times


@job(queue="media", retries=5, timeout="2m", labels=["gpu", "gpu"], retry=Fixed("3s"))
async def resize(ctx: Context, width: int) -> int:
    return width


def test_a_job_stays_callable_exactly_as_its_function() -> None:
    assert double(4) == 8
    assert double(number=4, times=3) == 12
    with pytest.raises(TypeError):
        double("a", "b")  # type: ignore[call-arg,arg-type]


def test_a_job_looks_like_its_function() -> None:
    assert (double.__name__, double.__doc__) == ("double", "Number times two.")
    assert (double.__module__, double.__qualname__) == (__name__, "double")
    assert double.__wrapped__ is double.function
    assert list(inspect.signature(double).parameters) == ["number", "times"]
    assert repr(double) == f"<kind {__name__}.double>"


def test_a_job_is_copied_and_pickled_by_reference() -> None:
    assert copy.deepcopy(double) is double


def test_a_kind_is_named_after_its_module_and_function_unless_it_says_otherwise() -> None:
    assert double.name == f"{__name__}.double"
    assert job(name="half")(lambda: 0.5).name == "half"


def test_a_kind_of_the_main_program_is_named_after_its_file() -> None:
    def task() -> None: ...

    task.__module__ = "__main__"
    task.__qualname__ = "task"
    assert job(task).name == "test_kind.task"


def test_options_are_kept_as_they_are_meant() -> None:
    assert resize.options == KindOptions(
        queue="media", retries=5, timeout=timedelta(minutes=2), labels=("gpu",), retry=Fixed("3s")
    )
    assert double.options == KindOptions(priority=3, retries=3, timeout=timedelta(minutes=5), retry=Backoff())


def test_options_without_a_function_make_a_decorator_with_other_defaults() -> None:
    media = job(queue="media", priority=5)
    kind = media(priority=1)(double.function)
    assert (kind.options.queue, kind.options.priority) == ("media", 1)
    assert media(double.function).options.priority == 5


def test_words_stand_for_members_of_enums() -> None:
    kind = job(
        on_parent_failure="run",
        unique_for="1h",
        unique_states=["pending", "scheduled", "available", "retryable", "completed"],
    )(double.function)
    assert kind.options.on_parent_failure is OnParentFailure.RUN
    assert JobState.COMPLETED in (kind.options.unique_states or ())


def test_the_mode_follows_from_the_function() -> None:
    assert (double.mode, resize.mode) == ("thread", "async")
    assert job(mode="process")(double.function).mode == "process"


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("name", ["", "  ", "a\x00b", "a\nb", "x" * 201, 3, "\ud800"]),
        ("queue", ["", "a\tb", None]),
        ("priority", [0, 6, 2.5, "3", True, None]),
        ("retries", [-1, 1.0, None, 10_001]),
        ("timeout", ["soon", 0, "0s", -1, "10us", "25d"]),
        ("retry", [3, "1s", Backoff, None]),
        ("mode", ["fork", "async", ""]),
        ("labels", ["gpu", ["", "a"], [3], ["a\x00"]]),
        ("concurrency_key", ["", 3, "\n"]),
        ("concurrency_limit", [0, None, "1", 32_768]),
        ("unique_key", [b"x", ""]),
        ("unique_for", ["x", -1]),
        ("unique_states", [["pending"], ["nowhere"], ["pending", "scheduled", "available", "retryable"]]),
        ("on_duplicate", ["ignore", None]),
        ("on_parent_failure", ["panic", None]),
        ("inherit_priority", [1, None]),
        ("crash_limit", [0, -1, "3"]),
        ("colour", ["red"]),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(InvalidOption) as refused:
            job(**{option: value})(double.function)
        assert refused.value.field == option


def generator() -> Iterator[int]:
    yield 1


async def stream() -> AsyncIterator[int]:
    yield 1


class Service:
    def method(self) -> None: ...


@pytest.mark.parametrize("function", [generator, stream, Service.method, Service().method, Service, print, 3])
def test_what_cannot_be_a_job_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(InvalidOption, match="function"):
        job(function)


def test_a_job_is_not_made_a_job_twice() -> None:
    with pytest.raises(InvalidOption, match="function"):
        job(double)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(InvalidOption, match="name"):
        job(lambda: None)


def test_a_job_for_processes_must_be_importable() -> None:
    def local() -> None: ...

    with pytest.raises(InvalidOption, match="mode"):
        job(mode="process")(local)
    with pytest.raises(InvalidOption, match="mode"):
        job(mode="process")(resize.function)


def test_annotations_are_resolved_when_a_job_is_first_used() -> None:
    def later(size: "NotYet") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    kind: Handler[..., Any, ..., Any] = job(later)
    with pytest.raises(InvalidOption, match="size"):
        kind.arguments.encode((1,), {})


def test_a_stored_call_runs_with_its_context() -> None:
    context = Context(
        job_id=None,  # type: ignore[arg-type]
        kind=resize.name,
        queue="media",
        attempt=1,
        max_attempts=1,
        deadline=None,
        line=None,  # type: ignore[arg-type]
    )
    stored = resize.arguments.encode((640,), {})
    assert stored == '{"width":640}'
    assert resize.arguments_of(stored, context) == ((), {"ctx": context, "width": 640})
    assert resize.result.decode(resize.result.encode(640)) == 640
