"""Restores in place: what can have become of a job since a cut, and what is done about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from perdure.domain.errors import InvalidOption
from perdure.domain.job import JobState


class Circumstance(StrEnum):
    """How a job stood at the cut, and how it stands now."""

    COMPLETED_SINCE = "completed_since"
    FAILED_SINCE = "failed_since"
    CANCELLED_SINCE = "cancelled_since"
    RUNNING_NOW = "running_now"
    CREATED_SINCE = "created_since"
    REOPENED_SINCE = "reopened_since"
    SAME_LEASE = "same_lease"
    STILL_LIVE = "still_live"
    STARTED_SINCE = "started_since"
    STARTED_AGAIN = "started_again"
    ENDED = "ended"


class Action(StrEnum):
    """What a restore does with a job."""

    KEEP = "keep"
    LEAVE = "leave"
    REQUEUE = "requeue"
    RERUN = "rerun"
    DRAIN = "drain"
    FENCE = "fence"
    CANCEL = "cancel"
    END = "end"


MEANINGS: Mapping[Circumstance, str] = {
    Circumstance.COMPLETED_SINCE: "was live, has completed since",
    Circumstance.FAILED_SINCE: "was live, has been discarded since",
    Circumstance.CANCELLED_SINCE: "was live, has been cancelled since",
    Circumstance.RUNNING_NOW: "was live, runs now",
    Circumstance.CREATED_SINCE: "was not there, waits and has never started",
    Circumstance.REOPENED_SINCE: "had ended, waits in a new run",
    Circumstance.SAME_LEASE: "ran, and still does under the same lease",
    Circumstance.STILL_LIVE: "was live, and waits",
    Circumstance.STARTED_SINCE: "was not there, has started or ended since",
    Circumstance.STARTED_AGAIN: "had ended, runs in a new run",
    Circumstance.ENDED: "had ended, and has",
}

CHOICES: Mapping[Circumstance, tuple[Action, ...]] = {
    Circumstance.COMPLETED_SINCE: (Action.KEEP, Action.RERUN),
    Circumstance.FAILED_SINCE: (Action.REQUEUE, Action.KEEP),
    Circumstance.CANCELLED_SINCE: (Action.REQUEUE, Action.KEEP),
    Circumstance.RUNNING_NOW: (Action.DRAIN, Action.FENCE, Action.LEAVE),
    Circumstance.CREATED_SINCE: (Action.KEEP, Action.CANCEL),
    Circumstance.REOPENED_SINCE: (Action.KEEP, Action.END),
}
"""What can be chosen in each circumstance, the default first; in all others nothing is done."""

_MERGE = {circumstance: choices[0] for circumstance, choices in CHOICES.items()}
_SKIP = {**dict.fromkeys(CHOICES, Action.KEEP), Circumstance.RUNNING_NOW: Action.LEAVE}
_OVERWRITE = {
    Circumstance.COMPLETED_SINCE: Action.RERUN,
    Circumstance.FAILED_SINCE: Action.REQUEUE,
    Circumstance.CANCELLED_SINCE: Action.REQUEUE,
    Circumstance.RUNNING_NOW: Action.FENCE,
    Circumstance.CREATED_SINCE: Action.CANCEL,
    Circumstance.REOPENED_SINCE: Action.END,
}
POLICIES: Mapping[str, Mapping[Circumstance, Action]] = {
    "merge": _MERGE,
    "skip": _SKIP,
    "overwrite": _OVERWRITE,
}
UNDOING = {**_MERGE, Circumstance.REOPENED_SINCE: Action.END, Circumstance.COMPLETED_SINCE: Action.RERUN}
"""How a restore is undone: what it opened and still waits ends as before, what it ended comes back, all else stays."""

WRITTEN = (Action.CANCEL, Action.END, Action.RERUN, Action.REQUEUE)
"""What changes jobs that do not run, in the order in which it is done: what lets unique keys go comes first."""


class Phase(StrEnum):
    """How far a restore has come. BROKEN: a promise does not hold, and the lanes are still held."""

    PLANNED = "planned"
    HOLDING = "holding"
    DRAINING = "draining"
    FENCING = "fencing"
    WRITING = "writing"
    CHECKING = "checking"
    DONE = "done"
    REFUSED = "refused"
    BROKEN = "broken"
    RELEASED = "released"
    ABANDONED = "abandoned"


UNDER_WAY = frozenset({Phase.HOLDING, Phase.DRAINING, Phase.FENCING, Phase.WRITING, Phase.CHECKING})


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreScope:
    """Which jobs a restore is about: everything, queues, kinds, or the dependency graph of one job."""

    queues: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    graph: UUID | None = None

    def __post_init__(self) -> None:
        if self.graph is not None and (self.queues or self.kinds):
            raise InvalidOption("graph", "cannot be combined with queues or kinds")


EVERYTHING = RestoreScope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """What is done with jobs that things have happened to since the cut.

    `policy` is merge (the defaults), skip (all stays as it is) or overwrite (as at the cut); `choices` differ from it.
    Completed work is done again only for the kinds in `rerun`, whose handlers must bear it.
    """

    policy: str = "merge"
    choices: Mapping[str, str] = field(default_factory=dict)
    rerun: tuple[str, ...] = ()

    def actions(self) -> dict[Circumstance, Action]:
        """What to do in each circumstance. Raises InvalidOption."""
        if self.policy not in POLICIES:
            raise InvalidOption(
                "policy", f"there is no policy {self.policy!r}", next_step=f"one of {', '.join(POLICIES)}"
            )
        actions = dict(POLICIES[self.policy])
        for word, choice in self.choices.items():
            circumstance, action = _chosen(word, choice)
            actions[circumstance] = action
        if self.rerun:
            actions[Circumstance.COMPLETED_SINCE] = Action.RERUN
        return actions


def _chosen(word: str, choice: str) -> tuple[Circumstance, Action]:
    known = ", ".join(f"{name}={'|'.join(choices)}" for name, choices in CHOICES.items())
    try:
        circumstance, action = Circumstance(word), Action(choice)
    except ValueError:
        raise InvalidOption("choices", f"{word}={choice} is not known", next_step=known) from None
    if action not in CHOICES.get(circumstance, ()):
        raise InvalidOption("choices", f"{word} cannot be met with {choice}", next_step=known)
    return circumstance, action


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOf:
    """The cut that a restore goes back to; `source` says in words where it comes from."""

    at: datetime
    cut: str
    newest: UUID
    open_since: datetime
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCount:
    """So many jobs are in one circumstance and are dealt with in one way; `sample` are the first twenty."""

    circumstance: Circumstance
    action: Action
    jobs: int
    sample: tuple[UUID, ...] = ()
    outcome: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """A plan, and what has become of it.

    `cases` counts every job of the scope as it stood when the plan was last drawn; `outcomes` only those that are
    changed, by what came of it: `done`, `to do`, or why not.
    """

    id: UUID
    phase: Phase
    digest: str
    at: datetime
    source: str
    scope: Mapping[str, object]
    policy: Mapping[str, str]
    rerun: tuple[str, ...]
    actor: str
    reason: str
    planned_at: datetime
    begun_at: datetime | None
    drain_by: datetime | None
    before_at: datetime | None
    ended_at: datetime | None
    now: datetime
    tolerance: int
    undoes: UUID | None
    holds: bool
    report: str
    cases: tuple[CaseCount, ...]
    outcomes: tuple[CaseCount, ...]

    @property
    def changes(self) -> int:
        """How many jobs it changes."""
        return sum(case.jobs for case in self.outcomes)

    @property
    def conflicts(self) -> Sequence[CaseCount]:
        """What could not be done."""
        return [case for case in self.outcomes if case.outcome not in {"done", "fenced", "to do"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreItem:
    """One job that a restore changes."""

    job_id: UUID
    circumstance: Circumstance
    action: Action
    outcome: str
    state_then: JobState | None
    state_now: JobState
