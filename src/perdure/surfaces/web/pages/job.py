"""One job: its way through the states, its attempts, its error, and why it does not run."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from perdure.domain.errors import PerdureError
from perdure.domain.execution_memory import SimilarExecution, Wanted, fixed_by
from perdure.domain.explain import Explanation
from perdure.domain.job import RETRIED, TERMINAL
from perdure.domain.views import AttemptView, JobDetail
from perdure.runtime.memory import Memory
from perdure.surfaces.web.machine import machine
from perdure.surfaces.web.pages.frame import Content, View, Visit

MEMORY_WITHIN_S = 1.5
ALIKE_MOST = 5
LIKE_ENOUGH = Wanted(failed=True, least=0.5)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of an attempt on a line of 100: it waited, or it ran."""

    kind: str
    x: float
    width: float
    seconds: float


def job_view(job_id: UUID) -> View:
    """The view of one job's page."""

    async def job(visit: Visit) -> Content:
        detail, explanation, alike = await _looked_up(visit, job_id)
        return "job.html", {
            "detail": detail,
            "job": detail.job,
            "explanation": explanation,
            "alike": alike,
            "fixed_by": fixed_by,
            "machine": machine(detail),
            "stretches": {
                attempt.token: stretches(attempt, detail, visit.as_of) for attempt in detail.attempts
            },
            "can_cancel": detail.job.state not in TERMINAL,
            "can_retry": detail.job.state in RETRIED and detail.dead_letter is None,
            "ran": _ran,
            "waited": _waited,
        }

    return job


async def _looked_up(
    visit: Visit, job_id: UUID
) -> tuple[JobDetail, Explanation | None, Sequence[SimilarExecution]]:
    """The job, why it does not run, and what is like it; of the past only the job."""
    read = visit.stores.read
    if visit.as_of is not None:
        return await read.job(job_id, as_of=visit.as_of), None, ()
    return await asyncio.gather(read.job(job_id), read.explain(job_id), _alike(visit.stores.memory, job_id))


def stretches(attempt: AttemptView, detail: JobDetail, at: datetime | None = None) -> list[Stretch]:
    """Where an attempt waited and ran, on the line from the enqueue to the last thing known."""
    begin = detail.job.enqueued_at
    ends = [one.settled_at for one in detail.attempts]
    end = max([*ends, at or datetime.now(UTC)] if detail.job.state not in TERMINAL else ends)
    whole = max((end - begin).total_seconds(), 1e-3)
    found = []
    for kind, start, stop in (
        ("waited", attempt.available_at, attempt.claimed_at or attempt.settled_at),
        ("ran", attempt.claimed_at, attempt.finished_at or attempt.settled_at),
    ):
        if start is not None and stop >= start:
            x = max(0.0, 100 * (start - begin).total_seconds() / whole)
            seconds = (stop - start).total_seconds()
            found.append(Stretch(kind, min(x, 99.4), max(0.6, min(100 * seconds / whole, 100 - x)), seconds))
    return found


async def _alike(memory: Memory, job_id: UUID) -> Sequence[SimilarExecution]:
    """Executions like this job's last failure, where there is a memory that answers in time; the page waits for none."""
    if not memory.wanted:
        return ()
    try:
        async with asyncio.timeout(MEMORY_WITHIN_S):
            return await (await memory.service()).similar(job_id, LIKE_ENOUGH, limit=ALIKE_MOST)
    except (TimeoutError, PerdureError):
        return ()


def _ran(attempt: AttemptView) -> float | None:
    started = attempt.started_at or attempt.claimed_at
    ended = attempt.finished_at or attempt.settled_at
    return None if started is None else max(0.0, (ended - started).total_seconds())


def _waited(attempt: AttemptView) -> float | None:
    if attempt.available_at is None or attempt.claimed_at is None:
        return None
    return max(0.0, (attempt.claimed_at - attempt.available_at).total_seconds())
