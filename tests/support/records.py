"""What the tables of a store say, as the plain records by which the promises can be judged in memory."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from perdure.domain.history import Body, Edge, Event, Held, Letter, Past, Standing, UniqueKey
from perdure.domain.job import JobState, OnParentFailure
from perdure.domain.settlement import Outcome

STATES = tuple(JobState)
ROWS = """
SELECT jsonb_build_object(
    'jobs', (SELECT jsonb_agg(to_jsonb(j) - 'args') FROM perdure.jobs j),
    'blocked', (SELECT jsonb_agg(b) FROM perdure.blocked_jobs b),
    'scheduled', (SELECT jsonb_agg(s) FROM perdure.scheduled_jobs s),
    'available', (SELECT jsonb_agg(a) FROM perdure.available_jobs a),
    'parked', (SELECT jsonb_agg(p) FROM perdure.parked_jobs p),
    'leases', (SELECT jsonb_agg(l) FROM perdure.leases l),
    'executions', (SELECT jsonb_agg(e) FROM perdure.job_executions e),
    'edges', (SELECT jsonb_agg(d) FROM perdure.job_dependencies d),
    'keys', (SELECT jsonb_agg(u) FROM perdure.unique_keys u),
    'letters', (SELECT jsonb_agg(q) FROM perdure.dead_letter_queue q),
    'events', (SELECT jsonb_agg(v) FROM perdure.job_events v WHERE v.job_id IS NOT NULL),
    'requests', (SELECT jsonb_agg(c.job_id) FROM perdure.cancel_requests c),
    'progress', (SELECT jsonb_agg(p.job_id) FROM perdure.job_progress p),
    'now', now(),
    'since', (SELECT min(d.day) FROM perdure.day_partitions d WHERE d.parent = 'job_executions'),
    'days', (SELECT jsonb_agg(d.day) FROM perdure.day_partitions d WHERE d.parent = 'jobs')
)
"""
Row = dict[str, Any]


def past_of(text: str) -> Past:
    """The answer to `ROWS`."""
    rows: dict[str, Any] = {name: value or [] for name, value in msgspec.json.decode(text).items()}
    return Past(
        taken_at=_at(rows["now"]) or datetime.now(UTC),
        bodies=[_body(row) for row in rows["jobs"]],
        standing=[_standing(row, place) for place in PLACES for row in rows[place]],
        held=[*(_held(row) for row in rows["executions"]), *(_leased(row) for row in rows["leases"])],
        edges=[
            Edge(
                child_id=UUID(row["child_id"]),
                parent_id=UUID(row["parent_id"]),
                on_failure=OnParentFailure(row["on_failure"]),
                state=row["state"],
            )
            for row in rows["edges"]
        ],
        keys=[
            UniqueKey(key=row["key"], job_id=UUID(row["job_id"]), expires_at=_at(row["expires_at"]))
            for row in rows["keys"]
        ],
        letters=[Letter(job_id=UUID(row["job_id"]), run=row["run"]) for row in rows["letters"]],
        events=[
            Event(
                event=row["event"], job_id=UUID(row["job_id"]), run=int((row["detail"] or {}).get("run", 0))
            )
            for row in rows["events"]
        ],
        named=[
            *((UUID(job_id), "request to cancel") for job_id in rows["requests"]),
            *((UUID(job_id), "report of progress") for job_id in rows["progress"]),
        ],
        since=_at(rows["since"] or None),
        days=frozenset(datetime.fromisoformat(day).astimezone(UTC).date() for day in rows["days"]),
    )


PLACES = {
    "blocked": JobState.PENDING,
    "scheduled": JobState.SCHEDULED,
    "available": JobState.AVAILABLE,
    "parked": JobState.AVAILABLE,
}


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _body(row: Row) -> Body:
    mask = row["unique_states"] or 0
    return Body(
        job_id=UUID(row["id"]),
        enqueued_at=datetime.fromisoformat(row["enqueued_at"]),
        max_attempts=row["max_attempts"],
        crash_limit=row["crash_limit"],
        unique_key=row["unique_key"],
        unique_states=frozenset(state for bit, state in enumerate(STATES) if mask >> bit & 1),
        unique_until=_at(row["unique_until"]),
        concurrency_key=row["concurrency_key"],
        concurrency_limit=row["concurrency_limit"],
    )


def _standing(row: Row, place: str) -> Standing:
    state = JobState.RETRYABLE if row.get("retry") else PLACES[place]
    counts = {name: row[name] for name in ("attempt", "crashes", "interruptions") if name in row}
    return Standing(
        job_id=UUID(row["job_id"]),
        place=place,
        state=state,
        run=row["run"],
        run_at=_at(row.get("run_at")),
        waiting=row.get("waiting", 0),
        verified=row.get("verified", True),
        **counts,
    )


def _leased(row: Row) -> Held:
    return Held(
        job_id=UUID(row["job_id"]),
        token=None if row["token"] is None else UUID(row["token"]),
        run=row["run"],
        attempt=row["attempt"],
        crashes=row["crashes"],
        interruptions=row["interruptions"],
        claim_xid=_number(row["claim_xid"]),
        slot=row["slot"],
        concurrency_key=row["concurrency_key"],
    )


def _held(row: Row) -> Held:
    return Held(
        job_id=UUID(row["job_id"]),
        token=None if row["token"] is None else UUID(row["token"]),
        run=row["run"],
        attempt=row["attempt"],
        crashes=row["crashes"],
        interruptions=row["interruptions"],
        claim_xid=_number(row["claim_xid"]),
        settle_xid=_number(row["settle_xid"]),
        outcome=Outcome(row["outcome"]),
        state=JobState(row["state"]),
        slot=row["slot"],
        concurrency_key=row["concurrency_key"],
    )
