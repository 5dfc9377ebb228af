"""The spans of attempts: from the context that a job carries to the end of each attempt, in every mode."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from perdure.domain.lease import Lease
from perdure.domain.settlement import Cancelled, Completed, Crashed, Ending, Failed, Interrupted, Snoozed
from perdure.runtime.tracing import SYSTEM, Attributes, carried, fail, is_traced, tracer
from perdure.services.execution import Attempt, Done, Runner

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

FLUSH_MS = 2_000
OUTCOMES: Mapping[type[Ending], str] = {
    Completed: "completed",
    Failed: "failed",
    Snoozed: "snoozed",
    Cancelled: "cancelled",
    Crashed: "crashed",
    Interrupted: "interrupted",
}


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
        self._tracer = tracer()

    def start(self, attempt: Attempt, done: Done) -> None:
        from opentelemetry import context, trace

        span = self._span(attempt.lease)
        within = trace.set_span_in_context(span, context.Context())
        if self._carries:
            own = msgspec.json.encode(carried(within)).decode()
            attempt.lease = structs.replace(attempt.lease, metadata=own)
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
            fail(span, ending.error.type)
        elif isinstance(ending, Crashed):
            fail(span, "crashed")
        span.end()
        done(attempt, ending)


@contextmanager
def _continuing(lease: Lease) -> Iterator[None]:
    from opentelemetry import context

    before = context.attach(_context_of(lease.metadata))
    try:
        yield
    finally:
        context.detach(before)


def _context_of(metadata: str | None) -> "Context":
    """The context that a job carries; an empty one where it carries none, for metadata are the user's own, whatever JSON that is."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if metadata is None:
        return Context()
    found: Any = msgspec.json.decode(metadata)
    if not isinstance(found, dict):
        return Context()
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
