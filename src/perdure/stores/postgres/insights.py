"""Reads for faces: by filter and in pages, within a time budget, never changing anything."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from time import monotonic
from uuid import UUID

import asyncpg

from perdure.domain.criteria import Criteria
from perdure.domain.errors import DatabaseUnavailable
from perdure.domain.explain import Facts
from perdure.domain.job import JobState
from perdure.domain.rank import Band
from perdure.domain.serving import UNSERVED_COUNTED
from perdure.domain.settlement import Outcome
from perdure.domain.views import (
    CountView,
    DeadLetterPage,
    GroupView,
    JobDetail,
    JobPage,
    LeaderView,
    QueueView,
    RateView,
    ResultView,
    StatusView,
    WorkerView,
)
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.levels import FEW, FRESH, level_counts
from perdure.stores.postgres.rows import (
    Row,
    attempt_of,
    detail_of,
    edge_of,
    group_of,
    place_of,
    queues_of,
    report_of,
    unserved_of,
    worker_view_of,
)
from perdure.stores.postgres.search import (
    LetterSearch,
    Search,
    conditions,
    job_cursor,
    searched,
    window,
)
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, Statement, statements

MILLISECOND = timedelta(milliseconds=1)
SUSPECT_AFTER = timedelta(seconds=6)
COUNTED = 100_000
UNCOUNTED = 2**62
AHEAD = 10_000
HISTORY = 100
EDGES = 1_000
TABLES = {
    JobState.PENDING: "blocked_jobs",
    JobState.SCHEDULED: "scheduled_jobs",
    JobState.RETRYABLE: "scheduled_jobs",
    JobState.AVAILABLE: "available_jobs",
    JobState.RUNNING: "leases",
}
"""Whose size estimates the number of jobs in a state that are too many to count."""
BRIEF = timedelta(milliseconds=250)
"""What is left to a query at least when the parts before it have used up the budget."""

LEVEL = ("level", (None, FRESH // MILLISECOND, FEW))

STATUS_PARTS: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("vitals", "workers, leader and queues", (SUSPECT_AFTER // MILLISECOND,)),
    ("unserved", "jobs that no worker may take", (UNSERVED_COUNTED,)),
    ("dead_letters", "dead letters", (COUNTED,)),
    ("oldest_transaction", "oldest transaction", ()),
    ("last_minute", "rates", ()),
    ("level", "levels", LEVEL[1]),
    ("estimates", "estimates", ()),
    ("counts", "counts", (COUNTED,)),
)


class PostgresInsights:
    """The port `Insights` on PostgreSQL."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("insights", schema) | {"level": statements("levels", schema)["level"]}

    async def jobs(self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta) -> JobPage:
        search = Search(criteria, limit, job_cursor(before))
        return search.page(complete=await searched(search, self._stretch, budget))

    async def job(self, job_id: UUID, *, budget: timedelta) -> JobDetail | None:
        with_limit = (job_id, HISTORY)
        found, attempts, edges, events, places = await self._together(
            budget,
            ("job", (job_id,)),
            ("attempts", with_limit),
            ("edges", (job_id, EDGES)),
            ("events", with_limit),
            ("place", (job_id, AHEAD)),
        )
        if not found:
            return None
        return detail_of(
            found[0],
            attempts=[attempt_of(row) for row in attempts],
            edges=edges,
            events=events,
            place=place_of(places[0], AHEAD) if places else None,
        )

    async def facts(self, job_id: UUID, *, budget: timedelta) -> Facts | None:
        found, edges, places = await self._together(
            budget,
            ("facts", (job_id, SUSPECT_AFTER // MILLISECOND)),
            ("edges", (job_id, EDGES)),
            ("place", (job_id, AHEAD)),
        )
        return _facts(found[0], edges, places) if found else None

    async def result_of(self, job_id: UUID) -> ResultView | None:
        rows = await self._database.fetch(self._sql["result_of"], job_id)
        if not rows:
            return None
        state = JobState(rows[0]["state"])
        result = rows[0]["result"]
        return ResultView(
            state=state,
            result="null" if result is None and state is JobState.COMPLETED else result,
            error=report_of(rows[0]["error"]),
            cause=rows[0]["cause"] or "",
        )

    async def counts(self, *, budget: timedelta) -> Sequence[CountView]:
        (levels,) = await self._together(budget, LEVEL)
        if levels:
            return level_counts(levels[0])
        rows, estimates = await self._together(budget, ("counts", (COUNTED,)), ("estimates", ()))
        return _counts(rows, estimates)

    async def queues(self, name: str | None, *, budget: timedelta) -> Sequence[QueueView]:
        (levels,) = await self._together(budget, LEVEL)
        lanes = levels[0]["lanes"] if levels else None
        (rows,) = await self._together(budget, ("queues", (name, COUNTED, lanes)))
        return queues_of(rows, UNCOUNTED if levels else COUNTED, approximate=bool(levels))

    async def workers(
        self, *, alive_only: bool, key: str | None = None, budget: timedelta
    ) -> Sequence[WorkerView]:
        (rows,) = await self._together(budget, ("workers", (alive_only, key, SUSPECT_AFTER // MILLISECOND)))
        return [worker_view_of(row) for row in rows]

    async def groups(self, criteria: Criteria, *, limit: int, budget: timedelta) -> Sequence[GroupView]:
        if JobState.DISCARDED not in criteria.states:
            return []
        (rows,) = await self._together(budget, ("groups", (*conditions(criteria), limit)))
        return [group_of(row) for row in rows]

    async def letters(
        self, criteria: Criteria, *, limit: int, before: str | None, budget: timedelta
    ) -> DeadLetterPage:
        search = LetterSearch(criteria, limit, before)
        return search.page(complete=await searched(search, self._stretch_of_letters, budget))

    async def status(self, *, budget: timedelta) -> StatusView:
        ends = monotonic() + budget.total_seconds()
        found: dict[str, Sequence[Row]] = {}
        notes = []
        for name, what, values in STATUS_PARTS:
            if name in {"counts", "estimates"} and found.get("level"):
                continue
            left = timedelta(seconds=ends - monotonic())
            try:
                found[name] = await self._within(max(left, BRIEF), name, *values)
            except asyncpg.QueryCanceledError:
                notes.append(f"{what}: not known within the time budget")
        return _status(found, tuple(notes))

    async def _stretch_of_letters(self, search: LetterSearch, budget: timedelta) -> None:
        candidates = await self._within(budget, "next_letters", *search.next())
        rows = await self._within(budget, "letters", *search.wanted(candidates)) if candidates else []
        search.take(candidates, rows)

    async def _stretch(self, search: Search, budget: timedelta) -> None:
        # One short stretch of the walk comes first: it fills the page where most of what fails fits.
        if search.begun and search.lately and await self._stretch_of_lately(search, budget):
            return
        if search.by_body or search.tried:
            name, values = (
                ("next_fitting", search.fitting()) if search.by_body else ("next_tried", search.trying())
            )
            # Half of the time: what is cut short is tried again in shorter stretches, so that each page gets further.
            candidates, until = window(await self._by_index(budget / 2, name, *values))
            search.take_until(candidates, until, await self._matching(budget, search, candidates))
            return
        following = search.next()
        if isinstance(following, tuple):
            name, values = following
            following = [row["id"] for row in await self._by_index(budget, name, *values)]
        search.take(following, await self._matching(budget, search, following))

    async def _stretch_of_lately(self, search: Search, budget: timedelta) -> bool:
        """A stretch by when attempts ended; false when there are too many for that, or when it took too long before."""
        search.lately = False
        candidates, until = window(await self._by_index(budget, "tried_since", *search.trying_since()))
        if until is not None:
            return False
        search.take_until(candidates, None, await self._matching(budget, search, candidates))
        search.lately = True
        return True

    async def _matching(
        self, budget: timedelta, search: Search, candidates: Sequence[UUID]
    ) -> list[asyncpg.Record]:
        if not candidates:
            return []
        return await self._by_index(budget, "matching", *search.wanted(candidates))

    async def _by_index(self, budget: timedelta, name: str, *values: object) -> list[asyncpg.Record]:
        calls = (self._bound(budget), (self._sql["by_index"], ()), (self._sql[name], values))
        return (await self._database.fetch_all(*calls))[2]

    async def _within(self, budget: timedelta, name: str, *values: object) -> list[asyncpg.Record]:
        """The rows of one statement; asyncpg.QueryCanceledError when the budget does not suffice."""
        return (await self._database.fetch_all(self._bound(budget), (self._sql[name], values)))[1]

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
        return self._sql["bounded"], (str(max(1, budget // MILLISECOND)),)


def _facts(row: Row, edges: Sequence[Row], places: Sequence[Row]) -> Facts:
    return Facts(
        now=row["now"],
        job_id=row["id"],
        state=JobState(row["state"]),
        queue=row["queue"],
        kind=row["kind"],
        labels=tuple(row["labels"]),
        run_at=row["run_at"],
        paused_at=row["paused_at"],
        paused_by=row["paused_by"] or "",
        workers_on_queue=row["on_queue"],
        workers_on_kind=row["on_kind"],
        workers_serving=row["serving"],
        workers_suspect=row["suspect"],
        worker=row["worker"] or "",
        claimed_at=row["claimed_at"],
        cancel_requested_at=row["requested_at"],
        concurrency_key=row["concurrency_key"],
        concurrency_limit=row["concurrency_limit"],
        holders=tuple(row["holders"]),
        band=None if row["band"] is None else Band(row["band"]),
        parents=tuple(edge_of(edge) for edge in edges if edge["is_parent"]),
        place=place_of(places[0], AHEAD) if places else None,
    )


def _counts(rows: Sequence[Row], estimates: Sequence[Row]) -> tuple[CountView, ...]:
    """One count for each state; what went over the limit is replaced by the planner's estimate, never a lower one."""
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row["state"]] += row["jobs"]
    believed = {row["name"]: row["estimate"] for row in estimates}
    bodies = counted.pop("bodies")
    views = {state: _count(state, counted.get(state, 0), believed) for state in JobState}
    others = sum(views[state].count for state in JobState if state is not JobState.COMPLETED)
    exact = bodies <= COUNTED and not any(view.approximate for view in views.values())
    every = bodies if bodies <= COUNTED else max(bodies, believed.get("jobs", 0))
    completed = CountView(state=JobState.COMPLETED, count=max(0, every - others), approximate=not exact)
    return tuple(completed if state is JobState.COMPLETED else view for state, view in views.items())


def _count(state: JobState, counted: int, believed: Mapping[str, int]) -> CountView:
    if counted <= COUNTED:
        return CountView(state=state, count=counted)
    estimate = believed.get(TABLES.get(state, ""), 0)
    return CountView(state=state, count=max(COUNTED, estimate), approximate=True)


def _status(found: Mapping[str, Sequence[Row]], notes: tuple[str, ...]) -> StatusView:
    vitals = found["vitals"][0] if "vitals" in found else None
    letters = found["dead_letters"][0]["letters"] if "dead_letters" in found else None
    rates = [
        RateView(outcome=Outcome(r["outcome"]), count=r["attempts"]) for r in found.get("last_minute", ())
    ]
    levels, known = found.get("level"), "counts" in found and "estimates" in found
    return StatusView(
        at=vitals["at"] if vitals else None,
        counts=level_counts(levels[0])
        if levels
        else _counts(found["counts"], found["estimates"])
        if known
        else None,
        last_minute=tuple(rates) if "last_minute" in found else None,
        oldest_available_s=vitals["oldest_s"] if vitals else None,
        workers_active=vitals["active"] if vitals else None,
        workers_draining=vitals["draining"] if vitals else None,
        workers_suspect=vitals["suspect"] if vitals else None,
        workers_deaf=vitals["deaf"] if vitals else None,
        leader=_leader(vitals) if vitals else None,
        dead_letters=letters if letters is None else min(letters, COUNTED),
        dead_letters_approximate=letters is not None and letters > COUNTED,
        queues_paused=tuple(vitals["paused"]) if vitals else None,
        unserved=tuple(map(unserved_of, found["unserved"])) if "unserved" in found else None,
        oldest_transaction_s=found["oldest_transaction"][0]["age_s"]
        if "oldest_transaction" in found
        else None,
        halted=vitals["halted"] if vitals else None,
        notes=notes,
    )


def _leader(row: Row) -> LeaderView | None:
    if row["holder"] is None:
        return None
    return LeaderView(
        holder=row["holder"],
        worker=row["leader"] or "",
        term=row["term"],
        elected_at=row["elected_at"],
        expires_at=row["expires_at"],
        leads=row["leads"],
    )
