"""Why a job is not running, told in sentences from what the database knows."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from perdure.domain.durations import format_duration, format_moment
from perdure.domain.job import TERMINAL, JobState, OnParentFailure
from perdure.domain.rank import Band
from perdure.domain.serving import why_unserved
from perdure.domain.views import EdgeState, EdgeView, PlaceView

NAMED_MAX = 5


class Hold(StrEnum):
    """Why a job does not run just now; a face may translate by it."""

    RUNNING = "running"
    ENDED = "ended"
    PARENTS = "parents"
    SCHEDULED = "scheduled"
    DUE = "due"
    PAUSED = "paused"
    UNSERVED = "unserved"
    KEY_FULL = "key_full"
    SUSPECT = "suspect"
    QUEUED = "queued"
    CANCELLING = "cancelling"
    PARENTS_FAILED = "parents_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason as a sentence, with the jobs that it speaks of."""

    hold: Hold
    sentence: str
    job_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a job is not running (or that it is); the first reason is the one to remove first."""

    job_id: UUID
    state: JobState
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What decides whether a job may start; workers are the active ones, counted step by step as they fit."""

    now: datetime
    job_id: UUID
    state: JobState
    queue: str
    kind: str
    labels: tuple[str, ...] = ()
    run_at: datetime | None = None
    paused_at: datetime | None = None
    paused_by: str = ""
    workers_on_queue: int = 0
    workers_on_kind: int = 0
    workers_serving: int = 0
    workers_suspect: int = 0
    worker: str = ""
    claimed_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    holders: tuple[UUID, ...] = ()
    band: Band | None = None
    parents: tuple[EdgeView, ...] = ()
    place: PlaceView | None = None


def explain(facts: Facts) -> Explanation:
    """The reasons that hold the job back, the one to remove first in front."""
    if facts.state is JobState.RUNNING:
        reasons = _running(facts)
    elif facts.state in TERMINAL:
        again = (
            "" if facts.state is JobState.COMPLETED else " Its attempts tell why; a retry gives it a new run."
        )
        reasons = [Reason(hold=Hold.ENDED, sentence=f"It has ended: {facts.state}.{again}")]
    else:
        reasons = [*_parents(facts), *_time(facts), *_paused(facts), *_unserved(facts)]
        if facts.state is JobState.AVAILABLE:
            reasons += [*_key(facts), *_suspect(facts)]
            reasons += _queued(facts, free=not reasons)
    return Explanation(job_id=facts.job_id, state=facts.state, reasons=tuple(reasons))


def _running(facts: Facts) -> list[Reason]:
    since = "" if facts.claimed_at is None else f" since {format_moment(facts.claimed_at)}"
    reasons = [
        Reason(hold=Hold.RUNNING, sentence=f"It is running on worker {facts.worker or 'unknown'}{since}.")
    ]
    if facts.cancel_requested_at is not None:
        asked = f"Its worker was asked at {format_moment(facts.cancel_requested_at)} to stop it."
        reasons.append(Reason(hold=Hold.CANCELLING, sentence=asked))
    return reasons


def _parents(facts: Facts) -> list[Reason]:
    waiting = [edge for edge in facts.parents if edge.edge is EdgeState.WAITING]
    failed = [e for e in waiting if _has_failed(e)]
    live = [e for e in waiting if not _has_failed(e)]
    reasons = []
    if failed:
        sentence = (
            f"It is held because {_count(len(failed), 'parent')} ended without success: {_named(failed)}."
            " It goes on when they are retried and complete."
        )
        reasons.append(_of(Hold.PARENTS_FAILED, sentence, failed))
    if live:
        sentence = f"It waits for {_count(len(live), 'parent')}: {_named(live)}."
        reasons.append(_of(Hold.PARENTS, sentence, live))
    if facts.state is JobState.PENDING and not reasons:
        sentence = "All its parents have ended; the leader releases it within moments."
        reasons.append(Reason(hold=Hold.PARENTS, sentence=sentence))
    return reasons


