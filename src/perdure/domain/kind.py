"""The decorator `job`, and what it makes of a function: a kind of job."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import PurePath
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    get_args,
    overload,
)

from perdure.domain.bounds import CHECKS, Key, OnDuplicate, checked_name
from perdure.domain.context import Context
from perdure.domain.durations import Duration
from perdure.domain.errors import InvalidOption
from perdure.domain.follow_advice import FollowAdvice
from perdure.domain.job import DEFAULT_PRIORITY, DEFAULT_RETRIES, DEFAULT_TIMEOUT, JobState, OnParentFailure
from perdure.domain.meanings import listed
from perdure.domain.payload import Payload, Result
from perdure.domain.retry import Backoff, RetryPolicy
from perdure.domain.signature import Arguments, checked_function

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C")

Mode = Literal["async", "thread", "process"]
"""Where a handler runs: on the event loop, in a thread, or in a process that can be killed."""

DEFAULT_RETRY = Backoff()


@dataclass(frozen=True, slots=True, kw_only=True)
class KindOptions:
    """How jobs of one kind are treated, unless an enqueue says otherwise."""

    queue: str = "default"
    priority: int = DEFAULT_PRIORITY
    retries: int = DEFAULT_RETRIES
    timeout: timedelta | None = DEFAULT_TIMEOUT
    retry: RetryPolicy = DEFAULT_RETRY
    labels: tuple[str, ...] = ()
    concurrency_key: Key | None = None
    concurrency_limit: int = 1
    unique_key: Key | None = None
    unique_for: timedelta | None = None
    unique_states: frozenset[JobState] | None = None
    on_duplicate: OnDuplicate = "raise"
    on_parent_failure: OnParentFailure = OnParentFailure.HOLD
    inherit_priority: bool = True
    crash_limit: int | None = None
    encrypted: bool = False
    follow_advice: FollowAdvice | None = None


class JobOptions(TypedDict, total=False):
    """What `job` takes; each has the meaning and the default of its namesake in `KindOptions`.

    `name` is what the database calls the kind, by default the function's module and qualified name.
    """

    name: str
    mode: Mode
    queue: str
    priority: int
    retries: int
    timeout: Duration | None
    retry: RetryPolicy
    labels: Iterable[str]
    concurrency_key: Key | None
    concurrency_limit: int
    unique_key: Key | None
    unique_for: Duration | None
    unique_states: Iterable[JobState | str] | None
    on_duplicate: OnDuplicate
    on_parent_failure: OnParentFailure | str
    inherit_priority: bool
    crash_limit: int | None
    encrypted: bool
    follow_advice: FollowAdvice | None


class Kind(Generic[P, R_co]):
    """A kind of job: a handler whose jobs take the arguments `P` and leave the result `R_co`."""

    def __init__(self, function: Callable[..., Any], *, name: str, mode: Mode, options: KindOptions) -> None:
        self.function = self.__wrapped__ = function
        self.__module__, self.__doc__ = function.__module__, function.__doc__
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.name = name
        self.mode: Mode = mode
        self.options = options

    @functools.cached_property
    def arguments(self) -> Payload:
        """The codec of the arguments; annotations are resolved when it is first used."""
        return Payload(self.function, encrypted=self.options.encrypted)

    @functools.cached_property
    def result(self) -> Result:
        """The codec of the result."""
        return Result(self.function, encrypted=self.options.encrypted)

    def arguments_of(self, text: str | bytes, context: Context) -> Arguments:
        """What to call `function` with for a stored payload, the context included where the handler wants it."""
        return self.arguments.signature.with_context(self.arguments.decode(text), context)

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<kind {self.name}>"


class Handler(Kind[P, R], Generic[P, R, Q, C]):
    """A kind that is called exactly as the function it was made of; calling it runs no job."""

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> C:
        outcome: C = self.function(*args, **kwargs)
        return outcome


class _Unlike:
    """A type that nobody's parameter names: a function that takes it first takes anything first.

    Without this, such a function would also pass for one that wants the context.
    """


class JobDecorator:
    """Makes kinds of functions: `@job`, or `@job(queue="media", retries=5)`.

    `job(...)` without a function is again such a decorator, with these options as its defaults.
    """

    def __init__(self, options: JobOptions) -> None:
        _checked(options)
        self._options = options

    @overload
    def __call__(
        self, function: Callable[Concatenate[_Unlike, ...], Coroutine[Any, Any, R]], /
    ) -> Handler[..., R, ..., Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[_Unlike, ...], R], /) -> Handler[..., R, ..., R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Handler[P, R, Concatenate[Context, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> Handler[P, R, Concatenate[Context, P], R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Handler[P, R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Handler[P, R, P, R]: ...
    @overload
    def __call__(self, /, **options: Unpack[JobOptions]) -> "JobDecorator": ...
    def __call__(self, function: Callable[..., Any] | None = None, /, **options: Unpack[JobOptions]) -> Any:
        merged: JobOptions = {**self._options, **options}
        return JobDecorator(merged) if function is None else _kind_of(function, merged)


def _kind_of(function: object, options: JobOptions) -> Handler[..., Any, ..., Any]:
    checked = checked_function(function)
    return Handler(
        checked,
        name=_name_of(checked, options.get("name")),
        mode=_mode_of(checked, options.get("mode")),
        options=_checked(options),
    )


def _name_of(function: Callable[..., Any], given: str | None) -> str:
    if given is not None:
        return checked_name(given, "name")
    if function.__name__ == "<lambda>":
        raise InvalidOption("name", "a lambda has none", next_step='pass name="..." or define a function')
    module = function.__module__
    if module == "__main__":
        module = PurePath(function.__code__.co_filename).stem
    return checked_name(f"{module}.{function.__qualname__}", "name")


def _mode_of(function: Callable[..., Any], given: Mode | None) -> Mode:
    if given is not None and given not in get_args(Mode):
        raise InvalidOption("mode", f"{given!r} is not one of {', '.join(get_args(Mode))}")
    is_async = inspect.iscoroutinefunction(function)
    mode: Mode = given or ("async" if is_async else "thread")
    if is_async is not (mode == "async"):
        nature = "an async function" if is_async else "a plain function"
        raise InvalidOption("mode", f"{function.__qualname__} is {nature} and cannot run in mode {mode!r}")
    if mode == "process" and "<" in function.__qualname__:
        why = f"{function.__qualname__} cannot be imported by another process"
        raise InvalidOption("mode", why, next_step="define the function at module level")
    return mode


def _checked(options: JobOptions) -> KindOptions:
    """The options as they are kept, each valid by itself."""
    own = {field.name for field in fields(KindOptions)}
    unknown = sorted(options.keys() - own - {"name", "mode"})
    if unknown:
        known = ", ".join(sorted(own | {"name", "mode"}))
        raise InvalidOption(unknown[0], "there is no such option", next_step=f"options are {known}")
    values = {name: CHECKS[name](value, name) for name, value in options.items() if name in own}
    checked = KindOptions(**values)
    if checked.unique_states and checked.unique_key is None and checked.unique_for is None:
        raise InvalidOption(
            "unique_states", "says when a key counts, but there is no unique_key and no unique_for"
        )
    _check_following(checked)
    return checked


def _check_following(options: KindOptions) -> None:
    follow = options.follow_advice
    least = None if follow is None else follow.timeout_at_least
    if least is not None and options.timeout is not None and least > options.timeout:
        raise InvalidOption("follow_advice", "its timeout_at_least is longer than the timeout of the kind")


JobDecorator.__doc__ = (
    f"{inspect.cleandoc(JobDecorator.__doc__ or '')}\n\nOptions:\n{listed(JobOptions.__annotations__)}"
)

job = JobDecorator({})


def no_kind(given: object) -> InvalidOption:
    """What is wrong with something that was handed in where a kind is wanted."""
    what, next_step = f"{given!r} is not a job", "decorate the function with `@perdure.job`"
    if inspect.iscoroutine(given):
        given.close()  # nobody else will, and Python would warn of that
        what = f"{given.__qualname__} was called and not enqueued"
        next_step = f"hand in the function and its arguments apart: `enqueue({given.__name__}, ...)`"
    elif isinstance(given, str):
        next_step = "hand in the function itself; by its name a job is enqueued with `perdure job enqueue`"
    return InvalidOption("kind", what, next_step=next_step)
