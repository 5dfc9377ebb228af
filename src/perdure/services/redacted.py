"""Reads of which no face shows more than it may: values under telling names and passwords in texts are hidden."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from perdure.domain.criteria import Criteria
from perdure.domain.explain import Facts
from perdure.domain.redaction import Redaction
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


class RedactedInsights:
    """The port `Insights` before every face. The result that a program waits for itself is given as it is."""

    def __init__(self, insights: Insights, redaction: Redaction) -> None:
        self._insights = insights
        self._redaction = redaction

    async def jobs(self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta) -> JobPage:
        page = await self._insights.jobs(criteria, limit=limit, before=before, budget=budget)
        return replace(page, jobs=tuple(map(self._redaction.of_job, page.jobs)))

    async def job(self, job_id: UUID, *, budget: timedelta) -> JobDetail | None:
        detail = await self._insights.job(job_id, budget=budget)
        return None if detail is None else self._redaction.of_detail(detail)

    async def facts(self, job_id: UUID, *, budget: timedelta) -> Facts | None:
        return await self._insights.facts(job_id, budget=budget)

    async def result_of(self, job_id: UUID) -> ResultView | None:
        return await self._insights.result_of(job_id)

    async def counts(self, *, budget: timedelta) -> Sequence[CountView]:
        return await self._insights.counts(budget=budget)

    async def queues(self, name: str | None, *, budget: timedelta) -> Sequence[QueueView]:
        return await self._insights.queues(name, budget=budget)

    async def workers(
        self, *, alive_only: bool, key: str | None = None, budget: timedelta
    ) -> Sequence[WorkerView]:
        return await self._insights.workers(alive_only=alive_only, key=key, budget=budget)

    async def groups(self, criteria: Criteria, *, limit: int, budget: timedelta) -> Sequence[GroupView]:
        groups = await self._insights.groups(criteria, limit=limit, budget=budget)
        of = self._redaction
        return [replace(one, cause=of.of_text(one.cause), error=of.of_error(one.error)) for one in groups]

    async def letters(
        self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta
    ) -> DeadLetterPage:
        page = await self._insights.letters(criteria, limit=limit, before=before, budget=budget)
        return replace(page, letters=tuple(map(self._redaction.of_letter, page.letters)))

    async def status(self, *, budget: timedelta) -> StatusView:
        return await self._insights.status(budget=budget)
