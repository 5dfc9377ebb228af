"""Rows of the reading statements as views."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import Any, Protocol

import msgspec

from perdure.domain.job import JobState, OnParentFailure
from perdure.domain.rank import EPOCH, HEAD_START, Band, band_of, rank_of
from perdure.domain.serving import Unserved
from perdure.domain.settlement import ErrorReport, Outcome
from perdure.domain.views import (
    AttemptView,
    DeadLetterView,
    EdgeState,
    EdgeView,
    EventView,
    GroupView,
    JobDetail,
    JobView,
    LaneView,
    LeaseView,
    PlaceView,
    ProgressView,
    QueueView,
    WorkerView,
)
from perdure.domain.worker import Worker, WorkerId, WorkerState

MILLISECOND = timedelta(milliseconds=1)
_reports = msgspec.json.Decoder(ErrorReport)


class Row(Protocol):
    """A row of the driver, read by the names of its columns."""

    def __getitem__(self, column: str, /) -> Any: ...


def raw(text: str | None) -> msgspec.Raw | None:
    """JSON text as it stands."""
    return None if text is None else msgspec.Raw(text.encode())


def report_of(text: str | None) -> ErrorReport | None:
    """An error as it was recorded; one written by hand in another form is shown as its text."""
    if text is None:
        return None
    try:
        return _reports.decode(text)
    except msgspec.DecodeError:
        return ErrorReport(type="", message=text)


def job_of(row: Row) -> JobView:
    """A row of `jobs_page` or `job`."""
    error = report_of(row["error"])
    fingerprint = (error.fingerprint if error else "") or (row["outcome"] if row["cause"] else "") or ""
    return JobView(
        id=row["id"],
        kind=row["kind"],
        queue=row["queue"],
        state=JobState(row["state"]),
        priority=row["priority"],
        run=row["run"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        enqueued_at=row["enqueued_at"],
        since=row["since"],
        labels=tuple(row["labels"]),
        args=msgspec.Raw(row["args"].encode()),
        run_at=row["run_at"],
        worker_id=row["worker_id"],
        worker=row["worker"] or "",
        unique_key=row["unique_key"],
        concurrency_key=row["concurrency_key"],
        error=(f"{error.type}: {error.message}" if error else row["cause"]) or "",
        fingerprint=fingerprint,
    )


def detail_of(
    row: Row,
    *,
    attempts: Sequence[AttemptView],
    edges: Sequence[Row],
    events: Sequence[Row],
    place: PlaceView | None,
) -> JobDetail:
    """A row of `job` with what belongs to it."""
    job = job_of(row)
    return JobDetail(
        job=job,
        depth=row["depth"],
        timeout=None if row["timeout_ms"] is None else row["timeout_ms"] * MILLISECOND,
        crash_limit=row["crash_limit"],
        crashes=row["crashes"],
        interruptions=row["interruptions"],
        suspicion=row["suspicion"],
        concurrency_limit=row["concurrency_limit"],
        metadata=raw(row["metadata"]),
        result=raw(row["result"]) if job.state is JobState.COMPLETED else None,
        error=report_of(row["error"]),
        attempts=tuple(attempts),
        parents=tuple(edge_of(edge) for edge in edges if edge["is_parent"]),
        children=tuple(edge_of(edge) for edge in edges if not edge["is_parent"]),
        events=tuple(event_of(event) for event in events),
        lease=None if row["token"] is None else _lease_of(row),
        place=place,
        progress=_progress_of(row),
        dead_letter=None if row["dead_at"] is None else letter_of(row, of_job=True),
    )


def _lease_of(row: Row) -> LeaseView:
    return LeaseView(
        token=row["token"],
        worker_id=row["worker_id"],
        worker=row["worker"] or "",
        process=row["process"],
        isolated=row["isolated"],
        attempt=row["attempt"],
        claimed_at=row["claimed_at"],
        deadline=row["deadline"],
        cancel_requested_at=row["requested_at"],
        cancel_reason=row["request_reason"] or "",
    )


def _progress_of(row: Row) -> ProgressView | None:
    """The progress of the attempt that runs, or of the last one of a job that has ended."""
    if row["updated_at"] is None or (row["token"] is not None and row["token"] != row["progress_token"]):
        return None
    return ProgressView(fraction=row["fraction"], note=row["note"] or "", updated_at=row["updated_at"])


def attempt_of(row: Row) -> AttemptView:
    """A row of `attempts`."""
    return AttemptView(
        run=row["run"],
        attempt=row["attempt"],
        outcome=Outcome(row["outcome"]),
        state=JobState(row["state"]),
        settled_at=row["settled_at"],
        available_at=row["available_at"],
        claimed_at=row["claimed_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        retry_at=row["retry_at"],
        worker_id=row["worker_id"],
        worker=row["worker"] or "",
        process=row["process"],
        isolated=row["isolated"],
        token=row["token"],
        cause=row["cause"] or "",
        error=report_of(row["error_text"]),
        result=raw(row["result_text"]),
    )


def edge_of(row: Row) -> EdgeView:
    """A row of `edges`."""
    return EdgeView(
        job_id=row["other_id"],
        kind=row["kind"] or "",
        state=None if row["state"] is None else JobState(row["state"]),
        edge=EdgeState(row["edge"]),
        on_failure=OnParentFailure(row["on_failure"]),
    )


def event_of(row: Row) -> EventView:
    """A row of `events`."""
    return EventView(
        at=row["at"],
        event=row["event"],
        actor=row["actor"],
        reason=row["reason"] or "",
        job_id=row["job_id"],
        worker_id=row["worker_id"],
        queue=row["queue"],
        detail=raw(row["detail"]),
    )


def place_of(row: Row, most: int) -> PlaceView:
    """A row of `place`; the ready time is told from the rank."""
    band = band_of(row["priority"])
    ready_us = row["rank"] - rank_of(EPOCH, row["priority"])
    return PlaceView(
        lane=row["lane"],
        band=Band(row["band"]).name.lower(),
        rank=row["rank"],
        ready_at=EPOCH + timedelta(microseconds=ready_us),
        head_start=HEAD_START[band],
        ahead=min(row["ahead"], most),
        approximate=row["ahead"] > most,
        parked_for=row["parked_for"],
    )


def letter_of(row: Row, *, of_job: bool = False) -> DeadLetterView:
    """A row of `letters`, or the dead letter in a row of `job`, whose columns are named after it."""
    own = "dead_" if of_job else ""
    return DeadLetterView(
        job_id=row["id" if of_job else "job_id"],
        kind=row["kind"],
        queue=row["queue"],
        dead_at=row["dead_at"],
        run=row[f"{own}run"],
        attempt=row[f"{own}attempt"],
        crashes=row[f"{own}crashes"],
        interruptions=row[f"{own}interruptions"],
        outcome=Outcome(row[f"{own}outcome"]),
        fingerprint=row["fingerprint"],
        cause=row[f"{own}cause"],
        error=report_of(row[f"{own}error"]),
        args=msgspec.Raw(row["args"].encode()),
    )


def group_of(row: Row) -> GroupView:
    """A row of `groups`."""
    return GroupView(
        fingerprint=row["fingerprint"],
        count=row["letters"],
        kinds=tuple(row["kinds"]),
        queues=tuple(row["queues"]),
        first_at=row["first_at"],
        last_at=row["last_at"],
        sample_job_id=row["job_id"],
        cause=row["cause"],
        error=report_of(row["error"]),
    )


def queues_of(rows: Sequence[Row], most: int, *, approximate: bool = False) -> list[QueueView]:
    """The queues of the rows of `queues`, available jobs having been counted to `most`."""
    by_name = groupby(rows, key=lambda row: row["name"])
    views = [queue_of(list(lanes), most) for _, lanes in by_name]
    return [replace(view, approximate=True) for view in views] if approximate else views


def queue_of(rows: Sequence[Row], most: int) -> QueueView:
    """The rows of one queue in `queues`, one for each lane."""
    first = rows[0]
    with_lanes = [row for row in rows if row["lane"] is not None]
    lanes = tuple(_lane_of(row, most) for row in with_lanes)
    depths = {state: sum(row[state] for row in with_lanes) for state in _COUNTED}
    depths[JobState.AVAILABLE] = sum(lane.available for lane in lanes)
    oldest = [row for row in with_lanes if row["oldest"] is not None]
    eldest = min(oldest, key=lambda row: row["oldest"], default=None)
    waiting = {
        row["kind"]
        for row in with_lanes
        if not row["serving"] and any(row[depth] for depth in (*_COUNTED[:3], "available", "parked"))
    }
    return QueueView(
        name=first["name"],
        paused_at=first["paused_at"],
        paused_by=first["paused_by"],
        depths=depths,
        oldest_available_at=eldest["oldest"] if eldest else None,
        oldest_available_s=max(0.0, eldest["oldest_s"]) if eldest else None,
        lanes=lanes,
        kinds=tuple(sorted({lane.kind for lane in lanes})),
        unserved=tuple(sorted(waiting)),
        workers=first["on_queue"],
        approximate=any(row["available"] > most for row in with_lanes),
    )


_COUNTED = (
    JobState.PENDING,
    JobState.SCHEDULED,
    JobState.RETRYABLE,
    JobState.RUNNING,
    JobState.DISCARDED,
)


def _lane_of(row: Row, most: int) -> LaneView:
    return LaneView(
        lane=row["lane"],
        kind=row["kind"],
        labels=tuple(row["labels"]),
        available=min(row["available"], most) + row["parked"],
        workers=len(row["serving"]),
    )


def worker_of(row: Row) -> Worker:
    """A row of `workers`, with the leases that it holds."""
    return Worker(
        id=WorkerId(row["id"]),
        name=row["name"],
        host=row["host"],
        pid=row["pid"],
        type=row["type"],
        state=WorkerState(row["state"]),
        queues=tuple(row["queues"]),
        kinds=tuple(row["kinds"]),
        labels=tuple(row["labels"]),
        capacity=row["capacity"],
        processes=row["processes"],
        version=row["version"],
        running=row["running"],
        started_at=row["started_at"],
        heartbeat_at=row["heartbeat_at"],
        stopped_at=row["stopped_at"],
        cause=row["cause"] or "",
        cordoned=row["cordoned_at"] is not None,
    )


def worker_view_of(row: Row) -> WorkerView:
    """A row of `workers` as faces see it."""
    worker = worker_of(row)
    silent = max(0.0, row["silent_s"])
    return WorkerView(
        worker=worker, load=worker.load, silent_s=silent, suspect=row["suspect"], deaf=row["deaf"]
    )


def unserved_of(row: Row) -> Unserved:
    return Unserved(
        queue=row["queue"],
        kind=row["kind"],
        labels=tuple(row["labels"]),
        workers_on_queue=row["on_queue"],
        workers_on_kind=row["on_kind"],
        jobs=row["jobs"],
    )
