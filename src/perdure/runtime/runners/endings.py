"""From what a handler did to the ending of its attempt, the same for every way of running it."""

import random
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import structlog

from perdure.domain.context import Context, Line
from perdure.domain.errors import InvalidInput
from perdure.domain.failure import Allowance, ending_of_error, ending_of_value, report_of
from perdure.domain.ids import made_at
from perdure.domain.kind import Kind
from perdure.domain.lease import Lease
from perdure.domain.payload import PAYLOAD_BYTES_MAX
from perdure.domain.retry import Backoff, Steer
from perdure.domain.settlement import Cancelled, Completed, Ending, Failed, Interrupted
from perdure.services.execution import Attempt, StopReason

AnyKind = Kind[..., Any]
Kinds = Mapping[str, AnyKind]

UTF8_MAX = 4
"""The most bytes of one character."""

log = structlog.get_logger("perdure.runners")


class NotRunnable(Exception):
    """The stored job does not fit the handler, so that no attempt can succeed."""

    __module__ = "perdure"  # what operators read


def call_of(
    kind: AnyKind, lease: Lease, line: Line | None, *, max_bytes: int = PAYLOAD_BYTES_MAX
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What to call the handler with; without a line it gets no context.

    Raises NotRunnable when the stored arguments do not fit it or are too large.
    """
    if len(lease.args) > max_bytes // UTF8_MAX:  # most are far from it, which is told without encoding them
        _check_size(lease.args, max_bytes)
    try:
        if line is None:
            return kind.arguments.decode(lease.args)
        return kind.arguments_of(lease.args, context_of(lease, line))
    except InvalidInput as error:
        raise NotRunnable(f"its arguments do not fit the handler: {error}") from error


def _check_size(args: str, max_bytes: int) -> None:
    size = len(args.encode())
    if size > max_bytes:  # PostgreSQL writes spaces between the parts, which nobody has sent
        size = len(msgspec.json.format(args, indent=-1).encode())
    if size > max_bytes:
        raise NotRunnable(f"its arguments are too large: {size} bytes of JSON; the limit is {max_bytes}")


def takes_context(kind: AnyKind) -> bool:
    """Whether the handler gets a context. Raises NotRunnable when its annotations cannot be resolved."""
    try:
        return kind.arguments.signature.context is not None
    except InvalidInput as error:
        raise NotRunnable(f"its arguments cannot be told: {error}") from error


def context_of(lease: Lease, line: Line) -> Context:
    """What the handler may know about its attempt."""
    deadline = None
    if lease.timeout_ms is not None:
        deadline = datetime.now(UTC) + timedelta(milliseconds=lease.timeout_ms)
    return Context(
        job_id=lease.job_id,
        kind=lease.kind,
        queue=lease.queue,
        attempt=lease.attempt,
        max_attempts=lease.max_attempts,
        deadline=deadline,
        line=line,
    )


def allowance_of(kind: AnyKind, lease: Lease) -> Allowance:
    """What decides about another attempt; a replayed job counts its horizon from its replay."""
    return Allowance(
        policy=kind.options.retry,
        failures=lease.attempt - 1,
        draw=random.random(),
        enqueued_at=made_at(lease.job_id) if lease.run == 1 else lease.available_at,
        now=datetime.now(UTC),
    )


def after_value(kind: AnyKind, lease: Lease, value: object, *, max_bytes: int = PAYLOAD_BYTES_MAX) -> Ending:
    """How an attempt ended whose handler returned `value`."""
    if value is None:
        return Completed()
    if isinstance(value, Steer):
        return ending_of_error(value, allowance_of(kind, lease))
    encode = partial(kind.result.encode, max_bytes=max_bytes)
    return ending_of_value(value, allowance_of(kind, lease), encode, kind=kind.name)


def after_error(kind: AnyKind, lease: Lease, error: BaseException) -> Ending:
    """How an attempt ended whose handler raised `error`."""
    if isinstance(error, NotRunnable):
        return Failed(error=report_of(error), retry_in=timedelta(0), give_up=True, cause=str(error))
    return ending_of_error(error, allowance_of(kind, lease))


def after_stop(kind: AnyKind, attempt: Attempt) -> Ending:
    """How an attempt ended that was stopped from outside."""
    match attempt.stop_reason:
        case StopReason.TIMED_OUT:
            seconds = (attempt.lease.timeout_ms or 0) / 1000
            error = TimeoutError(f"the handler of {attempt.lease.kind} ran longer than {seconds:g} s")
            return ending_of_error(error, allowance_of(kind, attempt.lease), timed_out=True)
        case StopReason.CANCELLED:
            return Cancelled(reason="cancelled by request while running")
        case StopReason.LOST:
            return Interrupted(cause="the worker lost its leases")
        case _:
            return Interrupted(cause="the worker was drained")


def after_fault(kinds: Kinds, attempt: Attempt, error: BaseException) -> Ending:
    """How an attempt ended when its runner failed, or was stopped when its handler had ended already.

    It must be told all the same, or its place would stay taken for ever.
    """
    kind = kinds.get(attempt.lease.kind)
    if kind is not None and attempt.stop_reason is not None:
        return after_stop(kind, attempt)
    log.error("an attempt could not be run to its end", job=str(attempt.lease.job_id), exc_info=error)
    report = report_of(error)
    wait = Backoff().delay(attempt.lease.attempt - 1, random.random())
    return Failed(error=report, retry_in=wait, cause=f"it could not be run to its end: {report.message}")


async def told(kinds: Kinds, attempt: Attempt, ending: Awaitable[Ending | None]) -> Ending | None:
    """The ending that a runner waits for, whatever fails on the way to it."""
    try:
        return await ending
    except BaseException as error:  # noqa: BLE001 - a task that raised would keep its place for ever
        return after_fault(kinds, attempt, error)


def heeding(kind: AnyKind, attempt: Attempt, ending: Ending, *, heeded: bool) -> Ending:
    """The ending of an attempt that may have been asked to stop, when its handler ended by itself.

    One that failed, or that looked at `Context.cancelled` and so may have left work undone, ends for the reason of
    the request; what another one has done by then counts.
    """
    if attempt.stop_reason is None or (isinstance(ending, Completed) and not heeded):
        return ending
    return after_stop(kind, attempt)
