"""What is known of a living worker beside its samples, and which of several suits a need best."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from perdure.domain.worker import Worker, WorkerState

HEALTH_MIN = 0.7
LOAD_MAX = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """A living worker: its age, whether it misses heartbeats, whether it counts as healthy, its share and its last ten scores, oldest first."""

    worker: Worker
    at: datetime
    age: timedelta
    suspect: bool
    healthy: bool
    share: float
    scores: tuple[float, ...]

    @property
    def health(self) -> float:
        """The newest score; 1.0 while there is none, at most 0.3 for a suspect."""
        newest = self.scores[-1] if self.scores else 1.0
        return min(newest, 0.3) if self.suspect else newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What a worker must have: health, room, and the capabilities that a job asks for."""

    health_min: float = HEALTH_MIN
    load_max: float = LOAD_MAX
    queue: str | None = None
    kind: str | None = None
    labels: frozenset[str] = frozenset()

    def fits(self, one: Vitals) -> bool:
        """Whether a worker takes new work, is well and free enough, and has what is asked for."""
        worker = one.worker
        return (
            worker.state is WorkerState.ACTIVE
            and not (worker.cordoned or one.suspect or one.share == 0)
            and one.health >= self.health_min
            and worker.load <= self.load_max
            and (self.queue is None or self.queue in worker.queues)
            and (self.kind is None or self.kind in worker.kinds)
            and self.labels <= set(worker.labels)
        )


def best(workers: Iterable[Vitals], criteria: Criteria) -> Vitals | None:
    """The healthiest of those that fit, of equally healthy ones the least loaded; None when none fits."""
    fitting = [one for one in workers if criteria.fits(one)]
    return min(fitting, key=lambda one: (-one.health, one.worker.load, one.worker.id), default=None)
