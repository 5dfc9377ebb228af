"""What the API answers beyond the views that every face renders."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from msgspec import Raw

from perdure.domain.job import Enqueued
from perdure.domain.lease import Lease
from perdure.domain.views import StatusView


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedAnswer:
    """What became of an enqueue: `created`, or the job `holder` has the unique key; a dry run stores nothing."""

    job_id: UUID
    disposition: str
    holder: UUID | None = None
    dry_run: bool = False

    @classmethod
    def of(cls, enqueued: Enqueued) -> "EnqueuedAnswer":
        return cls(job_id=enqueued.job_id, disposition=str(enqueued.disposition), holder=enqueued.holder)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAnswer:
    """A claimed job: `token` is the right to settle it, `args` its arguments."""

    job_id: UUID
    token: UUID
    kind: str
    queue: str
    run: int
    attempt: int
    max_attempts: int
    priority: int
    timeout_ms: int | None
    available_at: datetime
    claimed_at: datetime
    args: Raw
    metadata: Raw | None = None

    @classmethod
    def of(cls, lease: Lease) -> "LeaseAnswer":
        return cls(
            job_id=lease.job_id,
            token=lease.token,
            kind=lease.kind,
            queue=lease.queue,
            run=lease.run,
            attempt=lease.attempt,
            max_attempts=lease.max_attempts,
            priority=lease.priority,
            timeout_ms=lease.timeout_ms,
            available_at=lease.available_at,
            claimed_at=lease.claimed_at,
            args=Raw(lease.args.encode()),
            metadata=None if lease.metadata is None else Raw(lease.metadata.encode()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledAnswer:
    """An attempt was settled, now or by an earlier try of the same call."""

    job_id: UUID
    settled: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredAnswer:
    """A worker is registered."""

    worker_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """A lease that its worker is asked to give up."""

    job_id: UUID
    token: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAnswer:
    """The heartbeat counts; `cancel` names the attempts to stop."""

    cancel: tuple[StopRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthAnswer:
    """How a worker does: seconds since its last heartbeat, and the share of its capacity in use."""

    worker_id: UUID
    state: str
    suspect: bool
    silent_s: float
    load: float
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether all is well, in one word (`ok`, `degraded`, `critical`) and in sentences why not."""

    state: str
    reasons: tuple[str, ...]
    status: StatusView


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """How much waits in a queue, how fast it comes and goes, and how many workers serve it: for scalers that poll."""

    queue: str
    depth: int
    oldest_s: float
    arriving_per_s: float
    finishing_per_s: float
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedEntryAnswer:
    """An entry of the shared memory is gone."""

    namespace: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookAnswer:
    """What to do about the alerts of a rule, as Markdown."""

    rule: str
    markdown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedAnswer:
    """Whether a worker was changed; it was not when it was so already, or with a dry run."""

    worker_id: UUID
    changed: bool
    dry_run: bool