def _has_failed(edge: EdgeView) -> bool:
    ended = edge.state in {JobState.CANCELLED, JobState.DISCARDED} or edge.state is None
    return ended and edge.on_failure is OnParentFailure.HOLD


def _of(hold: Hold, sentence: str, edges: list[EdgeView]) -> Reason:
    return Reason(hold=hold, sentence=sentence, job_ids=tuple(edge.job_id for edge in edges))


def _named(edges: list[EdgeView]) -> str:
    names = [
        f"{edge.job_id} ({edge.kind or 'unknown'}, {edge.state or 'gone'})" for edge in edges[:NAMED_MAX]
    ]
    return ", ".join(names) + _more(len(edges))


def _more(count: int) -> str:
    return f" and {count - NAMED_MAX} more" if count > NAMED_MAX else ""


def _time(facts: Facts) -> list[Reason]:
    if facts.run_at is None or facts.state is JobState.AVAILABLE:
        return []
    what = "waits for its next attempt" if facts.state is JobState.RETRYABLE else "is scheduled"
    if facts.run_at <= facts.now:
        if facts.state is JobState.PENDING:
            return []
        sentence = f"It {what} and its time has come; the leader makes it available within moments."
        return [Reason(hold=Hold.DUE, sentence=sentence)]
    left = format_duration(timedelta(seconds=round((facts.run_at - facts.now).total_seconds())))
    sentence = f"It {what} until {format_moment(facts.run_at)}, in {left}."
    return [Reason(hold=Hold.SCHEDULED, sentence=sentence)]


def _paused(facts: Facts) -> list[Reason]:
    if facts.paused_at is None:
        return []
    sentence = f"Queue {facts.queue} was paused at {format_moment(facts.paused_at)} by {facts.paused_by or 'somebody'}."
    return [Reason(hold=Hold.PAUSED, sentence=sentence)]


def _unserved(facts: Facts) -> list[Reason]:
    if facts.workers_serving > 0:
        if facts.workers_suspect < facts.workers_serving:
            return []
        sentence = f"All {_count(facts.workers_serving, 'worker')} that could run it have missed heartbeats."
    else:
        sentence = why_unserved(
            facts.queue, facts.kind, facts.labels, facts.workers_on_queue, facts.workers_on_kind
        )
    return [Reason(hold=Hold.UNSERVED, sentence=sentence)]


def _key(facts: Facts) -> list[Reason]:
    if facts.concurrency_key is None or len(facts.holders) < (facts.concurrency_limit or 1):
        return []
    names = ", ".join(str(holder) for holder in facts.holders[:NAMED_MAX]) + _more(len(facts.holders))
    limit = _count(facts.concurrency_limit or 1, "slot")
    sentence = f"Concurrency key {facts.concurrency_key} is full: its {limit} held by {names}."
    return [Reason(hold=Hold.KEY_FULL, sentence=sentence, job_ids=facts.holders)]


def _suspect(facts: Facts) -> list[Reason]:
    if facts.band is not Band.SUSPECT:
        return []
    sentence = "It is suspected of having killed its process and waits to be run alone."
    return [Reason(hold=Hold.SUSPECT, sentence=sentence)]


def _queued(facts: Facts, *, free: bool) -> list[Reason]:
    if facts.place is None:
        return []
    if facts.place.ahead == 0:
        taken = "; the next free slot of a worker takes it" if free else ""
        sentence = f"It is next of kind {facts.kind} in queue {facts.queue}{taken}."
    else:
        about = "more than " if facts.place.approximate else ""
        ahead = _count(facts.place.ahead, "job")
        sentence = f"It waits behind {about}{ahead} of kind {facts.kind} in queue {facts.queue}."
    return [Reason(hold=Hold.QUEUED, sentence=sentence)]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
