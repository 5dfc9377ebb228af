"""The life of jobs in PostgreSQL: enqueue, settle, stage, resolve."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from perdure.domain.errors import (
    DependencyCycle,
    DependencyTooDeep,
    DuplicateJob,
    InvalidInput,
    InvalidOption,
    UnknownParent,
)
from perdure.domain.job import Disposition, Enqueued, JobId, JobState, NewJob
from perdure.domain.settlement import Outcome, Settlement
from perdure.ports import Place, Settled
from perdure.stores.postgres.connections import BOUNDED_WAITS, Database, DedicatedDatabase
from perdure.stores.postgres.locks import past_locks
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

STATES = tuple(JobState)
MILLISECOND = timedelta(milliseconds=1)
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
"""What no repetition would mend: the values themselves are wrong."""

LONGEST_DELAY_MS = 100 * 365 * 86_400_000

SETTLE_SETTINGS = {"enable_seqscan": "off", **BOUNDED_WAITS}
"""The tables of leases, keys and edges are nearly empty at one moment and full at the next: a plan that was made for the
first would read them whole for each settlement (docs/decisions/0004-claim-plan.md). And one result that waits for a user's open
transaction must not hold up all others of its process."""


def settler_database(database_url: str, *, application_name: str) -> DedicatedDatabase:
    """The connection that a process settles with."""
    return DedicatedDatabase(database_url, application_name=application_name, settings=SETTLE_SETTINGS)


class PostgresJobs:
    """The port `Jobs` on PostgreSQL."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("jobs", schema)

    async def enqueue(self, jobs: Sequence[NewJob], *, on_duplicate: str = "raise") -> Sequence[Enqueued]:
        rows = await self._enqueue(jobs, on_duplicate)
        return [enqueued_of(row) for row in rows]

    async def enqueue_placed(
        self, jobs: Sequence[NewJob], *, on_duplicate: str = "raise"
    ) -> tuple[Sequence[Enqueued], Sequence[Place]]:
        """As `enqueue`, and where the jobs wait that may start now, for announcing."""
        rows = await self._enqueue(jobs, on_duplicate)
        return [enqueued_of(row) for row in rows], places(rows)

    async def _enqueue(self, jobs: Sequence[NewJob], on_duplicate: str) -> list[asyncpg.Record]:
        with EnqueueErrors():
            return await self._database.fetch(self._sql["enqueue"], encode_jobs(jobs), on_duplicate)

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        done = sum(s.outcome is Outcome.COMPLETED for s in settlements)
        if 0 < done < len(settlements):
            raise ValueError("successes and other endings are settled by themselves")
        try:
            if done:
                rows = await self._database.fetch(self._sql["settle_completed"], *_completed(settlements))
            else:
                rows = await self._database.fetch(self._sql["settle_others"], *_others(settlements))
        except REFUSED as error:
            raise InvalidInput("outcome", f"PostgreSQL refuses it: {error}") from error
        accepted = frozenset(row[0] for row in rows if row[0] is not None)
        released = [Place(row[1], row[2], row[3], row[4]) for row in rows if row[1] is not None]
        return Settled(accepted=accepted, released=released)

    async def settle_unlocked(self, settlements: Sequence[Settlement]) -> Settled:
        done, locked = await past_locks(self.settle, settlements)
        return Settled(
            accepted=frozenset().union(*(each.accepted for each in done)),
            released=[place for each in done for place in each.released],
            locked=locked,
        )

    async def refuse(self, settlements: Sequence[Settlement], worker_id: UUID) -> frozenset[UUID]:
        rows = await self._database.fetch(
            self._sql["refuse"],
            [s.job_id for s in settlements],
            [s.token for s in settlements],
            worker_id,
            [s.outcome.value for s in settlements],
        )
        return frozenset(row["token"] for row in rows)

    async def stage(self, *, limit: int) -> Sequence[Place]:
        return places(await self._database.fetch(self._sql["stage"], limit))

    async def resolve(self, *, limit: int) -> Sequence[Place]:
        return places(await self._database.fetch(self._sql["resolve"], limit))

    async def unpark(self) -> Sequence[Place]:
        return places(await self._database.fetch(self._sql["unpark"]))


def places(rows: Iterable[Any]) -> list[Place]:
    """The places among rows that carry lane, band, rank and job id; a null lane means no place."""
    return [
        Place(row["lane"], row["band"], row["rank"], row["job_id"]) for row in rows if row["lane"] is not None
    ]


def enqueued_of(row: Any) -> Enqueued:
    """One row of `enqueue` as the answer to its producer."""
    return Enqueued(
        job_id=JobId(row["job_id"]),
        disposition=Disposition(row["disposition"]),
        holder=JobId(row["holder"]) if row["holder"] is not None else None,
    )


def encode_jobs(jobs: Iterable[NewJob]) -> str:
    """The jobs as the JSON array that `enqueue_jobs` reads."""
    return msgspec.json.encode([_job_fields(job) for job in jobs]).decode()


