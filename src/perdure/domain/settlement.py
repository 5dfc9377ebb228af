"""How an attempt ended, and where that leaves its job: the one place that decides."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import assert_never
from uuid import UUID

import msgspec
from msgspec.structs import replace

from perdure.domain.job import JobState
from perdure.domain.lease import Lease

DEFAULT_CRASH_LIMIT = 3
DEFAULT_INTERRUPTION_LIMIT = 50
ALONE = 2
"""The suspicion from which a job is run alone: one death of its process, or two losses of its whole host."""
SUSPICION_MAX = 100


class Outcome(StrEnum):
    """How one attempt ended, as the history tells it."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"
    RELEASED = "released"
    SNOOZED = "snoozed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """An error as it is kept: `fingerprint` is equal for errors of the same cause."""

    type: str
    message: str
    traceback: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The handler returned; `result` is JSON text."""

    result: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The handler raised, or ran out of time; `give_up` forbids another attempt, `wished` says that it chose `retry_in` itself."""

    error: ErrorReport
    retry_in: timedelta
    give_up: bool = False
    wished: bool = False
    timed_out: bool = False
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snoozed:
    """The handler asked to be run again later; no attempt is used up."""

    delay: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The handler or an operator ended the job for good."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The attempt was stopped from outside (deploy, evacuation): its job goes back and no attempt is used up."""

    cause: str
    started: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """The process that ran the attempt died.

    `alone`: nothing else ran in it, so this job is to blame. Otherwise the job is only suspected: strongly when
    its process died under a living supervisor, weakly when the whole host fell silent.
    """

    cause: str
    alone: bool
    host_lost: bool = False


Unsuccessful = Failed | Snoozed | Cancelled | Interrupted | Crashed
Ending = Completed | Unsuccessful


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """Where an attempt leaves its job; it is accepted only while the lease with this token stands.

    A msgspec struct for the same reason as `Lease`: one is built for every attempt.

    `attempt`, `crashes`, `interruptions` and `suspicion` are the counts that travel on with the job.
    `started_us` and `finished_us` are microseconds counted back from the moment of settling, so that every
    time in the history is the database's.
    """

    job_id: UUID
    token: UUID
    outcome: Outcome
    state: JobState
    attempt: int
    crashes: int
    interruptions: int
    suspicion: int
    delay: timedelta | None = None
    cause: str = ""
    error: ErrorReport | None = None
    result: str | None = None
    started_us: int | None = None
    finished_us: int = 0


def settle(
    lease: Lease,
    ending: Ending,
    *,
    crash_limit: int = DEFAULT_CRASH_LIMIT,
    interruption_limit: int = DEFAULT_INTERRUPTION_LIMIT,
    started_us: int | None = None,
    finished_us: int = 0,
) -> Settlement:
    """Decide where `ending` leaves the job of `lease`.

    Failures use up attempts. Crashes alone and interruptions have limits of their own; a job that
    reaches one is discarded with the cause. The times are those of the settlement.
    """
    if isinstance(ending, Completed):  # nearly all, so they are made in one step
        return Settlement(
            job_id=lease.job_id,
            token=lease.token,
            outcome=Outcome.COMPLETED,
            state=JobState.COMPLETED,
            attempt=lease.attempt - 1,
            crashes=lease.crashes,
            interruptions=lease.interruptions,
            suspicion=lease.suspicion,
            result=ending.result,
            started_us=started_us,
            finished_us=finished_us,
        )
    settlement = _unsuccessful(lease, ending, crash_limit, interruption_limit)
    return replace(settlement, started_us=started_us, finished_us=finished_us)


def _unsuccessful(
    lease: Lease, ending: Unsuccessful, crash_limit: int, interruption_limit: int
) -> Settlement:
    match ending:
        case Cancelled(reason=reason):
            return replace(_unchanged(lease, Outcome.CANCELLED, JobState.CANCELLED), cause=reason)
        case Snoozed(delay=delay):
            return replace(_unchanged(lease, Outcome.SNOOZED, JobState.SCHEDULED), delay=delay)
        case Failed():
            return _failed(lease, ending)
        case Interrupted(started=False, cause=cause):
            return replace(_unchanged(lease, Outcome.RELEASED, JobState.AVAILABLE), cause=cause)
        case Interrupted(cause=cause):
            return _interrupted(lease, cause, interruption_limit)
        case Crashed():
            return _crashed(lease, ending, lease.crash_limit or crash_limit)
        case _:
            assert_never(ending)


def _unchanged(lease: Lease, outcome: Outcome, state: JobState) -> Settlement:
    """The settlement that leaves all counts as they were before the attempt."""
    return Settlement(
        job_id=lease.job_id,
        token=lease.token,
        outcome=outcome,
        state=state,
        attempt=lease.attempt - 1,
        crashes=lease.crashes,
        interruptions=lease.interruptions,
        suspicion=lease.suspicion,
    )


def _failed(lease: Lease, failed: Failed) -> Settlement:
    outcome = Outcome.TIMED_OUT if failed.timed_out else Outcome.FAILED
    last = failed.give_up or lease.attempt >= lease.max_attempts
    cause = failed.cause or (f"attempt {lease.attempt} of {lease.max_attempts} failed" if last else "")
    return replace(
        _unchanged(lease, outcome, JobState.DISCARDED if last else JobState.RETRYABLE),
        attempt=lease.attempt,
        suspicion=0,
        delay=None if last else failed.retry_in,
        cause=cause,
        error=failed.error,
    )


def _interrupted(lease: Lease, cause: str, limit: int) -> Settlement:
    count = lease.interruptions + 1
    if count >= limit:
        cause = f"interrupted {count} times, the limit; last: {cause}"
    state = JobState.DISCARDED if count >= limit else JobState.AVAILABLE
    return replace(_unchanged(lease, Outcome.INTERRUPTED, state), interruptions=count, cause=cause)


def _crashed(lease: Lease, crashed: Crashed, limit: int) -> Settlement:
    crashes = lease.crashes + crashed.alone
    if crashes >= limit:
        cause = f"crashed its process {crashes} times while running alone, the limit; last: {crashed.cause}"
        return replace(_unchanged(lease, Outcome.CRASHED, JobState.DISCARDED), crashes=crashes, cause=cause)
    suspicion = min(SUSPICION_MAX, lease.suspicion + (1 if crashed.host_lost else ALONE))
    return replace(
        _unchanged(lease, Outcome.CRASHED, JobState.AVAILABLE),
        crashes=crashes,
        suspicion=suspicion,
        cause=crashed.cause,
    )
