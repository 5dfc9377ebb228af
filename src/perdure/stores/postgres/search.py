"""The search for a page of jobs or dead letters: stretch by stretch, so that a budget that ends leaves what was found before it."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic
from typing import TypeVar
from uuid import UUID

import asyncpg
import msgspec

from perdure.domain.criteria import OF_FAILURES, STATES, Clause, Criteria
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

LOOKED_AT_MOST = 100_000
"""So many candidates are looked at for one page: a filter that fits little gives what it found, and says how far it came."""
ENOUGH_MAX = 4_000
WINDOW = 1_000
"""So many bodies are looked at first where most are expected not to fit."""

FEW_ENDED = 20_000
"""No more attempts than this are looked at to find those that ended since a moment."""

UNFINISHED = "The time budget ended the search here; ask on with the cursor, or narrow the filter."
SEARCHED = f"Searched the newest {LOOKED_AT_MOST:,} jobs; ask on with the cursor, or narrow the filter."
SEARCHED_ON = f"Searched {LOOKED_AT_MOST:,} more jobs; ask on with the cursor, or narrow the filter."
SEARCHED_LETTERS = f"Searched {LOOKED_AT_MOST:,} dead letters; ask on with the cursor, or narrow the filter."


_INDEX = re.compile(r"-?[0-9]+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ANY = re.compile(r"(?<!\\)(\\\\)*[%_]")


class Stretch:
    """How many candidates are looked at next: more and more while it goes well, fewer when a stretch took too long."""

    def __init__(self, first: int, *, growth: int = GROWTH, longest: int = LONGEST_STRETCH) -> None:
        self.length = first
        self._growth = growth
        self._longest = longest

    def grow(self) -> None:
        self.length = min(self.length * self._growth, self._longest)

    def shorten(self) -> bool:
        """Try a tenth of a stretch that took too long, and grow more carefully then; false when it was a short one already."""
        self._growth = GROWTH
        if self.length <= SHORTEST_STRETCH:
            return False
        self.length = max(self.length // 10, SHORTEST_STRETCH)
        return True


class Search:
    """What has been found of one page, and where to look next.

    Candidates are looked at in stretches from the newest on, each longer than the one before it: all jobs, those whose body
    fits, those that were tried and did not complete, or those of the state tables and of the endings that are wanted; or just
    the ids that the filter names.
    """

    def __init__(self, criteria: Criteria, limit: int, before: UUID | None) -> None:
        self._criteria = criteria
        self._limit = limit
        self._below = before
        self._first = before is None
        self._floor = _floor(criteria.since)
        self._contained = contained(criteria.args)
        if self.by_body:
            # What fits ends a stretch as soon as it fills a page, so that a long one costs no more than several short ones do; where it
            # takes too long it is shortened.
            self.stretch = Stretch(WINDOW, growth=LOOKED_AT_MOST // WINDOW, longest=LOOKED_AT_MOST)
        else:
            self.stretch = Stretch(WINDOW if self.tried else limit + 1)
        self._found: dict[UUID, JobView] = {}
        self._looked_at = 0
        # So many candidates are taken at once: of those found by their body nearly all match, of those by an error fewer do.
        self._enough = (1 if self.by_body else GROWTH) * (limit + 1)
        self.done = not criteria.states or not criteria.priorities or criteria.ids == frozenset()
        self.lately = self.tried and criteria.since is not None
        """Whether what is wanted may be found by when attempts ended, until that proves to be too many."""
        self.begun = False
        """Whether a stretch was looked at that did not fill the page."""

    @property
    def states(self) -> frozenset[JobState]:
        """The states that are wanted."""
        return self._criteria.states

    @property
    def lanes(self) -> str | None:
        """What is wanted of lanes, as `lanes_that_fit` reads it."""
        return _clauses(self._criteria.lanes)

    @property
    def by_body(self) -> bool:
        """Whether the jobs' bodies alone tell which are worth a look: their state is all the same."""
        asked = self._criteria
        of_body = asked.args or asked.lanes or len(asked.priorities) < len(PRIORITIES) or self._of("key")[0]
        return asked.ids is None and asked.states == STATES and bool(of_body)

    @property
    def tried(self) -> bool:
        """Whether only jobs fit that an attempt left in another state than completed."""
        named = any(self._of(field)[0] for field in OF_FAILURES)
        return named and self._criteria.ids is None and JobState.COMPLETED not in self._criteria.states

    @property
    def spent(self) -> bool:
        """Whether enough was looked at for one page."""
        return self._looked_at >= LOOKED_AT_MOST

    def next(self) -> tuple[str, tuple[object, ...]] | list[UUID]:
        """The statement that gives the candidates of the next stretch, or they themselves."""
        if self._criteria.ids is not None:
            below = self._below or LAST
            return sorted((each for each in self._criteria.ids if each < below), reverse=True)
        if JobState.COMPLETED in self._criteria.states and self._criteria.states == STATES:
            return "next_bodies", self._bounds
        return "next_of_states", (sorted(self._criteria.states), *self._bounds)

    def fitting(self, newest: UUID = LAST) -> tuple[object, ...]:
        """The values for `next_fitting`, which gives those of the next stretch, none above `newest`, whose body fits."""
        priorities, _, _, *times_and_lanes, _, args = conditions(self._criteria)
        before, floor, span = self._bounds
        first = min(before, UUID(int=min(newest.int + 1, LAST.int)))
        bounds = (first, floor, span, self._enough)
        return (*bounds, priorities, *times_and_lanes, self._contained, args, *self._of("key"))

    def trying(self) -> tuple[object, ...]:
        """The values for `next_tried`, which gives those of the next stretch whose attempt left an error that fits."""
        return (*self._bounds, self._enough, *_bound(self._criteria.since), *self._errors)

    def trying_since(self) -> tuple[object, ...]:
        """The values for `tried_since`, which gives all those that are left, where few attempts have ended so since then."""
        before, _, _ = self._bounds
        return (before, self._enough, *_bound(self._criteria.since), FEW_ENDED, *self._errors)

    def wanted(self, candidates: Sequence[UUID]) -> tuple[object, ...]:
        """The values for `matching`."""
        return (candidates, sorted(self._criteria.states), *conditions(self._criteria), self._contained)

    def full_with(self, more: int) -> bool:
        """Whether the page is full with so many more rows."""
        return len(self._found) + more > self._limit

    def take(self, candidates: Sequence[UUID], rows: Sequence[Row]) -> None:
        """Keep what a stretch brought, and move on below its last candidate."""
        last = self._criteria.ids is not None or len(candidates) < self.stretch.length
        self._below = candidates[-1] if candidates else self._below
        self._took(rows, len(candidates), last=last)
        self.stretch.grow()

    def take_until(self, candidates: Sequence[UUID], until: UUID | None, rows: Sequence[Row]) -> None:
        """As `take`; `until` is the last one that was looked at, None when nothing is left below."""
        if len(candidates) == self._enough:
            self._below = candidates[-1]
            self._took(rows, len(candidates), last=False)
            self._enough = min(self._enough * GROWTH, ENOUGH_MAX)
        else:
            self._below = until or self._below
            self._took(rows, self.stretch.length, last=until is None)
            self.stretch.grow()

    def page(self, *, complete: bool) -> JobPage:
        """What has been found; an incomplete page goes on below the last candidate that was looked at."""
        jobs = tuple(self._found.values())[: self._limit]
        if len(self._found) > self._limit:
            return JobPage(jobs=jobs, cursor=str(jobs[-1].id))
        if complete:
            return JobPage(jobs=jobs)
        note = (SEARCHED if self._first else SEARCHED_ON) if self.spent else UNFINISHED
        return JobPage(jobs=jobs, cursor=str(self._below or LAST), complete=False, note=note)

    @property
    def _errors(self) -> tuple[object, ...]:
        return (*self._of("error"), *self._of("fingerprint"))

    @property
    def _bounds(self) -> tuple[UUID, UUID, int]:
        return self._below or LAST, self._floor, self.stretch.length

    def _of(self, field: str) -> tuple[list[str] | None, bool]:
        """The patterns of the first clause on this field that a job has to fit, and whether their case counts for nothing."""
        for clause in self._criteria.jobs:
            if clause.field == field and not clause.negated:
                return list(clause.patterns), clause.folded
        return None, False

    def _took(self, rows: Sequence[Row], looked_at: int, *, last: bool) -> None:
        self._found.update({row["id"]: job_of(row) for row in rows})
        self._looked_at += looked_at
        self.begun = True
        self.done = last or len(self._found) > self._limit