def _job_fields(job: NewJob) -> dict[str, object]:
    fields: dict[str, object] = {
        "id": job.id,
        "queue": job.shape.queue,
        "kind": job.shape.kind,
        "args": msgspec.Raw(job.args.encode()),
        "priority": job.shape.priority,
        "max_attempts": job.shape.max_attempts,
        "timeout_ms": 0 if job.shape.timeout is None else max(1, job.shape.timeout // MILLISECOND),
    }
    if job.shape.labels:
        fields["labels"] = job.shape.labels
    if job.run_at is not None:
        fields["run_at"] = job.run_at
    if job.delay is not None:
        fields["delay_ms"] = min(job.delay // MILLISECOND, LONGEST_DELAY_MS)
    if job.shape.crash_limit is not None:
        fields["crash_limit"] = job.shape.crash_limit
    if job.metadata:
        fields["metadata"] = job.metadata
    return fields | _relations(job)


def _relations(job: NewJob) -> dict[str, object]:
    """The fields that tie a job to others: its parents and its keys."""
    fields: dict[str, object] = {}
    if job.depends_on:
        fields["parents"] = [{"parent_id": d.parent_id, "on_failure": d.on_failure} for d in job.depends_on]
        fields["inherit_priority"] = job.inherit_priority
    if job.unique is not None:
        fields["unique_key"] = job.unique.key
        fields["unique_states"] = states_mask(job.unique.states)
        if job.unique.period is not None:
            fields["unique_for_ms"] = job.unique.period // MILLISECOND
    if job.concurrency_key is not None:
        fields["concurrency_key"] = job.concurrency_key
        fields["concurrency_limit"] = job.concurrency_limit
    return fields


def states_mask(states: Iterable[JobState]) -> int:
    """A set of states as the bits of `unique_keys.states`."""
    return sum(1 << STATES.index(state) for state in states)


class EnqueueErrors:
    """Raises the typed error in place of the error codes of `enqueue_jobs` (PD001 to PD005), for any driver."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
        if error is not None and code is not None:
            raise_enqueue_error(str(code), error)


def raise_enqueue_error(code: str, error: BaseException) -> None:
    """Raise the typed error of one of our codes; do nothing for any other."""
    source = getattr(error, "orig", None) or error
    source = source.__cause__ if getattr(source, "detail", None) is None and source.__cause__ else source
    detail = getattr(source, "detail", None) or getattr(getattr(source, "diag", None), "message_detail", None)
    match code:
        case "PD001":
            clash = msgspec.json.decode(str(detail))
            raise DuplicateJob(clash["key"], UUID(clash["holder"])) from error
        case "PD002":
            raise UnknownParent(UUID(msgspec.json.decode(str(detail))["parent_id"])) from error
        case "PD003":
            raise DependencyTooDeep(
                "depends_on",
                "a chain of dependencies is longer than 500",
                next_step="let one job do more, or enqueue the next part from the last job of a chain",
            ) from error
        case "PD005":
            circle = msgspec.json.decode(str(detail))["job_ids"]
            raise DependencyCycle([UUID(job_id) for job_id in circle]) from error
        case "PD004":
            wrong = msgspec.json.decode(str(detail))
            raise InvalidOption(wrong["field"], wrong["why"]) from error
        case "22P05" | "22P02" | "22003" | "22008" | "23502" | "23514":
            raise InvalidInput("jobs", f"PostgreSQL refuses a value: {error}") from error


def _completed(settlements: Sequence[Settlement]) -> tuple[object, ...]:
    results = [s.result for s in settlements]
    return (
        [s.job_id for s in settlements],
        [s.token for s in settlements],
        results if any(result is not None for result in results) else [],  # missing ones are null to `unnest`
        [s.started_us for s in settlements],
        [s.finished_us for s in settlements],
    )


def _others(settlements: Sequence[Settlement]) -> tuple[object, ...]:
    return (
        [s.job_id for s in settlements],
        [s.token for s in settlements],
        [s.outcome.value for s in settlements],
        [s.state.value for s in settlements],
        [s.attempt for s in settlements],
        [s.crashes for s in settlements],
        [s.interruptions for s in settlements],
        [s.suspicion for s in settlements],
        [None if s.delay is None else s.delay // MILLISECOND for s in settlements],
        [s.cause for s in settlements],
        [None if s.error is None else msgspec.json.encode(s.error).decode() for s in settlements],
        [_fingerprint(s) for s in settlements],
        [s.started_us for s in settlements],
        [s.finished_us for s in settlements],
    )


def _fingerprint(settlement: Settlement) -> str:
    """Dead letters of one cause share a group: the error's fingerprint, or the way the attempt ended."""
    if settlement.error is not None and settlement.error.fingerprint:
        return settlement.error.fingerprint
    return settlement.outcome.value
