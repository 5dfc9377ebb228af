"""The search for a page of jobs or dead letters: stretch by stretch, so that a budget that ends leaves what was found before it."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TypeVar
from uuid import UUID

import asyncpg
import msgspec

from perdure.domain.criteria import Clause, Criteria
from perdure.domain.errors import InvalidOption
from perdure.domain.job import PRIORITIES, JobState
from perdure.domain.rank import EPOCH
from perdure.domain.views import DeadLetterPage, DeadLetterView, JobPage, JobView
from perdure.stores.postgres.rows import Row, job_of, letter_of

LONGEST_STRETCH = 32_000
SHORTEST_STRETCH = 50
GROWTH = 4
MILLISECOND = timedelta(milliseconds=1)
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)
END = datetime(9999, 1, 1, tzinfo=UTC)
DRIFT = timedelta(days=2)
"""A producer's clock may be a day off, and this program's clock another."""

UNFINISHED = "The time budget ended the search here; ask on with the cursor, or narrow the filter."


class Stretch:
    """How many candidates are looked at next: more and more while it goes well, fewer when a stretch took too long."""

    def __init__(self, first: int) -> None:
        self.length = first

    def grow(self) -> None:
        self.length = min(self.length * GROWTH, LONGEST_STRETCH)

    def shorten(self) -> bool:
        """Try a tenth of a stretch that took too long; false when it was a short one already."""
        if self.length <= SHORTEST_STRETCH:
            return False
        self.length = max(self.length // 10, SHORTEST_STRETCH)
        return True


class Search:
    """What has been found of one page, and where to look next.

    Candidates are looked at in stretches from the newest on, each longer than the one before it: all jobs, or only those of
    the state tables and of bad endings when completed jobs are not wanted, or just the ids that the filter names.
    """

    def __init__(self, criteria: Criteria, limit: int, before: UUID | None) -> None:
        self._criteria = criteria
        self._limit = limit
        self._below = before
        self._floor = _floor(criteria.since)
        self.stretch = Stretch(limit + 1)
        self._found: dict[UUID, JobView] = {}
        self.done = not criteria.states or not criteria.priorities or criteria.ids == frozenset()

    @property
    def states(self) -> frozenset[JobState]:
        """The states that are wanted."""
        return self._criteria.states

    @property
    def lanes(self) -> str | None:
        """What is wanted of lanes, as `lanes_that_fit` reads it."""
        return _clauses(self._criteria.lanes)

    def next(self) -> tuple[str, tuple[object, ...]] | list[UUID]:
        """The statement that gives the candidates of the next stretch, or they themselves."""
        below = self._below or LAST
        if self._criteria.ids is not None:
            return sorted((each for each in self._criteria.ids if each < below), reverse=True)
        bounds = (below, self._floor, self.stretch.length)
        if JobState.COMPLETED in self._criteria.states:
            return "next_bodies", bounds
        return "next_of_states", (sorted(self._criteria.states), *bounds)

    def wanted(self, candidates: Sequence[UUID]) -> tuple[object, ...]:
        """The values for `matching`."""
        return (candidates, sorted(self._criteria.states), *conditions(self._criteria))

    def full_with(self, more: int) -> bool:
        """Whether the page is full with so many more rows."""
        return len(self._found) + more > self._limit

    def take(self, candidates: Sequence[UUID], rows: Sequence[Row]) -> None:
        """Keep what a stretch brought, and move on below its last candidate."""
        self._found.update({row["id"]: job_of(row) for row in rows})
        last = self._criteria.ids is not None or len(candidates) < self.stretch.length
        self._below = candidates[-1] if candidates else self._below
        self.done = last or len(self._found) > self._limit
        self.stretch.grow()

    def page(self, *, complete: bool) -> JobPage:
        """What has been found; an incomplete page goes on below the last candidate that was looked at."""
        jobs = tuple(self._found.values())[: self._limit]
        if len(self._found) > self._limit:
            return JobPage(jobs=jobs, cursor=str(jobs[-1].id))
        if complete:
            return JobPage(jobs=jobs)
        return JobPage(jobs=jobs, cursor=str(self._below or LAST), complete=False, note=UNFINISHED)


class LetterSearch:
    """As `Search`, for one page of dead letters: by when they died."""

    def __init__(self, criteria: Criteria, limit: int, before: str | None) -> None:
        self._criteria = criteria
        self._limit = limit
        self._cursor = before
        self._found: list[DeadLetterView] = []
        self.stretch = Stretch(limit + 1)
        self.done = JobState.DISCARDED not in criteria.states
        letter_cursor(before)

    def next(self) -> tuple[object, ...]:
        """The values for `next_letters`, which gives the candidates of the next stretch."""
        return (*letter_cursor(self._cursor), self.stretch.length)

    def wanted(self, candidates: Sequence[Row]) -> tuple[object, ...]:
        """The values for `letters`."""
        last = candidates[-1]
        bounds = (*letter_cursor(self._cursor), last["dead_at"], last["job_id"])
        return (*conditions(self._criteria), *bounds)

    def take(self, candidates: Sequence[Row], rows: Sequence[Row]) -> None:
        """Keep what a stretch brought, and move on below its last candidate."""
        self._found += [letter_of(row) for row in rows]
        self.done = len(candidates) < self.stretch.length or len(self._found) > self._limit
        if candidates:
            self._cursor = _letter_place(candidates[-1]["dead_at"], candidates[-1]["job_id"])
        self.stretch.grow()

    def page(self, *, complete: bool) -> DeadLetterPage:
        """What has been found; an incomplete page goes on below the last candidate that was looked at."""
        letters = tuple(self._found[: self._limit])
        if len(self._found) > self._limit:
            return DeadLetterPage(
                letters=letters, cursor=_letter_place(letters[-1].dead_at, letters[-1].job_id)
            )
        if complete:
            return DeadLetterPage(letters=letters)
        cursor = self._cursor or _letter_place(END, LAST)
        return DeadLetterPage(letters=letters, cursor=cursor, complete=False, note=UNFINISHED)


S = TypeVar("S", Search, LetterSearch)


async def searched(search: S, stretch: Callable[[S, timedelta], Awaitable[None]], budget: timedelta) -> bool:
    """Search on until the page is full or nothing is left; false when the budget ended it before."""
    ends = monotonic() + budget.total_seconds()
    while not search.done:
        if (left := timedelta(seconds=ends - monotonic())) <= timedelta(0):
            return False
        try:
            await stretch(search, left)
        except asyncpg.QueryCanceledError:
            if not search.stretch.shorten():
                return False
    return True


def _floor(since: datetime | timedelta | None) -> UUID:
    """An id below those of all jobs enqueued since then, with room for clocks that differ."""
    if since is None:
        return FIRST
    moment = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    milliseconds = (moment - DRIFT - EPOCH) // MILLISECOND if moment > EPOCH + DRIFT else 0
    return UUID(int=milliseconds << 80)


def conditions(criteria: Criteria) -> tuple[object, ...]:
    """The values of priorities, ids, without, since, since_ms, until, until_ms, lanes, words and args."""
    priorities = None if criteria.priorities >= set(PRIORITIES) else sorted(criteria.priorities)
    return (
        priorities,
        None if criteria.ids is None else sorted(criteria.ids),
        sorted(criteria.without) or None,
        *_bound(criteria.since),
        *_bound(criteria.until),
        _clauses(criteria.lanes),
        _clauses(criteria.jobs),
        _clauses(criteria.args),
    )


def _bound(bound: datetime | timedelta | None) -> tuple[datetime | None, int | None]:
    if isinstance(bound, timedelta):
        return None, bound // MILLISECOND
    return bound, None


def _clauses(clauses: Sequence[Clause]) -> str | None:
    return msgspec.json.encode(clauses).decode() if clauses else None


def job_cursor(text: str | None) -> UUID | None:
    """The id that a cursor of a page of jobs means. Raises InvalidOption."""
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise _bad_cursor(text) from None


def letter_cursor(text: str | None) -> tuple[datetime | None, UUID | None]:
    """The moment and the id that a cursor of a page of dead letters means. Raises InvalidOption."""
    if text is None:
        return None, None
    at, _, job_id = text.partition("~")
    try:
        moment = datetime.fromisoformat(at)
        letter = UUID(job_id)
    except ValueError:
        raise _bad_cursor(text) from None
    if moment.utcoffset() is None:
        raise _bad_cursor(text)
    return moment, letter


def _letter_place(dead_at: datetime, job_id: UUID) -> str:
    """The cursor from which the letters below this one follow."""
    return f"{dead_at.isoformat()}~{job_id}"


def _bad_cursor(text: str | None) -> InvalidOption:
    return InvalidOption(
        "cursor", f"{text!r} is not a cursor", next_step="pass the cursor of the page before"
    )
