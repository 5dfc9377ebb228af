"""OpenTelemetry spans: one where jobs are enqueued, one for each attempt, tied together by what the job carries.

Names and attributes follow the semantic conventions for messaging (in development; those of schema 1.44):
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/. What they have no word for is under `perdure.`.
A job carries the W3C trace context of its enqueue in its metadata, so that a trace needs no table. Nothing of OpenTelemetry is imported
unless the program itself has set it up.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import structs

from perdure.domain.lease import Lease
from perdure.domain.settlement import Cancelled, Completed, Crashed, Ending, Failed, Interrupted, Snoozed
from perdure.runtime.producer import Prepared
from perdure.services.execution import Attempt, Done, Runner
from perdure.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

R = TypeVar("R")
Attributes = dict[str, str | int | float]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SYSTEM = "perdure"
FLUSH_MS = 2_000
OUTCOMES: Mapping[type[Ending], str] = {
    Completed: "completed",
    Failed: "failed",
    Snoozed: "snoozed",
    Cancelled: "cancelled",
    Crashed: "crashed",
    Interrupted: "interrupted",
}


def is_traced(tracing: str) -> bool:
    """Whether spans are wanted and the program has set OpenTelemetry up; else they would cost time and show nowhere."""
    api = sys.modules.get("opentelemetry.trace")
    return (
        tracing != "off"
        and api is not None
        and not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)
    )


def sending(jobs: Sequence[Prepared[R]], tracing: str) -> AbstractContextManager[Sequence[Prepared[R]]]:
    """The span of an enqueue, current while it lasts; gives the jobs, which carry its context from then on."""
    return _sending(jobs) if jobs and is_traced(tracing) else nullcontext(jobs)


def continuing(lease: Lease, tracing: str) -> AbstractContextManager[None]:
    """What a job carries as the current context, for a handler in a process of its own."""
    return _continuing(lease) if is_traced(tracing) else nullcontext()


def flush() -> None:
    """Hand over the spans that have ended, before a process ends without ceremony; takes two seconds at most."""
    if is_traced("linked"):
        from opentelemetry.trace import get_tracer_provider

        hand_over = getattr(get_tracer_provider(), "force_flush", None)  # of the SDK, not of the interface
        if hand_over is not None:
            hand_over(timeout_millis=FLUSH_MS)


class TracedRunner:
    """A runner whose attempts have a span each, which is the current one in the handler.

    It ends with the attempt, so that it tells also of those that were stopped, timed out or died with their process. With `carries` it
    goes with the job to a process of its own. The message of an error is left to the job itself, which knows what may be told.
    """

    def __init__(self, runner: Runner, tracing: str, *, carries: bool) -> None:
        self._runner = runner
        self._continues = tracing == "continued"
        self._carries = carries
        self._tracer = _tracer()

    def start(self, attempt: Attempt, done: Done) -> None:
        from opentelemetry import context, trace

        span = self._span(attempt.lease)
        within = trace.set_span_in_context(span, context.Context())
        if self._carries:
            carried = msgspec.json.encode(_carried(within)).decode()
            attempt.lease = structs.replace(attempt.lease, metadata=carried)
        before = context.attach(within)
        try:
            self._runner.start(attempt, partial(self._ended, done, span))
        finally:
            context.detach(before)

    def stop(self, attempt: Attempt) -> bool:
        return self._runner.stop(attempt)

    def timed_out(self, attempt: Attempt) -> Ending:
        return self._runner.timed_out(attempt)

    async def close(self) -> None:
        await self._runner.close()

    def _span(self, lease: Lease) -> "Span":
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, SpanKind, get_current_span

        sent = _context_of(lease.metadata)
        of_sender = get_current_span(sent).get_span_context()
        links = [Link(of_sender)] if of_sender.is_valid and not self._continues else []
        return self._tracer.start_span(
            f"process {lease.kind}",
            context=sent if self._continues else Context(),
            kind=SpanKind.CONSUMER,
            links=links,
            attributes=_of_attempt(lease),
        )

    def _ended(self, done: Done, span: "Span", attempt: Attempt, ending: Ending | None) -> None:
        span.set_attribute("perdure.outcome", "completed" if ending is None else OUTCOMES[type(ending)])
        if attempt.stop_reason is not None:
            span.set_attribute("perdure.stop_reason", attempt.stop_reason.value)
        if isinstance(ending, Failed):
            _fail(span, ending.error.type)
        elif isinstance(ending, Crashed):
            _fail(span, "crashed")
        span.end()
        done(attempt, ending)


@contextmanager
def _sending(jobs: Sequence[Prepared[R]]) -> Iterator[Sequence[Prepared[R]]]:
    from opentelemetry import context
    from opentelemetry.trace import SpanKind

    queues = sorted({one.job.queue for one in jobs})
    attributes: Attributes = {"messaging.system": SYSTEM, "messaging.operation.name": "send"}
    attributes |= {"messaging.operation.type": "send"}
    if len(queues) == 1:
        attributes["messaging.destination.name"] = queues[0]
    if len(jobs) == 1:
        attributes |= {"messaging.message.id": str(jobs[0].id), "perdure.kind": jobs[0].job.kind}
    else:
        attributes["messaging.batch.message_count"] = len(jobs)
    name = f"send {queues[0]}" if len(queues) == 1 else "send"
    with _tracer().start_as_current_span(
        name,
        kind=SpanKind.PRODUCER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        carried = _carried(context.get_current())
        try:
            yield [_carrying(one, carried) for one in jobs] if carried else jobs
        except BaseException as error:
            _fail(span, type(error).__qualname__)
            raise


@contextmanager
def _continuing(lease: Lease) -> Iterator[None]:
    from opentelemetry import context

    before = context.attach(_context_of(lease.metadata))
    try:
        yield
    finally:
        context.detach(before)


def _tracer() -> "Tracer":
    from opentelemetry.trace import get_tracer

    return get_tracer(SYSTEM, __version__, schema_url=SCHEMA_URL)


def _carrying(one: Prepared[R], carried: Mapping[str, str]) -> Prepared[R]:
    """The job with a trace context; one that it was given by its caller stays."""
    job = structs.replace(one.job, metadata={**carried, **one.job.metadata})
    return structs.replace(one, job=job)


def _carried(current: "Context") -> Mapping[str, str]:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, current)
    return carrier


def _context_of(metadata: str | None) -> "Context":
    """The context that a job carries; an empty one where it carries none, for metadata are the user's own."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if metadata is None:
        return Context()
    found: Any = msgspec.json.decode(metadata)
    carrier = {name: value for name, value in found.items() if isinstance(value, str)}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _of_attempt(lease: Lease) -> Attributes:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": lease.queue,
        "messaging.message.id": str(lease.job_id),
        "perdure.kind": lease.kind,
        "perdure.run": lease.run,
        "perdure.attempt": lease.attempt,
        "perdure.priority": lease.priority,
        "perdure.lease_token": str(lease.token),
        "perdure.queue_wait_s": max(0, lease.claimed_us - lease.available_us) / 1_000_000,
    }


def _fail(span: "Span", error_type: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))
