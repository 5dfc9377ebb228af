"""The search for a page of jobs: stretch by stretch, so that a budget that ends leaves what was found before it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from perdure.domain.criteria import Clause, Criteria
from perdure.domain.errors import InvalidOption
from perdure.domain.job import PRIORITIES, JobState
from perdure.domain.views import DeadLetterView, JobPage, JobView
from perdure.stores.postgres.rows import Row, job_of

FIRST_STRETCH = 1_000
LONGEST_STRETCH = 64_000
SHORTEST_STRETCH = 50
MILLISECOND = timedelta(milliseconds=1)
UNFINISHED = "The time budget ended the search here; ask on with the cursor, or narrow the filter."


class Search:
    """What has been found of one page, and where to look next. Stretches grow while they are fruitless."""

    def __init__(self, criteria: Criteria, limit: int, before: UUID | None) -> None:
        self._criteria = criteria
        self._limit = limit
        self._before = before
        self._span = max(FIRST_STRETCH, limit)
        self._found: dict[UUID, JobView] = {}
        self._source = _source(criteria)
        self.done = not criteria.states or not criteria.priorities or criteria.ids == frozenset()

    def parameters(self) -> tuple[object, ...]:
        """The values for the next stretch, in the order of `jobs_page`."""
        wanted = self._limit + 1 - len(self._found)
        states = sorted(self._criteria.states)
        return (self._source, states, *conditions(self._criteria), self._before, self._span, wanted)

    def take(self, rows: Sequence[Row]) -> None:
        """Keep what a stretch brought, and move on below it."""
        wanted = self._limit + 1 - len(self._found)
        found = [job_of(row) for row in rows if row["id"] is not None]
        self._found.update({job.id: job for job in found})
        edge = rows[0]["edge"]
        cut = len(found) >= wanted
        self._before = found[-1].id if cut else edge
        self.done = len(self._found) > self._limit or (edge is None and not cut)
        self._span = min(self._span * 4, LONGEST_STRETCH)

    def shorten(self) -> bool:
        """Try a tenth of a stretch that was too long; false when it was a short one already."""
        if self._span <= SHORTEST_STRETCH:
            return False
        self._span = max(self._span // 10, SHORTEST_STRETCH)
        return True

    def page(self, *, complete: bool) -> JobPage:
        """What has been found. The stretch ends include their last candidate, so that the next one begins below it."""
        jobs = tuple(self._found.values())[: self._limit]
        if not complete:
            cursor = None if self._before is None else str(self._before)
            return JobPage(jobs=jobs, cursor=cursor, complete=False, note=UNFINISHED)
        more = len(self._found) > self._limit
        return JobPage(jobs=jobs, cursor=str(jobs[-1].id) if more else None)


def _source(criteria: Criteria) -> str:
    if criteria.ids is not None:
        return "ids"
    return "bodies" if JobState.COMPLETED in criteria.states else "states"


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
