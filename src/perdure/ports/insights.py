"""The seam through which faces read."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.criteria import Criteria
from perdure.domain.explain import Facts
from perdure.domain.views import (
    CountView,
    DeadLetterPage,
    GroupView,
    JobDetail,
    JobPage,
    QueueView,
    ResultView,
    StatusView,
    WorkerView,
)


class Insights(Protocol):
    """Reads for faces; changes nothing, and stops within the budget given.

    Pages come back partial with a note when the budget is used up; other questions raise DatabaseUnavailable.
    """

    async def jobs(self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta) -> JobPage:
        """The jobs that match, the newest first, from the cursor on. Raises InvalidOption for a bad cursor."""
        ...

    async def job(self, job_id: UUID, *, budget: timedelta) -> JobDetail | None:
        """One job in full."""
        ...

    async def facts(self, job_id: UUID, *, budget: timedelta) -> Facts | None:
        """What decides whether one job may start."""
        ...

    async def result_of(self, job_id: UUID) -> ResultView | None:
        """Where one job stands, with its result or its error, in one cheap query."""
        ...

    async def counts(self, *, budget: timedelta) -> Sequence[CountView]:
        """How many jobs are in each state."""
        ...

    async def queues(self, name: str | None, *, budget: timedelta) -> Sequence[QueueView]:
        """All queues, or the one of that name."""
        ...

    async def workers(
        self, *, alive_only: bool, key: str | None = None, budget: timedelta
    ) -> Sequence[WorkerView]:
        """The workers, the newest first; with `key` those of that id or name."""
        ...

    async def groups(self, criteria: Criteria, *, limit: int, budget: timedelta) -> Sequence[GroupView]:
        """The dead letters by cause, the largest group first."""
        ...

    async def letters(
        self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta
    ) -> DeadLetterPage:
        """The dead letters that match, the newest first, from the cursor on."""
        ...

    async def status(self, *, budget: timedelta) -> StatusView:
        """The system on one screen; parts that do not come in time are left out and named."""
        ...