class LetterSearch:
    """As `Search`, for one page of dead letters: by when they died."""

    def __init__(self, criteria: Criteria, limit: int, before: str | None) -> None:
        self._criteria = criteria
        self._limit = limit
        self._cursor = before
        self._looked_at = 0
        self._found: list[DeadLetterView] = []
        self.stretch = Stretch(limit + 1)
        self.done = JobState.DISCARDED not in criteria.states
        letter_cursor(before)

    @property
    def spent(self) -> bool:
        """Whether enough was looked at for one page."""
        return self._looked_at >= LOOKED_AT_MOST

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
        self._looked_at += len(candidates)
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
        note = SEARCHED_LETTERS if self.spent else UNFINISHED
        return DeadLetterPage(letters=letters, cursor=cursor, complete=False, note=note)


S = TypeVar("S", Search, LetterSearch)


async def searched(search: S, stretch: Callable[[S, timedelta], Awaitable[None]], budget: timedelta) -> bool:
    """Search on until the page is full or nothing is left; false when the budget or the most to look at ended it before."""
    ends = monotonic() + budget.total_seconds()
    while not search.done and not search.spent:
        if (left := timedelta(seconds=ends - monotonic())) <= timedelta(0):
            return False
        try:
            await stretch(search, left)
        except asyncpg.QueryCanceledError:
            if not search.stretch.shorten():
                return False
    return search.done


