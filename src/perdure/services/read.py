"""Reading: every question that a face may ask, each with a moment, a filter and a time budget."""

from datetime import datetime, timedelta
from uuid import UUID

from perdure.domain.criteria import Criteria, compile_filter
from perdure.domain.errors import InvalidOption, NotFound
from perdure.domain.explain import Explanation, explain
from perdure.domain.filters import Filter, parse
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
from perdure.ports import Insights
from perdure.state_ports import Past

BUDGET = timedelta(seconds=2)
BUDGET_MAX = timedelta(minutes=5)
LIMIT_MAX = 1_000


class Read:
    """Answers questions and changes nothing.

    `as_of` asks how it was at a moment: the answer is of the last moment remembered until then, at most seconds older, and of
    all transactions that had committed; PastUnknown tells the earliest that can be asked for. `budget` bounds the work
    of the database: pages that run out of it come back partial with a note, other questions raise DatabaseUnavailable.
    """

    def __init__(self, insights: Insights, past: Past) -> None:
        self._insights = insights
        self._past = past

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
        _check(budget, limit)
        return await (await self._at(as_of)).jobs(
            _criteria(filter), limit=limit, before=cursor, budget=budget
        )

    async def job(
        self, job_id: UUID, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> JobDetail:
        """One job in full. Raises NotFound."""
        _check(budget)
        detail = await (await self._at(as_of)).job(job_id, budget=budget)
        if detail is None:
            raise _no_job(job_id)
        return detail

    async def explain(
        self, job_id: UUID, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> Explanation:
        """Why the job is not running, in sentences. Raises NotFound."""
        _check(budget)
        if as_of is not None:
            raise InvalidOption(
                "as_of",
                "why a job did not run in the past is not told",
                next_step="look at the job itself as of then",
            )
        facts = await self._insights.facts(job_id, budget=budget)
        if facts is None:
            raise _no_job(job_id)
        return explain(facts)

    async def result_of(self, job_id: UUID) -> ResultView | None:
        """Where the job stands and its result, in one cheap query; None when there is no such job."""
        return await self._insights.result_of(job_id)

    async def counts(
        self, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> tuple[CountView, ...]:
        """How many jobs are in each state; above 100,000 estimated and marked as such."""
        _check(budget)
        return tuple(await (await self._at(as_of)).counts(budget=budget))

    async def queues(
        self, name: str | None = None, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> tuple[QueueView, ...]:
        """All queues, or the one of that name. Raises NotFound for an unknown name."""
        _check(budget)
        queues = tuple(await (await self._at(as_of)).queues(_plain(name, "queue"), budget=budget))
        if name is not None and not queues:
            raise NotFound("queue", name, next_step="see `perdure queue list`")
        return queues

    async def workers(
        self, *, alive_only: bool = False, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> tuple[WorkerView, ...]:
        """The workers, the newest first."""
        _check(budget)
        return tuple(await (await self._at(as_of)).workers(alive_only=alive_only, budget=budget))

    async def worker(
        self, key: str | UUID, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> WorkerView:
        """The worker of that id or name; of several with one name the newest. Raises NotFound."""
        _check(budget)
        found = await (await self._at(as_of)).workers(
            alive_only=False, key=_plain(str(key), "worker"), budget=budget
        )
        if not found:
            raise NotFound("worker", key, next_step="see `perdure worker list`")
        return found[0]

    async def groups(
        self,
        filter: str | Filter = "",
        *,
        limit: int = 50,
        as_of: datetime | None = None,
        budget: timedelta = BUDGET,
    ) -> tuple[GroupView, ...]:
        """The dead letters by cause, the largest group first. Raises InvalidFilter."""
        _check(budget, limit)
        return tuple(await (await self._at(as_of)).groups(_criteria(filter), limit=limit, budget=budget))

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
        _check(budget, limit)
        return await (await self._at(as_of)).letters(
            _criteria(filter), limit=limit, before=cursor, budget=budget
        )

    async def status(self, *, as_of: datetime | None = None, budget: timedelta = BUDGET) -> StatusView:
        """The system on one screen; never raises for a part that is slow."""
        _check(budget)
        return await (await self._at(as_of)).status(budget=budget)

    async def _at(self, as_of: datetime | None) -> Insights:
        if as_of is None:
            return self._insights
        if as_of.utcoffset() is None:
            raise InvalidOption(
                "as_of", "a moment needs its time zone", next_step="such as datetime.now(UTC)"
            )
        return await self._past.at(as_of)


def _criteria(filter: str | Filter) -> Criteria:
    return compile_filter(parse(filter) if isinstance(filter, str) else filter)


def _check(budget: timedelta, limit: int = 1) -> None:
    if not timedelta(0) < budget <= BUDGET_MAX:
        raise InvalidOption("budget", f"must be above zero and at most {BUDGET_MAX}")
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidOption(
            "limit",
            f"{limit} is outside 1 to {LIMIT_MAX}",
            next_step="ask for some, and go on from where they end with the cursor",
        )


def _plain(text: str | None, field: str) -> str | None:
    if text is not None and "\0" in text:
        raise InvalidOption(field, "contains a NUL character, which no text in the database can have")
    return text


def _no_job(job_id: UUID) -> NotFound:
    return NotFound("job", job_id, next_step="it may have been pruned; see `perdure job list`")
