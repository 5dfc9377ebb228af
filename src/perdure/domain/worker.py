"""A worker: one supervisor with its processes, and one row in the database."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from uuid import UUID

WorkerId = NewType("WorkerId", UUID)


class WorkerState(StrEnum):
    """What a worker is doing, as its row says."""

    ACTIVE = "active"
    DRAINING = "draining"
    STOPPED = "stopped"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorker:
    """A worker as it registers itself."""

    id: WorkerId
    name: str
    host: str
    pid: int
    type: str = "standard"
    queues: tuple[str, ...] = ("default",)
    kinds: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    capacity: int = 1
    processes: int = 1
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as the database knows it; a cordoned one takes nothing new; `load` is the share of its capacity that leases fill."""

    id: WorkerId
    name: str
    host: str
    pid: int
    type: str
    state: WorkerState
    queues: tuple[str, ...]
    kinds: tuple[str, ...]
    labels: tuple[str, ...]
    capacity: int
    processes: int
    version: str
    running: int
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None = None
    cause: str = ""
    cordoned: bool = False

    @property
    def load(self) -> float:
        return self.running / self.capacity if self.capacity else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a heartbeat brings back: the worker's own state and the leases it is asked to stop.

    A `cordoned` worker takes nothing new. `grace` is the time that an evacuated one has left to hand over what it runs.
    `share` is the part of its slots that it may fill, by its health; 0 takes nothing new.
    `gap` is the time since the heartbeat before, by the database's clock; negative when that was set back.
    """

    state: WorkerState
    gap: timedelta = timedelta(0)
    cancel: tuple[tuple[UUID, UUID], ...] = field(default=())
    cordoned: bool = False
    grace: timedelta | None = None
    share: float = 1.0