def window(rows: Sequence[Row]) -> tuple[list[UUID], UUID | None]:
    """The candidates of a stretch, and the last one that was looked at: None when nothing is left below."""
    return (
        [row["id"] for row in rows if not row["past"]],
        next((row["id"] for row in rows if row["past"]), None),
    )


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


def contained(clauses: Sequence[Clause]) -> list[str] | None:
    """JSON, of which arguments that fit contain one (`@>`): far cheaper to ask than what `args_that_fit` asks of those that do.

    Made from the first clause that names whole values; None when there is none, so that all arguments may fit.
    """
    for clause in clauses:
        leaves = _leaves(clause)
        if leaves is not None:
            return [_at(clause.path, form) for leaf in leaves for form in (leaf, f"[{leaf}]")]
    return None


def _leaves(clause: Clause) -> list[str] | None:
    """The JSON of all values that a clause on arguments can mean; None where they cannot be listed."""
    if clause.negated or clause.folded or clause.comparison != "=" or any(map(_INDEX.fullmatch, clause.path)):
        return None
    leaves = [f"{Decimal(number):f}" for number in clause.numbers]
    for pattern in clause.patterns:
        text = _ESCAPED.sub(r"\1", pattern)
        beyond = _ANY.search(pattern) or text[:1] in {"{", "["}
        if beyond or (_INDEX.fullmatch(text.replace(".", "", 1)) and text not in clause.numbers):
            return None
        leaves += [_json(text)] + [text] * (text in {"true", "false"})
    return leaves + [_json(text) for text in clause.strings]


def _at(path: Sequence[str], leaf: str) -> str:
    for key in reversed(path):
        leaf = f"{{{_json(key)}: {leaf}}}"
    return leaf


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


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
