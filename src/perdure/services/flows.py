"""Flows: the jobs that hang together by their dependencies, and how far they have come."""

from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.errors import InvalidOption, NotFound
from perdure.domain.flow import NODES_MAX, FlowPage, FlowView

BUDGET = timedelta(seconds=2)
LIMIT_MAX = 200


class FlowInsights(Protocol):
    """Reads flows within the budget given."""

    async def flow(self, job_id: UUID, *, most: int, budget: timedelta) -> FlowView | None:
        """All jobs that hang together with one; None when there is no such job."""
        ...

    async def flows(self, *, limit: int, before: str | None, budget: timedelta) -> FlowPage:
        """The flows, the newest first, from the cursor on."""
        ...


class Flows:
    """Answers about flows within a time budget. `as_of` is refused in this version."""

    def __init__(self, insights: FlowInsights) -> None:
        self._insights = insights

    async def flow(
        self,
        job_id: UUID,
        *,
        most: int = NODES_MAX,
        as_of: datetime | None = None,
        budget: timedelta = BUDGET,
    ) -> FlowView:
        """All jobs that hang together with one, at most `most`. Raises NotFound."""
        _check(as_of)
        if not 1 <= most <= NODES_MAX:
            raise InvalidOption("most", f"{most} is outside 1 to {NODES_MAX}")
        flow = await self._insights.flow(job_id, most=most, budget=budget)
        if flow is None:
            raise NotFound("job", job_id, next_step="it may have been pruned; see `perdure job list`")
        return flow

    async def flows(
        self,
        *,
        limit: int = 20,
        cursor: str | None = None,
        as_of: datetime | None = None,
        budget: timedelta = BUDGET,
    ) -> FlowPage:
        """The flows, the newest first; each counts its first hundred jobs."""
        _check(as_of)
        if not 1 <= limit <= LIMIT_MAX:
            raise InvalidOption(
                "limit",
                f"{limit} is outside 1 to {LIMIT_MAX}",
                next_step="ask for some, and go on from where they end with the cursor",
            )
        return await self._insights.flows(limit=limit, before=cursor, budget=budget)


def _check(as_of: datetime | None) -> None:
    if as_of is not None:
        raise InvalidOption("as_of", "looking back in time is not available in this version")
