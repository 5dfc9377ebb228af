"""The seam to the lineage of the database: whether it still is the one that was seen."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from perdure.domain.lineage import Memory, Sighting


class Lineage(Protocol):
    """What a database says of its own past."""

    async def look(
        self, memory: Memory | None, *, marking: bool, begin_anew: bool = False, promised: Sequence[UUID] = ()
    ) -> Sighting:
        """One look; with `marking` a mark is made, at most one a second, and `begin_anew` begins a stretch of its own."""
        ...

    async def halt(self, *, seen: int, why: str, opener: str) -> int:
        """Open the epoch after `seen` unless somebody has; nothing runs in it until it is adopted. Gives its number.

        The workers of before are dead by their rows, and their leases are given back.
        """
        ...

    async def tell_forgotten(
        self, epoch: int, *, teller: str, enqueued: Sequence[UUID] = (), succeeded: Sequence[UUID] = ()
    ) -> int:
        """Keep those ids that the database does not know, or not as succeeded; gives how many.

        Nothing is kept unless an epoch has opened since `epoch`.
        """
        ...
