"""OpenTelemetry spans: one where jobs are enqueued, one for each attempt, tied together by what the job carries.

Names and attributes follow the semantic conventions for messaging (in development; those of schema 1.44):
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/. What they have no word for is under `perdure.`.
A job carries the W3C trace context of its enqueue in its metadata, so that a trace needs no table. Nothing of OpenTelemetry is imported
unless the program itself has set it up.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from msgspec import structs

from perdure.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from perdure.runtime.prepared import Prepared

R = TypeVar("R")
Attributes = dict[str, str | int | float]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SYSTEM = "perdure"


OPENTELEMETRY = "opentelemetry.trace"
"""The module without which a program has no traces."""


def is_traced(tracing: str) -> bool:
    """Whether spans are wanted and the program has set OpenTelemetry up; else they would cost time and show nowhere."""
    if tracing == "off" or (api := sys.modules.get(OPENTELEMETRY)) is None:
        return False
    return not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


def sending(jobs: "Sequence[Prepared[R]]", tracing: str) -> "AbstractContextManager[Sequence[Prepared[R]]]":
    """The span of an enqueue, current while it lasts; gives the jobs, which carry its context from then on."""
    return _sending(jobs) if jobs and is_traced(tracing) else nullcontext(jobs)


@contextmanager
def _sending(jobs: "Sequence[Prepared[R]]") -> "Iterator[Sequence[Prepared[R]]]":
    from opentelemetry import context
    from opentelemetry.trace import SpanKind

    queues = sorted({one.job.shape.queue for one in jobs})
    attributes: Attributes = {"messaging.system": SYSTEM, "messaging.operation.name": "send"}
    attributes |= {"messaging.operation.type": "send"}
    if len(queues) == 1:
        attributes["messaging.destination.name"] = queues[0]
    if len(jobs) == 1:
        attributes |= {"messaging.message.id": str(jobs[0].id), "perdure.kind": jobs[0].job.shape.kind}
    else:
        attributes["messaging.batch.message_count"] = len(jobs)
    name = f"send {queues[0]}" if len(queues) == 1 else "send"
    with tracer().start_as_current_span(
        name,
        kind=SpanKind.PRODUCER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        context_here = carried(context.get_current())
        try:
            yield [_carrying(one, context_here) for one in jobs] if context_here else jobs
        except BaseException as error:
            fail(span, type(error).__qualname__)
            raise


def tracer() -> "Tracer":
    """What begins spans of ours."""
    from opentelemetry.trace import get_tracer

    return get_tracer(SYSTEM, __version__, schema_url=SCHEMA_URL)


def _carrying(one: "Prepared[R]", context_here: Mapping[str, str]) -> "Prepared[R]":
    """The job with a trace context; one that it was given by its caller stays."""
    return one.but(structs.replace(one.job, metadata={**context_here, **one.job.metadata}))


def carried(current: "Context") -> Mapping[str, str]:
    """A context as a job carries it; empty where there is none."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, current)
    return carrier


def fail(span: "Span", error_type: str) -> None:
    """Have a span tell of an error, by its type alone."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))
