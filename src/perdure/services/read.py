"""Reading: every question that a face may ask, each with a moment, a filter and a time budget."""

from datetime import datetime, timedelta
from uuid import UUID

from perdure.domain.errors import InvalidOption, NotFound
from perdure.domain.filters import Filter, parse
from perdure.domain.views import (
    CountView,
    DeadLetterPage,
    Explanation,
    GroupView,
    JobDetail,
    JobPage,
    QueueView,
    ResultView,
    StatusView,
    WorkerView,
)
from perdure.ports import Insights

BUDGET = timedelta(seconds=2)
LIMIT_MAX = 1_000


class Read:
    """Answers questions and changes nothing.

    `as_of` is for looking back in time and is refused in this version. `budget` bounds the work of the database:
    pages that run out of it come back partial with a note, other questions raise DatabaseUnavailable.
    """

    def __init__(self, insights: Insights) -> None:
        self._insights = insights

    async def jobs(
        self,
        filter: str | Filter = "",
        *,
        limit: int = 50,
        cursor: str | None = None,
        as_of: datetime | None = None,
        budget: timedelta = BUDGET,
    ) -> JobPage:
        """The jobs that match, the newest first. Raises InvalidFilter."""
        raise NotImplementedError

    async def job(
        self, job_id: UUID, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> JobDetail:
        """One job in full. Raises NotFound."""
        raise NotImplementedError

    async def explain(
        self, job_id: UUID, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> Explanation:
        """Why the job is not running, in sentences. Raises NotFound."""
        raise NotImplementedError

    async def result_of(self, job_id: UUID) -> ResultView | None:
        """Where the job stands and its result, in one cheap query; None when there is no such job."""
        raise NotImplementedError

    async def counts(
        self, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> tuple[CountView, ...]:
        """How many jobs are in each state; above 100,000 estimated and marked as such."""
        raise NotImplementedError

    async def queues(
        self, name: str | None = None, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> tuple[QueueView, ...]:
        """All queues, or the one of that name. Raises NotFound for an unknown name."""
        raise NotImplementedError

    async def workers(
        self, *, alive_only: bool = False, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> tuple[WorkerView, ...]:
        """The workers, the newest first."""
        raise NotImplementedError

    async def worker(
        self, key: str | UUID, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> WorkerView:
        """The worker of that id or name; of several with one name the newest. Raises NotFound."""
        raise NotImplementedError

    async def groups(
        self,
        filter: str | Filter = "",
        *,
        limit: int = 50,
        as_of: datetime | None = None,
        budget: timedelta = BUDGET,
    ) -> tuple[GroupView, ...]:
        """The dead letters by cause, the largest group first. Raises InvalidFilter."""
        raise NotImplementedError

    async def dead_letters(
        self,
        filter: str | Filter = "",
        *,
        limit: int = 50,
        cursor: str | None = None,
        as_of: datetime | None = None,
        budget: timedelta = BUDGET,
    ) -> DeadLetterPage:
        """The dead letters that match, the newest first; `since` and `until` mean when they died."""
        raise NotImplementedError

    async def status(self, *, as_of: datetime | None = None, budget: timedelta = BUDGET) -> StatusView:
        """The system on one screen; never raises for a part that is slow."""
        raise NotImplementedError
