"""From what a handler did to how its attempt ended; errors as they are kept and grouped."""

import hashlib
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import PurePath
from traceback import TracebackException, walk_tb
from types import CodeType

from perdure.domain.durations import format_duration
from perdure.domain.errors import InvalidInput
from perdure.domain.retry import (
    Backoff,
    Cancel,
    GiveUp,
    RetryAfter,
    RetryPolicy,
    Snooze,
    Steer,
    beyond_horizon,
)
from perdure.domain.settlement import Cancelled, Completed, Ending, ErrorReport, Failed, Snoozed

MESSAGE_BYTES_MAX = 8 * 1024
TRACEBACK_BYTES_MAX = 32 * 1024
TRACEBACK_HEAD_BYTES = 8 * 1024

_CUT = "\n[... cut ...]\n"
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_FOREIGN = ("/site-packages/", "/dist-packages/")
_LIBRARY = tuple(
    f"{PurePath(root).as_posix()}/"
    for root in (sysconfig.get_path("stdlib"), PurePath(__file__).parent.parent)
)

# What differs between two errors of one cause, in the order in which it must be replaced.
_VARIABLE = (
    re.compile(r"(?<!\w)[bB]?(['\"`])(?:\\.|(?!\1)[^\\])*\1(?!\w)", re.DOTALL),
    re.compile(r"(?<![^\s'\"`(\[{<=])[^\s'\"`(\[{<=]*[\\/][^\s'\"`)\]}>]*"),
    re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"),
    re.compile(r"(?<!\w)[-+]?\w*\d[\w.,:%+-]*"),
    re.compile(r"\b[a-fA-F]{8,}\b"),
    re.compile(r"#(?:[.,:%+-]*#)+"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What decides about another attempt: the policy, the failures before this one, a random number, and the times."""

    policy: RetryPolicy
    failures: int
    draw: float
    enqueued_at: datetime
    now: datetime


class UnstorableResult(Exception):
    """A handler returned what cannot be kept. It is told of and never raised."""

    __module__ = "perdure"  # what operators read


def ending_of_value(
    value: object, allowance: Allowance, encode: Callable[[object], str | None], *, kind: str = "the handler"
) -> Ending:
    """How an attempt ended whose handler, that of `kind`, returned `value`; `encode` makes the result's JSON text.

    A result that cannot be stored ends in the dead letter queue at once: its effects are done, and
    another attempt would only repeat them.
    """
    if isinstance(value, Steer):
        return ending_of_error(value, allowance)
    try:
        return Completed(result=encode(value))
    except InvalidInput as error:
        step = f"; {error.next_step}" if error.next_step else ""
        told = UnstorableResult(f"{kind} returned a result that cannot be stored: {error.why}{step}")
        return Failed(
            error=report_of(told),
            retry_in=timedelta(0),
            give_up=True,
            cause="its result cannot be stored; its effects are done, so it is not run again",
        )


def ending_of_error(error: BaseException, allowance: Allowance, *, timed_out: bool = False) -> Ending:
    """How an attempt ended whose handler raised `error`."""
    match error:
        case Snooze(delay=delay):
            return Snoozed(delay=delay)
        case Cancel(reason=reason):
            return Cancelled(reason=storable(reason))
        case GiveUp(reason=reason):
            report = report_of(_origin(error))
            return Failed(
                error=report, retry_in=timedelta(0), give_up=True, cause=storable(reason) or "gave up"
            )
        case RetryAfter(delay=delay, reason=reason):
            return _failed_by_policy(report_of(_origin(error)), delay, allowance, cause=storable(reason))
    return _failed_by_policy(report_of(error), None, allowance, timed_out=timed_out)


def _failed_by_policy(
    report: ErrorReport,
    delay: timedelta | None,
    allowance: Allowance,
    *,
    timed_out: bool = False,
    cause: str = "",
) -> Failed:
    """A failure whose wait is `delay` or the policy's. A policy is the user's code: where it fails itself, the default one decides."""
    try:
        failed = _failed(report, _wait(delay, allowance), allowance, timed_out=timed_out, cause=cause)
        return failed if delay is None else replace(failed, wished=True)
    except Exception as fault:  # noqa: BLE001 - whatever it is, the attempt has ended and must be told
        told = report_of(fault)
        why = f"its retry policy failed, so the default one decided: {told.type}: {told.message}"
        default = replace(allowance, policy=Backoff())
        cause = f"{cause}; {why}" if cause else why
        return _failed(report, _wait(delay, default), default, timed_out=timed_out, cause=cause)


def _wait(delay: timedelta | None, allowance: Allowance) -> timedelta:
    if delay is not None:
        return delay
    given: object = allowance.policy.delay(allowance.failures, allowance.draw)
    if not isinstance(given, timedelta) or given < timedelta(0):
        raise TypeError(f"delay gave {given!r}, which is no wait; a timedelta of 0 or more is needed")
    return given


def _failed(
    report: ErrorReport, delay: timedelta, allowance: Allowance, *, timed_out: bool = False, cause: str = ""
) -> Failed:
    late = beyond_horizon(allowance.policy, delay, enqueued_at=allowance.enqueued_at, now=allowance.now)
    if late and allowance.policy.horizon is not None:
        horizon = format_duration(allowance.policy.horizon)
        cause = f"the next attempt would start more than {horizon} after the enqueue{': ' if cause else ''}{cause}"
    return Failed(error=report, retry_in=delay, give_up=late, timed_out=timed_out, cause=cause)


def _origin(steer: Steer) -> BaseException:
    """The error that made a handler steer, when there is one."""
    return steer.__cause__ or steer.__context__ or steer


def report_of(error: BaseException) -> ErrorReport:
    """An error as PostgreSQL can keep it: bounded, without local variables, NUL characters or lone surrogates.

    One that was made to be told of, and never raised, has no traceback.
    """
    told = TracebackException.from_exception(error)
    message = str(told)
    is_raised = error.__traceback__ or error.__cause__ or error.__context__
    lines = "".join(told.format()) if is_raised else ""
    return ErrorReport(
        type=storable(_type_name(error)),
        message=_cut(storable(message), MESSAGE_BYTES_MAX),
        traceback=_cut(storable(lines), TRACEBACK_BYTES_MAX, head=TRACEBACK_HEAD_BYTES),
        fingerprint=fingerprint(error, message),
    )


def storable(text: str) -> str:
    """The text with what jsonb refuses replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def fingerprint(error: BaseException, message: str | None = None) -> str:
    """16 hex digits that are equal for errors of one type, place and wording, whatever ids the message carries."""
    wording = normalised(_message(error) if message is None else message)
    text = "\n".join([_type_name(error), *_places(error), wording])
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def normalised(message: str) -> str:
    """The message with quoted strings, paths, uuids, hexadecimal and other numbers replaced by `#`."""
    text = message[:MESSAGE_BYTES_MAX]
    for pattern in _VARIABLE:
        text = pattern.sub("#", text)
    return " ".join(text.split())


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    """The error's text, or a note that its own `str()` fails."""
    return str(TracebackException(type(error), error, None))


def _places(error: BaseException) -> list[str]:
    """File and function of each frame of the user's own code; all frames when none is.

    Each place counts once, so that the depth of a recursion makes no difference.
    """
    frames = list(_frames(error))
    own = [code for code in frames if not _is_foreign(code.co_filename)]
    return list(
        dict.fromkeys(f"{PurePath(code.co_filename).name}:{code.co_qualname}" for code in own or frames)
    )


def _frames(error: BaseException) -> Iterator[CodeType]:
    return (frame.f_code for frame, _ in walk_tb(error.__traceback__))


def _is_foreign(filename: str) -> bool:
    path = PurePath(filename).as_posix()
    return path.startswith(("<frozen", *_LIBRARY)) or any(part in path for part in _FOREIGN)


def _cut(text: str, limit: int, *, head: int | None = None) -> str:
    """At most `limit` bytes of UTF-8: the beginning, or `head` bytes of it and the end."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    if head is None:
        return raw[: limit - len("…".encode())].decode(errors="ignore") + "…"
    tail = limit - head - len(_CUT)
    return raw[:head].decode(errors="ignore") + _CUT + raw[-tail:].decode(errors="ignore")
