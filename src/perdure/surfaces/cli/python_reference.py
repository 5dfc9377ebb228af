"""Writes the page of the Python API from signatures and docstrings."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from types import FunctionType
from typing import Any

import perdure
from perdure.domain import errors
from perdure.domain.durations import format_duration
from perdure.domain.job import Dependency
from perdure.domain.kind import JobOptions, KindOptions
from perdure.domain.meanings import MEANINGS
from perdure.runtime.app import Enqueuer
from perdure.runtime.keywords import OptionKeywords

PAGE = """# Python

Everything a program imports stands in `perdure`; errors that are not there are in `perdure.domain.errors`, tools for tests in `perdure.testing` ([testing](../guides/testing.md)). A duration is a text such as
`"90s"`, `"10m"`, `"1h"`, a number of seconds or a `timedelta`. A worker's own options, such as `recycle_after_jobs`, are [settings](configuration.md).

## Options of `@job`

`@job`, or `@job(queue="media", retries=5)`. `media = job(queue="media")` is a decorator with these options as its defaults. How jobs of the kind are treated, unless an enqueue says otherwise:

{job}

## Options of one enqueue

`await app.using(priority=5, delay="10m").enqueue(resize, image_id, width=640)`. What is not given is as the kind's decorator says.

{using}

## The application

{application}

## Sub-objects of the application

{parts}

## Handle

{handle}

`ActOutcome` is one of: {outcomes}.

## Context

A handler gets it by a parameter that is annotated with `Context`.

{context}

## How a handler steers its end

Each is raised or returned.

{steers}

## Retry policies and other values

{values}

## Errors

```text
{errors}
```

Error codes stand in [errors](errors.md).
"""

JOB = "| Option | Type | Default | What is promised |\n| --- | --- | --- | --- |\n"
USING = "| Option | Type | What is promised |\n| --- | --- | --- |\n"
OWN_DEFAULTS = {"name": "module and name", "mode": "by the function", "retry": "`Backoff()`"}
PARTS = ("jobs", "workers", "health", "state")


def python_page() -> str:
    """Options, methods, sub-objects, values and errors of the Python API."""
    app = perdure.Perdure(database_url="postgresql://localhost/none")
    return PAGE.format(
        job=JOB + "\n".join(_job_rows()),
        using=USING + "\n".join(_using_rows()),
        application="\n".join([*_members(perdure.Perdure, "app"), *_members(Enqueuer, "app.using(...)")]),
        parts="\n\n".join(_parts(app, "app", PARTS)),
        handle="\n".join(_members(perdure.Handle, "handle")),
        outcomes=", ".join(f"`{one.name}`" for one in perdure.ActOutcome),
        context="\n".join(_members(perdure.Context, "ctx")),
        steers="\n".join(
            _value(one) for one in (perdure.RetryAfter, perdure.Snooze, perdure.Cancel, perdure.GiveUp)
        ),
        values="\n".join(
            _value(one)
            for one in (perdure.Backoff, perdure.Fixed, perdure.Delays, perdure.FollowAdvice, Dependency)
        ),
        errors=_tree(),
    )


def _job_rows() -> Iterator[str]:
    defaults = {field.name: field.default for field in dataclasses.fields(KindOptions)}
    for name, kind in _annotations(JobOptions).items():
        default = OWN_DEFAULTS.get(name) or _default(defaults[name])
        yield f"| `{name}` | {kind} | {default} | {_cell(MEANINGS[name])} |"


def _using_rows() -> Iterator[str]:
    for name, kind in {**_annotations(OptionKeywords), "conn": "`object`"}.items():
        yield f"| `{name}` | {kind} | {_cell(MEANINGS[name])} |"


def _annotations(kind: type) -> Mapping[str, str]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    return {
        ast.unparse(one.target): f"`{_cell(ast.unparse(one.annotation))}`"
        for one in ast.walk(body)
        if isinstance(one, ast.AnnAssign)
    }


def _default(value: object) -> str:
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    return "none" if value in (None, ()) else f"`{value}`"


def _parts(owner: object, path: str, names: Sequence[str]) -> Iterator[str]:
    """A section for each object that hangs on another one, and for those that hang on it."""
    for name in names:
        part = getattr(owner, name)
        lines = "\n".join(_members(type(part), f"{path}.{name}"))
        yield f"### `{path}.{name}`\n\n{_text(type(part))}\n\n{lines}"
        properties = [key for key, value in inspect.getmembers(type(part)) if isinstance(value, property)]
        inner = [key for key in (*vars(part), *properties) if not key.startswith("_")]
        below = [key for key in inner if type(getattr(part, key)).__name__.endswith("Operations")]
        yield from _parts(part, f"{path}.{name}", below)


def _members(kind: type, path: str) -> Iterator[str]:
    """A point for each public attribute, method and property of a class, in the order of the source."""
    if dataclasses.is_dataclass(kind):
        yield from (f"- `{path}.{field.name}`" for field in dataclasses.fields(kind) if field.repr)
    for name in getattr(kind, "__struct_fields__", ()):
        if not name.startswith("_"):
            yield f"- `{path}.{name}`"
    for name, value in _public(kind):
        if isinstance(value, property):
            yield f"- `{path}.{name}`: {_text(value)}"
        elif isinstance(value, FunctionType):
            yield f"- `{_call(value, f'{path}.{name}')}`\n  {_text(value)}"


def _public(kind: type) -> Iterator[tuple[str, object]]:
    for owner in reversed(kind.__mro__[:-1]):
        for name, value in vars(owner).items():
            if not name.startswith("_") and vars(kind).get(name, value) is value:
                yield name, value


def _value(kind: type) -> str:
    """A class by what it is made with."""
    function = vars(kind).get("__init__")
    own = isinstance(function, FunctionType) and function.__code__.co_filename != "<string>"
    call = _call(function, kind.__name__) if own else f"{kind.__name__}{_fields(kind)}"
    return f"- `{call.removesuffix(' -> None')}`: {_text(kind)}"


def _fields(kind: type) -> str:
    return f"({', '.join(f'{name}: {annotation.strip(chr(96))}' for name, annotation in _annotations(kind).items())})"


def _call(function: Any, shown: str) -> str:
    """How a function is called, as its source has it."""
    source: Any = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    source.args.args = [one for one in source.args.args if one.arg != "self"]
    returns = "" if source.returns is None else f" -> {ast.unparse(_unquoted(source.returns))}"
    for one in (*source.args.args, *source.args.kwonlyargs):
        one.annotation = _unquoted(one.annotation)
    waits = "await " if isinstance(source, ast.AsyncFunctionDef) else ""
    return f"{waits}{shown}({ast.unparse(source.args)}){returns}"


def _unquoted(annotation: Any) -> Any:
    """An annotation that is text, because it may not be imported where it stands, as what it says."""
    is_text = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
    return ast.parse(str(annotation.value), mode="eval").body if is_text else annotation


def _text(thing: object) -> str:
    """A docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split())


def _tree() -> str:
    """The tree of errors out of the docstring of their module."""
    lines = (inspect.getdoc(errors) or "").splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
