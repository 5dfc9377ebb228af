"""What acts answer: what was done to each job, and a report of it all."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from perdure.domain.job import JobState
from perdure.domain.views.jobs import JobView


class ActOutcome(StrEnum):
    """What an act did to one job; DONE is for queues and workers."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    AVAILABLE = "available"
    SCHEDULED = "scheduled"
    DROPPED = "dropped"
    DONE = "done"
    UNCHANGED = "unchanged"
    ILLEGAL = "illegal"
    DUPLICATE = "duplicate"
    BLOCKED = "blocked"
    MISSING = "missing"
    MOVING = "moving"


CHANGES = frozenset(ActOutcome) - {
    ActOutcome.UNCHANGED,
    ActOutcome.ILLEGAL,
    ActOutcome.DUPLICATE,
    ActOutcome.BLOCKED,
    ActOutcome.MISSING,
    ActOutcome.MOVING,
}
"""The outcomes that changed something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What an act did to one job, and the state in which it found it.

    DUPLICATE: `holder` has its unique key. BLOCKED: it waits for parents that have not completed. MOVING: it changed
    its state faster than the act could follow; to be asked again.
    """

    job_id: UUID
    outcome: ActOutcome
    state: JobState | None = None
    holder: UUID | None = None
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActReport:
    """What a command did, or with `dry_run` would do: `matched` jobs by outcome, and some of them as a sample.

    `complete` is false when a limit ended it early; `finishes_in` is how long a replay with a rate goes on by itself.
    """

    verb: str
    actor: str
    reason: str
    dry_run: bool
    matched: int
    outcomes: dict[ActOutcome, int] = field(default_factory=dict)
    sample: tuple[JobView, ...] = ()
    acted: tuple[Acted, ...] = ()
    complete: bool = True
    note: str = ""
    finishes_in: timedelta | None = None

    @property
    def changed(self) -> int:
        """How many jobs were changed."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in CHANGES)
