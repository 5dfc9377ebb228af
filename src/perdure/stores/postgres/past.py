"""Reads as of a moment: the same questions as of the present, answered from bodies, attempts and events at a cut."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from perdure.domain.criteria import Criteria
from perdure.domain.errors import DatabaseUnavailable, PastUnknown
from perdure.domain.explain import Facts
from perdure.domain.job import JobState
from perdure.domain.settlement import Outcome
from perdure.domain.views import (
    CountView,
    DeadLetterPage,
    GroupView,
    JobDetail,
    JobPage,
    QueueView,
    RateView,
    ResultView,
    StatusView,
    WorkerView,
)
from perdure.domain.worker import WorkerState
from perdure.ports import Insights
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.cuts import DENSE, Cut, cut_of
from perdure.stores.postgres.insights import EDGES, HISTORY, UNCOUNTED
from perdure.stores.postgres.levels import FEW as FEW_LIVE
from perdure.stores.postgres.levels import FRESH, level_counts, level_rates
from perdure.stores.postgres.rows import (
    Row,
    attempt_of,
    detail_of,
    group_of,
    queues_of,
    report_of,
    worker_view_of,
)
from perdure.stores.postgres.search import LetterSearch, Search, conditions, job_cursor, searched, window
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, Statement, statements

MILLISECOND = timedelta(milliseconds=1)
FEW = 20_000
"""With more attempts ended since, jobs are looked for among all bodies and not among what has moved."""
AT_ONCE = 60
"""So many candidates are looked at before asking whether the page is full: each costs more than in the present."""
FAILED = frozenset({JobState.RETRYABLE, JobState.CANCELLED, JobState.DISCARDED})
RUNNING = frozenset({JobState.RUNNING})
AVAILABLE = frozenset({JobState.AVAILABLE})
READY = frozenset({JobState.AVAILABLE, JobState.RUNNING})
WAITING = frozenset({JobState.PENDING, JobState.SCHEDULED, JobState.RETRYABLE})
LIVING = frozenset({WorkerState.ACTIVE, WorkerState.DRAINING})
SHARED_S = 2.0
"""So long questions about one moment share what they find: it does not change, but it need not be kept either."""

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class _Shared:
    """The answers of one moment, once its cut is known."""

    since: float
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    insights: "PastInsights | None" = None


class PostgresPast:
    """The ports `Past` and `Moments` on PostgreSQL."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._schema = schema
        self._sql = statements("past", schema)
        self._shared: dict[datetime, _Shared] = {}

    async def mark(self) -> None:
        await self._database.fetch(self._sql["mark"])

    async def thin(self, *, keep: timedelta) -> int:
        kept = keep // MILLISECOND
        await self._database.fetch(self._sql["forget_worker_history"], kept)
        (row,) = await self._database.fetch(self._sql["thin"], kept, DENSE // MILLISECOND)
        return int(row["thinned"])

    async def at(self, moment: datetime) -> Insights:
        """The questions of one page come together: they share the cut, and what they find."""
        now = monotonic()
        self._shared = {at: each for at, each in self._shared.items() if now - each.since < SHARED_S}
        shared = self._shared.setdefault(moment, _Shared(since=now))
        async with shared.asking:
            if shared.insights is None:
                cut = await self.cut(moment)
                shared.insights = PastInsights(self._database, cut, schema=self._schema)
            return shared.insights

    async def cut(self, moment: datetime) -> Cut:
        """The last moment remembered at or before this one. Raises PastUnknown."""
        (row,) = await self._database.fetch(self._sql["moment"], moment)
        return cut_of(moment, row)


class PastInsights:
    """The port `Insights` as of a cut."""

    def __init__(self, database: Database, cut: Cut, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._cut = cut
        self._sql = statements("past", schema)
        self._bounds = statements("insights", schema)
        self._level_sql = statements("levels", schema)["level"]
        self._known: dict[Hashable, Any] = {}
        self._asking: defaultdict[Hashable, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._too_many = False

    async def jobs(self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta) -> JobPage:
        search = Search(self._then(criteria), limit, job_cursor(before))
        return search.page(complete=await searched(search, self._stretch, budget))

    async def job(self, job_id: UUID, *, budget: timedelta) -> JobDetail | None:
        cut = self._cut.cut
        found, attempts, edges, events = await self._together(
            budget,
            ("job", (job_id, cut)),
            ("attempts", (job_id, HISTORY, cut)),
            ("edges", (job_id, EDGES, cut)),
            ("events", (job_id, HISTORY, cut)),
        )
        if not found:
            return None
        own = [attempt_of(row) for row in attempts]
        return detail_of(found[0], attempts=own, edges=edges, events=events, place=None)

    async def facts(self, job_id: UUID, *, budget: timedelta) -> Facts | None:
        raise PastUnknown("why a job did not run is told of the present only")

    async def result_of(self, job_id: UUID) -> ResultView | None:
        (found,) = await self._together(timedelta(seconds=2), ("job", (job_id, self._cut.cut)))
        if not found:
            return None
        row, state = found[0], JobState(found[0]["state"])
        result = row["result"] if state is JobState.COMPLETED else None
        return ResultView(
            state=state,
            result="null" if result is None and state is JobState.COMPLETED else result,
            error=report_of(row["error"]),
            cause=row["cause"] or "",
        )

    async def counts(self, *, budget: timedelta) -> Sequence[CountView]:
        level = await self._level(budget)
        if level is not None:
            return level_counts(level)
        (rows,) = await self._together(budget, ("counts", self._whole))
        return _counts(rows)

    async def queues(self, name: str | None, *, budget: timedelta) -> Sequence[QueueView]:
        return await self._once(("queues", name), lambda: self._queues(name, budget))

    async def _queues(self, name: str | None, budget: timedelta) -> Sequence[QueueView]:
        level = await self._level(budget)
        lanes = None if level is None else level["lanes"]
        (rows,) = await self._together(budget, ("queues", (name, *self._whole, self._cut.at, lanes)))
        return queues_of(rows, UNCOUNTED, approximate=level is not None)

    async def workers(
        self, *, alive_only: bool, key: str | None = None, budget: timedelta
    ) -> Sequence[WorkerView]:
        every = await self._once(("workers", key), lambda: self._workers(key, budget))
        return [view for view in every if not alive_only or view.worker.state in LIVING]

    async def _workers(self, key: str | None, budget: timedelta) -> Sequence[WorkerView]:
        asked = key, self._cut.cut, self._cut.open_since, self._cut.at
        _, rows = await self._together(budget, ("by_block", ()), ("workers", asked))
        return [worker_view_of(row) for row in rows]

    async def groups(self, criteria: Criteria, *, limit: int, budget: timedelta) -> Sequence[GroupView]:
        if JobState.DISCARDED not in criteria.states:
            return []
        values = (*conditions(self._then(criteria)), limit, self._cut.cut)
        (rows,) = await self._together(budget, ("groups", values))
        return [group_of(row) for row in rows]

    async def letters(
        self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta
    ) -> DeadLetterPage:
        search = LetterSearch(self._then(criteria), limit, before)
        return search.page(complete=await searched(search, self._stretch_of_letters, budget))

    async def status(self, *, budget: timedelta) -> StatusView:
        at = self._cut.at
        level, rates = await self._level(budget), []
        if level is None:
            (rates,) = await self._together(budget, ("last_minute", (self._cut.cut, at)))
        queues = await self.queues(None, budget=budget)
        workers = [view.worker.state for view in await self.workers(alive_only=True, budget=budget)]
        views = tuple(await self.counts(budget=budget))
        oldest = [queue.oldest_available_s for queue in queues if queue.oldest_available_s is not None]
        return StatusView(
            at=at,
            counts=views,
            last_minute=tuple(
                RateView(outcome=Outcome(row["outcome"]), count=row["attempts"]) for row in rates
            )
            if level is None
            else level_rates(level),
            oldest_available_s=max(oldest, default=None),
            workers_active=workers.count(WorkerState.ACTIVE),
            workers_draining=workers.count(WorkerState.DRAINING),
            workers_suspect=None,
            workers_deaf=None,
            leader=None,
            dead_letters=sum(queue.depths[JobState.DISCARDED] for queue in queues),
            dead_letters_approximate=level is not None,
            queues_paused=tuple(queue.name for queue in queues if queue.paused),
            oldest_transaction_s=None,
        )

    @property
    def _whole(self) -> tuple[object, ...]:
        return self._cut.cut, self._cut.newest, self._cut.open_since

    def _then(self, criteria: Criteria) -> Criteria:
        """The criteria with spans counted back from the cut and not from the moment of asking."""
        since, until = (
            self._cut.at - bound if isinstance(bound, timedelta) else bound
            for bound in (criteria.since, criteria.until)
        )
        return replace(criteria, since=since, until=until)

    async def _stretch(self, search: Search, budget: timedelta) -> None:
        if search.by_body:
            await self._stretch_by_body(search, budget)
            return
        candidates = search.next()
        if isinstance(candidates, tuple):
            found = await self._candidates(budget, candidates[1], search)
            candidates = [row["id"] for row in found]
        search.take(candidates, await self._matching(budget, search, candidates))

    async def _stretch_by_body(self, search: Search, budget: timedelta) -> None:
        values = search.fitting(self._cut.newest)
        candidates, until = window(await self._by_index(budget / 2, self._bounds["next_fitting"], *values))
        search.take_until(candidates, until, await self._matching(budget, search, candidates))

    async def _matching(
        self, budget: timedelta, search: Search, candidates: Sequence[UUID]
    ) -> list[asyncpg.Record]:
        """Those that match, looked at a few at a time until the page is full."""
        likely = list(dict.fromkeys(await self._likely(budget, search.states, candidates)))
        rows: list[asyncpg.Record] = []
        for start in range(0, len(likely), AT_ONCE):
            some = likely[start : start + AT_ONCE]
            rows += await self._by_index(budget, "matching", *search.wanted(some), self._cut.cut)
            if search.full_with(len(rows)):
                break
        return rows

    async def _stretch_of_letters(self, search: LetterSearch, budget: timedelta) -> None:
        cut = self._cut.cut
        candidates = await self._within(budget, "next_letters", *search.next(), cut)
        rows = await self._within(budget, "letters", *search.wanted(candidates), cut) if candidates else []
        search.take(candidates, rows)

    async def _likely(
        self, budget: timedelta, states: frozenset[JobState], candidates: Sequence[UUID]
    ) -> Sequence[UUID]:
        """Those that are worth a close look; all, where one look at their attempts could not tell."""
        cut = self._cut.cut
        if states <= FAILED or states <= WAITING:
            found = await self._by_index(budget, "left_so", candidates, sorted(states), cut)
        elif len(candidates) > AT_ONCE and states <= READY and states != RUNNING:
            found = await self._by_index(budget, "begun", candidates, cut)
        else:
            return candidates
        return [row["id"] for row in found]

    async def _candidates(
        self, budget: timedelta, values: tuple[object, ...], search: Search
    ) -> list[asyncpg.Record]:
        bounds, states = values[-3:], sorted(search.states)
        if search.states <= FAILED:
            lanes = search.lanes
            return await self._by_index(budget, "next_failed", states, *bounds, self._cut.newest, lanes)
        if search.states == RUNNING:
            return await self._by_block(budget, "next_running", *bounds, *self._whole, self._cut.at)
        if search.states <= WAITING:
            return await self._waiting(budget, bounds, states)
        if search.states == AVAILABLE and search.begun:
            return await self._available(budget, bounds, search.stretch.length)
        if JobState.COMPLETED in search.states or await self._much_has_moved(budget):
            return await self._bodies(budget, bounds)
        return await self._within(budget, "next_of_states", states, *bounds, *self._whole)

    async def _waiting(
        self, budget: timedelta, bounds: tuple[object, ...], states: Sequence[JobState]
    ) -> list[asyncpg.Record]:
        """Those that may have waited for parents or a time, the newest first.

        Where half of the time does not suffice for all waits that are over, all jobs are looked through, and each page gets further.
        """
        if not self._too_many:
            try:
                return await self._by_index(budget / 2, "next_waiting", states, *bounds, *self._whole)
            except asyncpg.QueryCanceledError:
                self._too_many = True
        return await self._bodies(budget / 2, bounds)

    async def _available(
        self, budget: timedelta, bounds: tuple[object, ...], most: int
    ) -> list[asyncpg.Record]:
        """Those that waited for a worker; what lives comes first, for what ends in between is found by its attempt."""
        now = *bounds, self._cut.cut, self._cut.newest
        since = *bounds, *self._whole, self._cut.at
        if not self._too_many:
            try:
                live = await self._by_index(budget / 4, "next_available_live", *now)
                ended = await self._by_block(budget / 2, "next_available", *since)
                return sorted((*live, *ended), key=lambda row: row["id"], reverse=True)[:most]
            except asyncpg.QueryCanceledError:
                self._too_many = True
        return await self._bodies(budget / 4, bounds)

    async def _bodies(self, budget: timedelta, bounds: tuple[object, ...]) -> list[asyncpg.Record]:
        return await self._by_index(budget, "next_bodies", *bounds, self._cut.cut, self._cut.newest)

    async def _level(self, budget: timedelta) -> Row | None:
        """The levels that the leader had counted last, where counting what stood at the cut would take long; they are seconds older."""
        levels = await self._once("levels", lambda: self._levels(budget))
        return levels[0] if levels else None

    async def _levels(self, budget: timedelta) -> Sequence[Row]:
        few = -1 if await self._much_has_moved(budget) else FEW_LIVE
        return await self._within(budget, self._level_sql, self._cut.at, FRESH // MILLISECOND, few)

    async def _much_has_moved(self, budget: timedelta) -> bool:
        moved = await self._once(
            "moved", lambda: self._within(budget, "moved_since", self._cut.open_since, FEW)
        )
        return int(moved[0]["moved"]) >= FEW

    async def _once(self, what: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """What somebody has asked of this cut before, or asks right now, is not asked again."""
        async with self._asking[what]:
            if what not in self._known:
                self._known[what] = await ask()
            found: T = self._known[what]
        return found

    async def _by_block(self, budget: timedelta, name: str, *values: object) -> list[asyncpg.Record]:
        calls = (self._bound(budget), (self._sql["by_block"], ()), (self._sql[name], values))
        return (await self._database.fetch_all(*calls))[2]

    async def _by_index(
        self, budget: timedelta, name: str | Statement, *values: object
    ) -> list[asyncpg.Record]:
        statement = self._sql[name] if isinstance(name, str) else name
        calls = (self._bound(budget), (self._bounds["by_index"], ()), (statement, values))
        return (await self._database.fetch_all(*calls))[2]

    async def _within(
        self, budget: timedelta, name: str | Statement, *values: object
    ) -> list[asyncpg.Record]:
        statement = self._sql[name] if isinstance(name, str) else name
        return (await self._database.fetch_all(self._bound(budget), (statement, values)))[1]

    async def _together(
        self, budget: timedelta, *calls: tuple[str, tuple[object, ...]]
    ) -> list[list[asyncpg.Record]]:
        try:
            found = await self._database.fetch_all(
                self._bound(budget), *((self._sql[name], values) for name, values in calls)
            )
        except asyncpg.QueryCanceledError as error:
            raise DatabaseUnavailable(
                f"the answer did not come within {budget.total_seconds():g} s",
                next_step="narrow the filter, or give the query more time",
            ) from error
        return found[1:]

    def _bound(self, budget: timedelta) -> tuple[Statement, tuple[object, ...]]:
        return self._bounds["bounded"], (str(max(1, budget // MILLISECOND)),)


def _counts(rows: Sequence[Row]) -> tuple[CountView, ...]:
    counted = {row["state"]: row["jobs"] for row in rows}
    bodies = counted.pop("bodies")
    counted[JobState.COMPLETED.value] = max(0, bodies - sum(counted.values()))
    return tuple(CountView(state=state, count=counted.get(state.value, 0)) for state in JobState)
