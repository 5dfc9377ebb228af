"""The search for a page of jobs: stretch by stretch, so that a budget that ends leaves what was found before it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from perdure.domain.criteria import Clause, Criteria
from perdure.domain.errors import InvalidOption
from perdure.domain.job import PRIORITIES, JobState
from perdure.domain.rank import EPOCH
from perdure.domain.views import DeadLetterView, JobPage, JobView
from perdure.stores.postgres.rows import Row, job_of

LONGEST_STRETCH = 32_000
SHORTEST_STRETCH = 50
GROWTH = 4
MILLISECOND = timedelta(milliseconds=1)
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)
DRIFT = timedelta(days=2)
"""A producer's clock may be a day off, and this program's clock another."""

UNFINISHED = "The time budget ended the search here; ask on with the cursor, or narrow the filter."


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
        self._span = limit + 1
        self._found: dict[UUID, JobView] = {}
        self.done = not criteria.states or not criteria.priorities or criteria.ids == frozenset()

    def next(self) -> tuple[str, tuple[object, ...]] | list[UUID]:
        """The statement that gives the candidates of the next stretch, or they themselves."""
        below = self._below or LAST
        if self._criteria.ids is not None:
            return sorted((each for each in self._criteria.ids if each < below), reverse=True)
        bounds = (below, self._floor, self._span)
        if JobState.COMPLETED in self._criteria.states:
            return "next_bodies", bounds
        return "next_of_states", (sorted(self._criteria.states), *bounds)

    def wanted(self, candidates: Sequence[UUID]) -> tuple[object, ...]:
        """The values for `matching`."""
        return (candidates, sorted(self._criteria.states), *conditions(self._criteria))

    def take(self, candidates: Sequence[UUID], rows: Sequence[Row]) -> None:
        """Keep what a stretch brought, and move on below its last candidate."""
        self._found.update({row["id"]: job_of(row) for row in rows})
        last = self._criteria.ids is not None or len(candidates) < self._span
        self._below = candidates[-1] if candidates else self._below
        self.done = last or len(self._found) > self._limit
        self._span = min(self._span * GROWTH, LONGEST_STRETCH)

    def shorten(self) -> bool:
        """Try a tenth of a stretch that took too long; false when it was a short one already."""
        if self._span <= SHORTEST_STRETCH:
            return False
        self._span = max(self._span // 10, SHORTEST_STRETCH)
        return True

    def page(self, *, complete: bool) -> JobPage:
        """What has been found; an incomplete page goes on below the last candidate that was looked at."""
        jobs = tuple(self._found.values())[: self._limit]
        if len(self._found) > self._limit:
            return JobPage(jobs=jobs, cursor=str(jobs[-1].id))
        if complete:
            return JobPage(jobs=jobs)
        cursor = None if self._below is None else str(self._below)
        return JobPage(jobs=jobs, cursor=cursor, complete=False, note=UNFINISHED)


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


def cursor_after(letter: DeadLetterView) -> str:
    """The cursor from which the letters below this one follow."""
    return f"{letter.dead_at.isoformat()}~{letter.job_id}"


def _bad_cursor(text: str | None) -> InvalidOption:
    return InvalidOption(
        "cursor", f"{text!r} is not a cursor", next_step="pass the cursor of the page before"
    )
