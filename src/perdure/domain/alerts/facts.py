"""What alerts are judged by: one record of how things stand and of what happened lately."""

from dataclasses import dataclass, field
from datetime import timedelta

WAIT_TARGET_S = 60.0
"""A job should start within this time; one of the bounds in which waits are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """One queue now; the rates are jobs per second over the last 15 minutes."""

    name: str
    available: int = 0
    oldest_s: float = 0.0
    workers: int = 0
    paused: bool = False
    arriving: float = 0.0
    finishing: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """Attempts of one kind that ended in the last 10 minutes; released and interrupted ones are left out."""

    kind: str
    ended: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Attempts that ended in the last `span`, and those among them that had waited longer than the target."""

    span: timedelta
    started: int = 0
    late: int = 0

    @property
    def late_share(self) -> float:
        """The part that started late, 0 to 1."""
        return self.late / self.started if self.started else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """Rows of a table as the server estimates them."""

    name: str
    dead: int = 0
    live: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How things stand; the counts of attempts, jobs and dead letters are of the last 10 minutes unless they say otherwise.

    `held`: jobs that wait for a dead letter. `new_errors`: fingerprints that first came within the hour, with how often they
    came in their first 10 minutes. `short_lives`: hosts with the workers that died in the last 15 minutes and had lived
    less than five. `risks`: workers with the probability that they fail within the horizon. `stores_down`: stores beside
    PostgreSQL that are set up and do not answer.
    """

    queues: tuple[QueueFacts, ...] = ()
    kinds: tuple[KindFacts, ...] = ()
    waits: tuple[Waits, ...] = ()
    tables: tuple[TableFacts, ...] = ()
    attempts: int = 0
    failed: int = 0
    finished: int = 0
    died: int = 0
    died_15m: int = 0
    refused: int = 0
    dead_letters: int = 0
    oldest_letter_s: float = 0.0
    workers: int = 0
    workers_lost: int = 0
    heartbeat_age_s: float = 0.0
    busy: int = 0
    slots: int = 0
    deaf: int = 0
    unserved: int = 0
    overdue: int = 0
    evacuation_late_s: float = 0.0
    snapshot_late_s: float = 0.0
    snapshot_verified_age_s: float = 0.0
    restores_failed: int = 0
    held: int = 0
    new_errors: tuple[tuple[str, int], ...] = ()
    short_lives: tuple[tuple[str, int], ...] = ()
    risks: tuple[tuple[str, float], ...] = ()
    calibration_error: float | None = None
    embedding_backlog: int = 0
    stores_down: frozenset[str] = frozenset()
    oldest_transaction_s: float = 0.0
    connections: int = 0
    connections_max: int = 0
    leaders: int = 1
    postgres_up: bool = True
    exported: bool = True
    failing_channels: tuple[str, ...] = field(default=())

    @property
    def available(self) -> int:
        """Jobs that may start now."""
        return sum(queue.available for queue in self.queues)

    def late_share(self, span: timedelta) -> float:
        """The part of the attempts of a span that started late; 0 where nothing started."""
        return next((waits.late_share for waits in self.waits if waits.span == span), 0.0)
