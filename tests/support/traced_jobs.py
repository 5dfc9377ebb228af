"""Jobs of a program that has set OpenTelemetry up; spans that ended are written to a file, a line each."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from perdure import Perdure, job
from perdure.runtime.settings import Settings


class Lines(SpanExporter):
    """Writes spans to the file that the environment names."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(os.environ["TRACED_SPANS"]).open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(json.loads(span.to_json()))}\n" for span in spans)
        return SpanExportResult.SUCCESS


# In batches, as in production: what is not handed over at the end of a process is lost.
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Lines(), schedule_delay_millis=3_600_000))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer(__name__)


def look_inside() -> None:
    with tracer.start_as_current_span("inside"):
        pass


@job
async def in_loop() -> None:
    look_inside()


@job(mode="thread")
def in_thread() -> None:
    look_inside()


@job(mode="process")
def in_process() -> None:
    look_inside()


@job(retries=0)
async def fails() -> None:
    raise ValueError("the secret of a customer")


def enqueue(url: str, tracing: str) -> None:
    """Enqueue jobs of each kind within a span, as a request of a website would."""
    app = Perdure(Settings.load({"database_url": url, "tracing": tracing}))
    with tracer.start_as_current_span("request"):
        for kind in (in_loop, in_thread, in_process, fails):
            app.enqueue_sync(kind)
        app.enqueue_many_sync([app.prepare(in_loop), app.prepare(in_loop)])
    app.close_sync()
    provider.force_flush()
