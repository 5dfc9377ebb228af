"""What a handler may know and say while it runs."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from perdure.domain.errors import InvalidOption


class Line(Protocol):
    """How a context reaches the process that runs its attempt; handlers in other processes have a line of their own."""

    def is_cancelled(self) -> bool:
        """Whether someone has asked the attempt to stop."""
        ...

    async def progress(self, fraction: float, note: str) -> None:
        """Let others see how far the attempt is; a report may be lost or overtaken."""
        ...

    def progress_sync(self, fraction: float, note: str) -> None:
        """As `progress`, from a thread or process of its own."""
        ...

    async def complete(self, conn: object, result: object) -> None:
        """Settle the attempt inside the caller's transaction, or raise `ClaimLost`."""
        ...

    def complete_sync(self, conn: object, result: object) -> None:
        """As `complete`, from a thread or process of its own."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a handler gets that annotates a parameter with this class; `attempt` counts from 1."""

    job_id: UUID
    kind: str
    queue: str
    attempt: int
    max_attempts: int
    deadline: datetime | None
    line: Line = field(repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether someone has asked the attempt to stop; a handler that looks may end early and tidily."""
        return self.line.is_cancelled()

    async def progress(self, fraction: float, note: str = "") -> None:
        """Show how far the attempt is, from 0 to 1; only the newest report is kept."""
        await self.line.progress(_checked_fraction(fraction), note)

    def progress_sync(self, fraction: float, note: str = "") -> None:
        """As `progress`, for handlers that are not async."""
        self.line.progress_sync(_checked_fraction(fraction), note)

    async def complete(self, conn: object, result: object = None) -> None:
        """Settle the job inside the transaction of `conn`, so that its effects there happen exactly once.

        Raises `ClaimLost` when another worker owns the job by now: let it roll the transaction back.
        What the handler returns afterwards is ignored. Call it last, and commit at once: until then the lease and
        what waits for this job are locked, and others that would settle them wait.
        """
        await self.line.complete(conn, result)

    def complete_sync(self, conn: object, result: object = None) -> None:
        """As `complete`, for handlers that are not async."""
        self.line.complete_sync(conn, result)


def _checked_fraction(fraction: float) -> float:
    if not 0 <= fraction <= 1:
        raise InvalidOption("fraction", f"{fraction!r} is outside 0 to 1")
    return float(fraction)
