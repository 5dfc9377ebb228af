"""The seam to what hands jobs to workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from perdure.domain.lease import Lease
from perdure.domain.rank import Band
from perdure.domain.worker import WorkerId
from perdure.ports.jobs import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a claimer may take: its queues, kinds and labels."""

    queues: tuple[str, ...]
    kinds: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimer:
    """Who claims: a process of a worker. An isolated one takes suspects alone."""

    worker_id: WorkerId
    process: int
    isolated: bool = False


class Dispatch(Protocol):
    """Answers what a worker may start next; never decides how a job ends."""

    async def announce(self, places: Sequence[Place]) -> None:
        """Make committed, available jobs known to waiting workers; a hint that may be lost or repeated."""
        ...

    async def claim(self, claimer: Claimer, scope: Scope, *, limit: int) -> Sequence[Lease]:
        """Lease up to `limit` jobs of the scope, best rank first, each to one claimer only.

        It gives fewer, or none, where it saw no more that may start; a claimer may then wait for the doorbell.

        Raises WorkerGone unless the worker's row says that it lives; one that drains gets none.
        """
        ...

    async def wait(self, timeout: timedelta) -> bool:
        """Sleep until a doorbell rings or the time is up; true when it rang."""
        ...

    async def release(self, worker_id: WorkerId) -> None:
        """Forget what dispatch keeps about a worker that has ended."""
        ...

    async def depths(self) -> Mapping[Band, int]:
        """Count the jobs waiting in each band; may lag behind the truth."""
        ...
