"""What a filter asks, checked and in the form that the fixed statements of a store take as parameters."""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidFilter, InvalidOption
from perdure.domain.filters import (
    ARGS,
    COMPARISONS,
    FAILED,
    FAILED_STATES,
    WORD,
    Filter,
    Operator,
    Term,
    Value,
    nearest,
)
from perdure.domain.job import PRIORITIES, JobState

STATES = frozenset(JobState)
ATTEMPT_MAX = 32_767
LANE_FIELDS = frozenset({"kind", "queue", "label"})
OF_FAILURES = frozenset({"error", "fingerprint"})
"""What the newest attempt of a completed job does not have: a search for it leaves those out from the start."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")
_ESCAPED = re.compile(r"([\\%_])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One condition on text or numbers: any of `patterns` (LIKE, `folded` whatever the case) or of `numbers` fits.

    `comparison` is "=" or one of >= <= > <. `strings` are the exact texts among values of args: they fit strings only.
    """

    field: str
    negated: bool = False
    folded: bool = False
    patterns: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    comparison: str = "="
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """A checked filter. A bound in time is a moment, or a span back from the moment of asking."""

    states: frozenset[JobState] = STATES
    priorities: frozenset[int] = frozenset(PRIORITIES)
    ids: frozenset[UUID] | None = None
    without: frozenset[UUID] = frozenset()
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    lanes: tuple[Clause, ...] = ()
    jobs: tuple[Clause, ...] = ()
    args: tuple[Clause, ...] = ()


@dataclass(slots=True)
class _Draft:
    states: frozenset[JobState] = STATES
    priorities: frozenset[int] = field(default_factory=lambda: frozenset(PRIORITIES))
    ids: frozenset[UUID] | None = None
    without: frozenset[UUID] = frozenset()
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    lanes: list[Clause] = field(default_factory=list)
    jobs: list[Clause] = field(default_factory=list)
    args: list[Clause] = field(default_factory=list)


def compile_filter(filter: Filter) -> Criteria:
    """The criteria of a filter; InvalidFilter for a value that its field cannot have."""
    draft = _Draft()
    for term in filter.terms:
        _READERS.get(term.field, _text)(draft, term)
    return Criteria(
        states=draft.states,
        priorities=draft.priorities,
        ids=draft.ids,
        without=draft.without,
        since=draft.since,
        until=draft.until,
        lanes=tuple(draft.lanes),
        jobs=tuple(draft.jobs),
        args=tuple(draft.args),
    )


def _invalid(term: Term, why: str, next_step: str = "") -> InvalidFilter:
    return InvalidFilter("filter", f"column {term.column}: {why}", next_step=next_step)


def _state(draft: _Draft, term: Term) -> None:
    named: set[JobState] = set()
    for value in term.values:
        if value.text == FAILED:
            named |= FAILED_STATES
        elif value.text in STATES:
            named.add(JobState(value.text))
        else:
            raise _invalid(
                term, f"there is no state {value.text!r}", nearest(value.text, [*JobState, FAILED])
            )
    draft.states = draft.states - named if term.negated else draft.states & named


def _numbers(term: Term, low: int, high: int) -> list[int]:
    numbers = []
    for value in term.values:
        if not re.fullmatch(r"[0-9]{1,5}", value.text) or not low <= int(value.text) <= high:
            raise _invalid(term, f"{value.text!r} is not a whole number from {low} to {high}")
        numbers.append(int(value.text))
    return numbers


_COMPARE: dict[Operator, Callable[[int, int], bool]] = {
    Operator.IS: operator.eq,
    Operator.AT_LEAST: operator.ge,
    Operator.AT_MOST: operator.le,
    Operator.ABOVE: operator.gt,
    Operator.BELOW: operator.lt,
}


def _priority(draft: _Draft, term: Term) -> None:
    wanted = _numbers(term, 0, 99)
    compare = _COMPARE[term.operator]
    fitting = {p for p in PRIORITIES if any(compare(p, number) for number in wanted)}
    draft.priorities = draft.priorities - fitting if term.negated else draft.priorities & fitting


