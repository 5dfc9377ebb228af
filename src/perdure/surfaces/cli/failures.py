"""Tells a failure on stderr: what happened and why, the next command to run, the code; a traceback only with -vv."""

import json
import sys
import traceback
from collections.abc import Sequence

from perdure.domain.errors import InvalidSettings, PerdureError
from perdure.runtime.urls import masked_text
from perdure.surfaces.cli.exits import ErrorCode, Exit, code_of

TRACEBACK_FROM = 2
MACHINE_FORMATS = ("json", "ndjson")
HELP = "see `perdure --help`"


def fail(error: BaseException, tokens: Sequence[str]) -> Exit:
    """Write the failure and give the exit code."""
    code = code_of(error)
    message, next_step = _told(error)
    if format_of(tokens) in MACHINE_FORMATS:
        _write(json.dumps(_document(error, code, message, next_step), ensure_ascii=False))
    else:
        _write(f"perdure: {message}")
        if next_step:
            _write(f"  next: {next_step}")
        _write(f"  code: {code}")
    if verbosity(tokens) >= TRACEBACK_FROM:
        _write("".join(traceback.format_exception(error)).rstrip())
    return code.exit


def refuse_usage(message: str, next_step: str, tokens: Sequence[str]) -> Exit:
    """Write that the command line itself is wrong."""
    return fail(CommandLine(message, next_step=next_step), tokens)


class CommandLine(PerdureError):
    """The command line does not parse."""


def verbosity(tokens: Sequence[str]) -> int:
    """How many times `-v` is given; known before the line is parsed, for it may not parse."""
    flags = _before_delimiter(tokens)
    return sum(
        1 if flag == "--verbose" else flag.count("v")
        for flag in flags
        if flag == "--verbose" or (flag.startswith("-v") and set(flag[1:]) == {"v"})
    )


def format_of(tokens: Sequence[str]) -> str:
    """The output format that is asked for; known before the line is parsed."""
    flags = _before_delimiter(tokens)
    if "--json" in flags:
        return "json"
    for flag, after in zip(flags, [*flags[1:], ""], strict=True):
        if flag in {"-o", "--output"}:
            return after
        if flag.startswith(("-o=", "--output=")):
            return flag.partition("=")[2]
    return "auto"


def _before_delimiter(tokens: Sequence[str]) -> list[str]:
    return list(tokens[: tokens.index("--")] if "--" in tokens else tokens)


def _told(error: BaseException) -> tuple[str, str]:
    if isinstance(error, PerdureError):
        return masked_text(error.message), masked_text(error.next_step)
    if isinstance(error, PermissionError):
        return masked_text(f"not allowed: {error}"), "run as a user who may, or choose another place"
    error = _root(error)
    name = type(error).__name__
    if type(error).__module__.startswith("asyncpg"):
        return masked_text(f"PostgreSQL refused the statement ({name}: {error})"), "run `perdure doctor`"
    return masked_text(
        f"an error that should not happen ({name}: {error})"
    ), "run it again with -vv and report it"


def _root(error: BaseException) -> BaseException:
    """What a failed import of a command failed of."""
    while isinstance(error, ImportError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _document(error: BaseException, code: ErrorCode, message: str, next_step: str) -> dict[str, object]:
    document: dict[str, object] = {
        "schema": "perdure.error/1",
        "code": str(code),
        "error": type(error).__name__,
        "message": message,
        "next_step": next_step,
        "exit": int(code.exit),
    }
    if isinstance(error, InvalidSettings):
        document["field"] = error.field
    return document


def _write(text: str) -> None:
    sys.stderr.write(masked_text(text) + "\n")
