"""What has happened: throughput by the minute, rates of the queues, and the trail of what was done by whom."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from perdure.domain.activity import EventChoice, EventPage, EventSubject, Metered, QueueRate, ThroughputView
from perdure.domain.errors import InvalidOption
from perdure.ports import By, Clock

BUDGET = timedelta(seconds=2)
LIMIT_MAX = 1_000
LONGEST = timedelta(hours=24)
ALL_EVENTS = EventChoice()


class ActivityInsights(Protocol):
    """Reads within the budget given, or gives a part with a note; and keeps events."""

    async def throughput(self, since: datetime, until: datetime, *, budget: timedelta) -> ThroughputView:
        """Every minute of the span, the oldest first."""
        ...

    async def queue_rates(self, *, budget: timedelta) -> Sequence[QueueRate]:
        """The rates of the last minute. Raises DatabaseUnavailable when they do not come in time."""
        ...

    async def metered(self, since: datetime, until: datetime, *, budget: timedelta) -> Metered:
        """All that happened in a span. Raises DatabaseUnavailable when it is not counted in time."""
        ...

    async def events(
        self, choice: EventChoice, *, limit: int, before: str | None, budget: timedelta
    ) -> EventPage:
        """The events that are meant, the newest first, from the cursor on."""
        ...

    async def record(self, event: str, by: By, subject: EventSubject) -> None:
        """Keep one event."""
        ...


class Activity:
    """Answers what happened, each within its time budget, and leaves events for what moves no job.

    `as_of` asks for what had happened until a moment; rates are of the present only.
    """

    def __init__(self, insights: ActivityInsights, clock: Clock | None = None) -> None:
        self._insights = insights
        self._clock = clock

    async def throughput(
        self,
        span: timedelta = timedelta(hours=1),
        *,
        as_of: datetime | None = None,
        budget: timedelta = BUDGET,
    ) -> ThroughputView:
        """Jobs enqueued and attempts ended in each minute of the last `span`, at most 24 hours."""
        if not timedelta(minutes=1) <= span <= LONGEST:
            raise InvalidOption("minutes", f"must be from 1 to {LONGEST // timedelta(minutes=1)}")
        now = as_of or (datetime.now(UTC) if self._clock is None else self._clock.now())
        return await self._insights.throughput(now - span + timedelta(minutes=1), now, budget=budget)

    async def queue_rates(
        self, *, as_of: datetime | None = None, budget: timedelta = BUDGET
    ) -> Sequence[QueueRate]:
        """What each queue got and finished in a second, over the last minute; queues without any are left out."""
        _check(as_of)
        return await self._insights.queue_rates(budget=budget)

    async def metered(self, since: datetime, until: datetime, *, budget: timedelta = BUDGET) -> Metered:
        """All that happened in a span, for counters that only grow; leave the last seconds for those who commit late."""
        return await self._insights.metered(since, until, budget=budget)

    async def events(
        self,
        choice: EventChoice = ALL_EVENTS,
        *,
        limit: int = 50,
        cursor: str | None = None,
        as_of: datetime | None = None,
        budget: timedelta = BUDGET,
    ) -> EventPage:
        """What was done to jobs, queues and workers, the newest first."""
        if not 1 <= limit <= LIMIT_MAX:
            raise InvalidOption(
                "limit",
                f"{limit} is outside 1 to {LIMIT_MAX}",
                next_step="ask for some, and go on from where they end with the cursor",
            )
        for field in ("event", "actor", "queue"):
            if "\0" in (getattr(choice, field) or ""):
                raise InvalidOption(field, "contains a NUL character, which no text in the database can have")
        if as_of is not None:
            choice = replace(choice, until=as_of)
        return await self._insights.events(choice, limit=limit, before=cursor, budget=budget)

    async def record(self, event: str, by: By, subject: EventSubject) -> None:
        """Leave an event for something that no other statement records."""
        await self._insights.record(event, by, subject)


def _check(as_of: datetime | None) -> None:
    if as_of is not None:
        raise InvalidOption("as_of", "the rates of queues are told of the present only")