def _attempt(draft: _Draft, term: Term) -> None:
    numbers = tuple(str(number) for number in _numbers(term, 0, ATTEMPT_MAX))
    draft.jobs.append(
        Clause(field="attempt", negated=term.negated, numbers=numbers, comparison=_comparison(term))
    )


def _comparison(term: Term) -> str:
    return term.operator.value[1:] if term.operator in COMPARISONS else "="


def _id(draft: _Draft, term: Term) -> None:
    try:
        ids = frozenset(UUID(value.text) for value in term.values)
    except ValueError:
        raise _invalid(term, "an id is a UUID", "copy the whole id") from None
    if term.negated:
        draft.without |= ids
    else:
        draft.ids = ids if draft.ids is None else draft.ids & ids


def _moment(term: Term) -> datetime | timedelta:
    if term.negated or len(term.values) != 1:
        raise _invalid(term, f"{term.field} takes one value and no minus", "use since and until")
    text = term.values[0].text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return parse_duration(text, term.field)
        except InvalidOption:
            raise _invalid(
                term, f"{text!r} is no time", "write 15m, 2h, 7d or 2026-11-23T12:00 (UTC)"
            ) from None
    try:
        return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment.astimezone(UTC)
    except OverflowError:
        raise _invalid(term, f"{text!r} is outside the years that can be told") from None


def _since(draft: _Draft, term: Term) -> None:
    if draft.since is not None:
        raise _invalid(term, "since is there twice")
    draft.since = _moment(term)


def _until(draft: _Draft, term: Term) -> None:
    if draft.until is not None:
        raise _invalid(term, "until is there twice")
    draft.until = _moment(term)


def _pattern(value: Value, operator: Operator, *, prefix: bool = False) -> str:
    """The LIKE pattern of a value: `*` of a bare value for any text, everything else as itself."""
    escaped = _ESCAPED.sub(r"\\\1", value.text)
    pattern = escaped if value.quoted else escaped.replace("*", "%")
    if operator is Operator.CONTAINS:
        return f"%{pattern}%"
    return f"{pattern}%" if prefix else pattern


def _text(draft: _Draft, term: Term) -> None:
    prefix = term.field == "fingerprint"
    if term.field in OF_FAILURES and not term.negated:
        draft.states -= {JobState.COMPLETED}
    clause = Clause(
        field=term.field if term.field != WORD else "word",
        negated=term.negated,
        folded=term.operator is Operator.CONTAINS,
        patterns=tuple(_pattern(value, term.operator, prefix=prefix) for value in term.values),
    )
    (draft.lanes if term.field in LANE_FIELDS else draft.jobs).append(clause)


def _args(draft: _Draft, term: Term) -> None:
    plain = [value for value in term.values if not value.quoted]
    numbers = tuple(value.text for value in plain if _NUMBER.fullmatch(value.text))
    comparison = _comparison(term)
    if comparison != "=" and len(numbers) < len(term.values):
        raise _invalid(term, "only numbers can be compared by size")
    is_text = comparison == "="
    whole = is_text and term.operator is Operator.IS
    draft.args.append(
        Clause(
            field=ARGS,
            negated=term.negated,
            folded=term.operator is Operator.CONTAINS,
            patterns=tuple(_pattern(v, term.operator) for v in (plain if whole else term.values))
            if is_text
            else (),
            numbers=numbers if whole or not is_text else (),
            strings=_texts(v for v in term.values if v.quoted) if whole else (),
            comparison=comparison,
            path=term.path,
        )
    )


def _texts(values: Iterable[Value]) -> tuple[str, ...]:
    return tuple(value.text for value in values)


_READERS: dict[str, Callable[[_Draft, Term], None]] = {
    "state": _state,
    "priority": _priority,
    "attempt": _attempt,
    "id": _id,
    "since": _since,
    "until": _until,
    ARGS: _args,
}
