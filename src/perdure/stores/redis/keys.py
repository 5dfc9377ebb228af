"""The names of all keys in Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from perdure.domain.rank import Band

ANNOUNCED = (Band.HIGH, Band.MEDIUM, Band.LOW)
"""The bands that have lists; suspects are found by PostgreSQL alone."""

LOOK = "perdure:look"
"""Written by whoever looks whether a server that failed takes writes again; gone after a second."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one schema.

    The braces make Redis Cluster keep all keys of a schema together, as its scripts need.
    """

    schema: str

    @property
    def prefix(self) -> str:
        return f"perdure:{{{self.schema}}}:"

    @property
    def lanes(self) -> str:
        """The set of lanes that have ever been announced."""
        return f"{self.prefix}lanes"

    def waiting(self, lane: int, band: int) -> str:
        """The list of the jobs that wait in a lane and band, the best rank first."""
        return f"{self.prefix}lane:{lane}:{Band(band).name.lower()}"

    def doorbell(self, lane: int) -> str:
        """The list that idle claimers of a lane block on; an element is one ring."""
        return f"{self.prefix}lane:{lane}:doorbell"

    def doorbells(self, lanes: Sequence[int]) -> list[str]:
        return [self.doorbell(lane) for lane in lanes]

    def processes(self, worker_id: UUID) -> str:
        """The set of the processes of a worker that have a processing list."""
        return f"{self.prefix}worker:{worker_id}:processes"

    def processing(self, worker_id: UUID, process: int) -> str:
        """The list of what a process took last."""
        return f"{self.prefix}worker:{worker_id}:processing:{process}"
