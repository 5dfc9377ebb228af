"""The seam to the upkeep of the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionChanges:
    """Which day partitions were made or dropped; by name, why others were kept on purpose or could not be changed yet."""

    done: Sequence[str]
    kept: Mapping[str, str] = field(default_factory=dict)
    postponed: Mapping[str, str] = field(default_factory=dict)


class Keeping(Protocol):
    """The upkeep of the tables; harmless while all others work, and when two do it at once.

    A sweep deletes up to `limit` rows that nobody needs and gives their number; fewer than that, and none is left.
    """

    async def make_partitions(self, *, ahead_days: int) -> PartitionChanges:
        """Make the day partitions of the next days, and move to them what had to go elsewhere for want of them."""
        ...

    async def drop_partitions(self, *, older_than: timedelta) -> PartitionChanges:
        """Drop days of bodies and of history whose jobs have all ended longer ago and that nothing needs any more."""
        ...

    async def sweep_edges(self, *, limit: int) -> int:
        """Edges whose child or parent has no body any more."""
        ...

    async def sweep_unique_keys(self, *, limit: int) -> int:
        """Unique keys that have run out, or whose job has left the states that they count."""
        ...

    async def sweep_cancel_requests(self, *, limit: int) -> int:
        """Requests to cancel jobs that have ended."""
        ...

    async def sweep_progress(self, *, limit: int) -> int:
        """Reports of progress of jobs that do not run any more."""
        ...

    async def sweep_shared_memory(self, *, limit: int) -> int:
        """Entries of the shared memory that have run out."""
        ...

    async def forget_workers(self, *, older_than: timedelta) -> int:
        """Delete the rows of workers that ended longer ago and hold nothing."""
        ...

    async def vacuum(self) -> Sequence[str]:
        """Clear small hot tables of dead rows where these prevail, and name them."""
        ...
