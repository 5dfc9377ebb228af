"""The seams of the memory of executions: what is read of the history, what makes vectors, and what keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from perdure.domain.execution_memory import (
    EndedAttempt,
    ExecutionContext,
    Resolution,
    SimilarExecution,
    Wanted,
)

DIMENSIONS = 384


class Embedder(Protocol):
    """Makes vectors of texts: the same text gives the same vector, of 384 numbers and of length 1."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Changes with every change of the vectors that it makes."""
        ...

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text; takes its time, and may be called from any thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Up to where history is complete: no transaction before `ends` can still commit. `era` changes with a restore."""

    installation: UUID
    era: int
    ends: int
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Up to which attempt the history has been remembered in a collection."""

    position: int
    token: UUID
    remembered: int = 0
    updated_at: datetime | None = None


class EndedAttempts(Protocol):
    """The history as something that is read once from its beginning to its end, in the order of its transactions."""

    async def horizon(self) -> Horizon:
        """Up to where it may be read now."""
        ...

    async def cursor(self, collection: str, era: int) -> Cursor | None:
        """Where reading went on to, or None when it never began, or began before a restore."""
        ...

    async def advance(self, collection: str, era: int, cursor: Cursor, *, first: bool) -> None:
        """Go on from here the next time, never backwards within an era.

        Unless this is the `first` step from the beginning, a cursor that was taken away meanwhile stays away.
        """
        ...

    async def begin_again(self, collection: str) -> None:
        """Read the history from its beginning."""
        ...

    async def after(self, cursor: Cursor, ends: int, *, sample: float, limit: int) -> Sequence[EndedAttempt]:
        """The next attempts that ended: all that did not complete, those that completed after others had not, and of the rest a share."""
        ...

    async def behind(
        self, cursor: Cursor, ends: int, *, sample: float, most: int
    ) -> tuple[int, datetime | None]:
        """How many attempts are left to be read, at most so many, and when the first of them ended."""
        ...

    async def of_job(self, job_id: UUID) -> Sequence[EndedAttempt]:
        """The attempts of one job, the newest first."""
        ...

    async def resolved(self, job_ids: Sequence[UUID]) -> Sequence[tuple[Sequence[UUID], Resolution]]:
        """For jobs that completed: the tokens of their attempts that had not, and what fixed them."""
        ...


class ExecutionVectors(Protocol):
    """Keeps execution contexts by their vectors, in a collection; every error is MemoryUnavailable."""

    @property
    def place(self) -> str:
        """Where it is, without secrets."""
        ...

    async def prepare(self, collection: str) -> bool:
        """Have the collection be there; true when it was made just now and so is empty."""
        ...

    async def keep(
        self, collection: str, contexts: Sequence[tuple[ExecutionContext, Sequence[float]]]
    ) -> None:
        """Keep contexts with their vectors, over those of the same attempts."""
        ...

    async def mark_resolved(
        self, collection: str, resolved: Sequence[tuple[Sequence[UUID], Resolution]]
    ) -> None:
        """Note what fixed these attempts; those that are not kept are passed over."""
        ...

    async def nearest(
        self, collection: str, vector: Sequence[float], wanted: Wanted, *, limit: int
    ) -> Sequence[SimilarExecution]:
        """The contexts whose vectors are nearest, the nearest first."""
        ...

    async def of_job(self, collection: str, job_id: UUID, *, limit: int) -> Sequence[ExecutionContext]:
        """The contexts kept of one job."""
        ...

    async def count(self, collection: str) -> int:
        """How many contexts there are; 0 when there is no such collection."""
        ...

    async def forget_before(self, collection: str, moment: datetime) -> None:
        """Forget contexts of attempts that ended earlier."""
        ...

    async def drop(self, collection: str) -> None:
        """Forget all."""
        ...
