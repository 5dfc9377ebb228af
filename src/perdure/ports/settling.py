"""The seam between what runs attempts and what settles them."""

from typing import Protocol
from uuid import UUID

from perdure.domain.lease import Lease
from perdure.domain.settlement import Ending


class Settler(Protocol):
    """Takes attempts that have ended."""

    def add(self, lease: Lease, ending: Ending, started: float | None, finished: float) -> None:
        """Take an attempt that has ended; `started` and `finished` are of the monotonic clock."""
        ...

    async def room(self) -> None:
        """Wait until another attempt may start."""
        ...

    async def emptied(self) -> None:
        """Wait until everything is settled."""
        ...

    @property
    def tokens(self) -> set[UUID]:
        """The leases whose attempts have ended and are not settled yet."""
        ...
