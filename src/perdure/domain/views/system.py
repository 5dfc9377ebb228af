"""Views of queues, of workers, and of the system on one screen."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from perdure.domain.job import JobState
from perdure.domain.serving import Unserved
from perdure.domain.settlement import Outcome
from perdure.domain.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """How many jobs are in one state; above 100,000 an estimate."""

    state: JobState
    count: int
    approximate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """What waits of one kind with one set of labels; `workers` counts the active ones that serve it."""

    lane: int
    kind: str
    labels: tuple[str, ...]
    available: int
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A queue: its depths, who serves it, and what nobody serves (`unserved`: kinds with jobs that wait for nobody).

    With `approximate` a depth is at least what it says.
    """

    name: str
    paused_at: datetime | None
    paused_by: str
    depths: dict[JobState, int]
    oldest_available_at: datetime | None
    oldest_available_s: float | None
    lanes: tuple[LaneView, ...]
    kinds: tuple[str, ...]
    unserved: tuple[str, ...]
    workers: int
    approximate: bool = False

    @property
    def paused(self) -> bool:
        """Whether claims leave it out."""
        return self.paused_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker and how long it has been silent, by the database's clock; `deaf` processes hear no notifications."""

    worker: Worker
    load: float
    silent_s: float
    suspect: bool
    deaf: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderView:
    """Who leads the duties, in which term."""

    holder: UUID
    worker: str
    term: int
    elected_at: datetime
    expires_at: datetime
    leads: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RateView:
    """How many attempts ended in this way during the last minute."""

    outcome: Outcome
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    """The system on one screen. A part that did not come within the time budget is null, and `notes` names it.

    `halted` is why nothing may run: the database went back in time or was moved, and nobody has adopted it.
    """

    at: datetime | None
    counts: tuple[CountView, ...] | None
    last_minute: tuple[RateView, ...] | None
    oldest_available_s: float | None
    workers_active: int | None
    workers_draining: int | None
    workers_suspect: int | None
    workers_deaf: int | None = 0
    leader: LeaderView | None
    dead_letters: int | None
    dead_letters_approximate: bool
    queues_paused: tuple[str, ...] | None
    unserved: tuple[Unserved, ...] | None = ()
    oldest_transaction_s: float | None
    halted: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochView:
    """A time of the database that began with a break: nothing runs in it until it is adopted.

    `released` leases were void when it opened; `forgotten` jobs were remembered that the database did not have.
    """

    number: int
    opened_at: datetime
    opened_by: str
    cause: str
    released: int
    adopted_at: datetime | None
    adopted_by: str | None
    reason: str | None
    forgotten: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenView:
    """A job that somebody remembers: what the database lost of it, its enqueue or its success, and where it stands now."""

    job_id: UUID
    lost: str
    remembered_by: str
    told_at: datetime
    state: JobState | None
