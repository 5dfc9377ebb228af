"""Moving jobs away from a worker: what it holds and who can take it over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from perdure.domain.worker import Worker, WorkerId, WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Jobs that a worker holds and that need the same of whoever takes them over."""

    queue: str
    kind: str
    labels: tuple[str, ...]
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Jobs to be moved, and the names of the workers that may take them; with none they wait for one."""

    queue: str
    kind: str
    labels: tuple[str, ...]
    jobs: int
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evacuation:
    """An evacuation as it was asked for, or with `dry_run` would be; `changed` is false when it was under way already."""

    worker_id: UUID
    worker: str
    grace: timedelta
    dry_run: bool
    changed: bool
    moves: tuple[Move, ...] = ()

    @property
    def jobs(self) -> int:
        return sum(move.jobs for move in self.moves)

    @property
    def stranded(self) -> int:
        """Jobs that no other worker serves just now."""
        return sum(move.jobs for move in self.moves if not move.destinations)


def takes(worker: Worker, holding: Holding) -> bool:
    """Whether a worker may take such jobs: it serves their queue, knows their kind, has their labels, and takes new work."""
    return (
        worker.state is WorkerState.ACTIVE
        and not worker.cordoned
        and holding.queue in worker.queues
        and holding.kind in worker.kinds
        and set(holding.labels) <= set(worker.labels)
    )


def moves(holdings: Sequence[Holding], workers: Sequence[Worker], *, away_from: WorkerId) -> tuple[Move, ...]:
    """Where each of the holdings may go, the emptiest worker first."""
    others = sorted((one for one in workers if one.id != away_from), key=lambda one: (one.load, one.name))
    return tuple(
        Move(
            queue=holding.queue,
            kind=holding.kind,
            labels=holding.labels,
            jobs=holding.jobs,
            destinations=tuple(one.name for one in others if takes(one, holding)),
        )
        for holding in holdings
    )
