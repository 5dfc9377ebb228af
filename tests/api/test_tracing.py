"""Spans of OpenTelemetry: an enqueue and the attempts of its job, in every mode, and what is told of a failure."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from perdure import Perdure
from perdure.domain.lease import Lease
from perdure.runtime.operations import WorkerConfig
from perdure.runtime.prepared import Prepared
from perdure.runtime.traced_attempts import TracedRunner
from perdure.runtime.tracing import is_traced, sending
from perdure.services.execution import Attempt
from tests.support import jobs
from tests.support.waiting import eventually

APP = "tests.support.traced_jobs"
ENQUEUE = f"import sys; from {APP} import enqueue; enqueue(*sys.argv[1:])"
JOBS = 6
Spans = list[dict[str, Any]]


async def spans_of(
    url: str, folder: Path, tracing: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Spans, str]:
    """What a traced program and its worker tell, from the enqueue of a few jobs to the end of both."""
    file = folder / "spans"
    monkeypatch.setenv("TRACED_SPANS", str(file))
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", ENQUEUE, url, tracing)
    assert await program.wait() == 0
    async with Perdure(database_url=url) as app:
        settings = {"tracing": tracing, "cpu_processes": 1}
        worker = await app.workers.spawn(WorkerConfig(app=APP, settings=settings, bound=True))
        try:
            await eventually(lambda: ended(app), within_s=60)
        finally:
            await worker.stop()
    text = file.read_text("utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.splitlines()], text


async def ended(app: Perdure) -> bool:
    return len((await app.jobs.list("state:completed,discarded")).jobs) == JOBS


def named(spans: Spans, name: str) -> Spans:
    return [span for span in spans if span["name"] == name]


def ids(spans: Spans) -> set[str]:
    return {span["context"]["span_id"] for span in spans}


async def test_an_attempt_is_linked_to_its_enqueue_and_current_in_its_handler(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, text = await spans_of(database_url, tmp_path, "linked", monkeypatch)
    (request,) = named(spans, "request")
    sent, attempts = named(spans, "send default"), [s for s in spans if s["kind"] == "SpanKind.CONSUMER"]
    assert [span["kind"] for span in sent] == ["SpanKind.PRODUCER"] * 5
    assert {span["parent_id"] for span in sent} == ids([request])
    assert Counter(span["name"] for span in attempts) == {
        f"process {APP}.in_loop": 3,
        f"process {APP}.in_thread": 1,
        f"process {APP}.in_process": 1,
        f"process {APP}.fails": 1,
    }
    assert {span["parent_id"] for span in attempts} == {None}
    links = [span["links"][0]["context"]["span_id"] for span in attempts]
    (many,) = (span for span in sent if span["attributes"].get("messaging.batch.message_count") == 2)
    assert (set(links), links.count(many["context"]["span_id"])) == (ids(sent), 2)
    inside = named(spans, "inside")
    assert sorted(span["parent_id"] for span in inside) == sorted(
        span["context"]["span_id"] for span in attempts if not span["name"].endswith(".fails")
    )
    (failed,) = named(spans, f"process {APP}.fails")
    assert (failed["status"]["status_code"], failed["attributes"]["error.type"]) == ("ERROR", "ValueError")
    assert failed["attributes"]["perdure.outcome"] == "failed"
    assert "secret" not in text
    one = named(spans, f"process {APP}.in_thread")[0]["attributes"]
    assert one["messaging.message.id"] in {span["attributes"].get("messaging.message.id") for span in sent}
    assert (one["perdure.attempt"], one["perdure.outcome"], one["messaging.system"]) == (
        1,
        "completed",
        "perdure",
    )
    assert one["perdure.queue_wait_s"] > 0


async def test_a_continued_trace_holds_the_attempts_too(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, _ = await spans_of(database_url, tmp_path, "continued", monkeypatch)
    attempts = [span for span in spans if span["kind"] == "SpanKind.CONSUMER"]
    assert len(attempts) == JOBS
    assert {span["parent_id"] for span in attempts} == ids(named(spans, "send default"))
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    assert [span["links"] for span in attempts] == [[]] * JOBS


@pytest.mark.parametrize(
    "metadata", ['["traceparent"]', '"text"', '{"traceparent": 7}', '{"traceparent": "no"}', None]
)
def test_whatever_metadata_a_job_has_its_attempt_begins(metadata: str | None) -> None:
    """They are the user's own, and one who enqueues in SQL may store any JSON."""
    lease = Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 4, None, None, 0, 0, metadata, "q", "k")
    begun: list[Attempt] = []
    inner: Any = SimpleNamespace(start=lambda attempt, done: begun.append(attempt))
    attempt = Attempt(lease, 0.0)
    TracedRunner(inner, "continued", carries=True).start(attempt, lambda attempt, ending: None)
    assert begun == [attempt]


async def test_where_it_is_off_there_is_no_span_of_ours(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, _ = await spans_of(database_url, tmp_path, "off", monkeypatch)
    assert {span["name"] for span in spans} == {"request", "inside"}
    assert {span["parent_id"] for span in named(spans, "inside")} == {None}


def test_a_program_without_opentelemetry_pays_nothing(database_url: str) -> None:
    """Its jobs carry nothing, and go the quick way of plain ones."""
    sent = [Perdure(database_url=database_url).prepare(jobs.add, 1)]
    with sending(sent, "linked") as carrying:
        assert carrying is sent
    assert not is_traced("linked")


def test_metadata_of_the_user_stay_and_a_context_of_theirs_counts(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    app = Perdure(database_url=database_url)
    theirs = f"00-{'1' * 32}-{'2' * 16}-01"
    sent: list[Prepared[int]] = [
        app.using(metadata={"order": 7}).prepare(jobs.add, 1),
        app.using(metadata={"traceparent": theirs}).prepare(jobs.add, 1),
    ]
    with sending(sent, "linked") as carrying:
        first, second = (one.job.metadata for one in carrying)
        span = trace.get_current_span().get_span_context()
    assert first == {"order": 7, "traceparent": first["traceparent"]}
    assert str(first["traceparent"]).startswith(f"00-{span.trace_id:032x}-{span.span_id:016x}-")
    assert second == {"traceparent": theirs}
