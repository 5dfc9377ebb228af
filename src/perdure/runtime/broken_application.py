"""Tells in one sentence, by the user's own line, why an application cannot be imported."""

import importlib
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

from perdure.domain.errors import BrokenApplication

OURS = (str(Path(__file__).parents[1]), "<frozen")
INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def broken(app: str, error: BaseException) -> BrokenApplication:
    """The error of ours for what the application's code raised while it was imported."""
    trace = _beyond_us(error.__traceback__)
    told = "".join(traceback.format_exception(type(error), error, trace))
    says = (
        error.msg if isinstance(error, SyntaxError) else str(error)
    )  # its text would tell the line once more
    what = f"{type(error).__name__}: {says}".splitlines()[0].rstrip(": ")
    return BrokenApplication(f"{app} cannot be imported: {_line_of(error, trace)}{what}", trace=told)


def _line_of(error: BaseException, trace: TracebackType | None) -> str:
    """File and line in the user's code, innermost; in a text that does not parse, where it does not."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}: "
    frames = [frame for frame in traceback.extract_tb(trace) if not _is_ours(frame.filename)]
    theirs = [frame for frame in frames if not frame.filename.startswith(INSTALLED)] or frames
    return f"{_short(theirs[-1].filename)}:{theirs[-1].lineno}: " if theirs else ""


def _short(name: str) -> str:
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name


def _beyond_us(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins in the user's code."""
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_ours(filename: str) -> bool:
    return filename.startswith(OURS) or filename == importlib.__file__
