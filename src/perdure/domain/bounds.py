"""What the values of options may be, each refusal naming its option."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Literal, TypeVar, get_args

from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidOption
from perdure.domain.follow_advice import FollowAdvice
from perdure.domain.job import PRIORITIES, WAITING, JobState, OnParentFailure
from perdure.domain.retry import RetryPolicy

Key = str | Callable[..., str]
"""A text, or a function that makes it of the arguments, which it gets by the handler's parameter names."""

OnDuplicate = Literal["raise", "return"]
"""What an enqueue does when another job holds the unique key."""

E = TypeVar("E", bound=StrEnum)

NAME_LENGTH_MAX = 200
COUNT_MAX = 10_000
LIMIT_MAX = 32_767
SHORTEST_TIMEOUT = timedelta(milliseconds=1)
LONGEST_TIMEOUT = timedelta(days=24)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def checked_name(value: object, field: str) -> str:
    """A text fit for a name: not empty, at most 200 characters, none of them a control character."""
    if not isinstance(value, str):
        raise InvalidOption(field, f"{value!r} is not a string")
    if not value.strip():
        raise InvalidOption(field, "must not be empty", next_step="give its name")
    if len(value) > NAME_LENGTH_MAX:
        raise InvalidOption(field, f"has {len(value)} characters; the limit is {NAME_LENGTH_MAX}")
    if _CONTROL.search(value):
        raise InvalidOption(field, f"{value!r} contains a control character or half of a surrogate pair")
    return value


def checked_count(value: object, field: str, *, low: int, high: int = COUNT_MAX) -> int:
    """A whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidOption(field, f"{value!r} is not a whole number")
    if not low <= value <= high:
        raise InvalidOption(field, f"{value} is outside {low} to {high}")
    return value


def checked_priority(value: object, field: str = "priority") -> int:
    """A priority from 1, the lowest, to 5."""
    return checked_count(value, field, low=PRIORITIES.start, high=PRIORITIES.stop - 1)


def checked_labels(values: Iterable[str], field: str = "labels") -> tuple[str, ...]:
    """Labels in order, each once."""
    if isinstance(values, str):
        raise InvalidOption(field, f"{values!r} is one string; give a list of strings")
    return tuple(dict.fromkeys(checked_name(value, field) for value in values))


def checked_flag(value: object, field: str) -> bool:
    """True or false and nothing else."""
    if not isinstance(value, bool):
        raise InvalidOption(field, f"{value!r} is not True or False")
    return value


def checked_moment(value: object, field: str) -> datetime:
    """A moment that knows its time zone."""
    if not isinstance(value, datetime):
        raise InvalidOption(field, f"{value!r} is not a datetime")
    if value.utcoffset() is None:
        raise InvalidOption(
            field, f"{value.isoformat()} has no time zone", next_step="pass tzinfo, such as datetime.now(UTC)"
        )
    return value


def checked_timeout(value: Any, field: str = "timeout") -> timedelta | None:
    """No limit, or from a millisecond to 24 days, which is what fits the column."""
    span = None if value is None else parse_duration(value, field)
    if span is not None and not SHORTEST_TIMEOUT <= span <= LONGEST_TIMEOUT:
        why = f"{value!r} is outside a millisecond to {LONGEST_TIMEOUT.days} days"
        raise InvalidOption(field, why, next_step="pass None for no limit")
    return span


def checked_key(value: Any, field: str) -> Key | None:
    """No key, a text that is fit for a name, or a function."""
    key: Key | None = value
    return key if key is None or callable(key) else checked_name(key, field)


def checked_states(values: Any, field: str = "unique_states") -> frozenset[JobState] | None:
    """States in which a unique key counts: all those of waiting, and any others."""
    if values is None:
        return None
    states = frozenset(_member(JobState, value, field) for value in values)
    missing = ", ".join(sorted(WAITING - states))
    if missing:
        raise InvalidOption(field, f"must contain every state of waiting; {missing} is missing")
    return states


def checked_policy(value: Any, field: str = "retry") -> RetryPolicy:
    """Anything that has a policy's `delay` and `horizon`."""
    if (
        isinstance(value, type)
        or not callable(getattr(value, "delay", None))
        or not hasattr(value, "horizon")
    ):
        raise InvalidOption(
            field, f"{value!r} is no retry policy", next_step='pass Backoff(), Fixed("10s") or Delays'
        )
    policy: RetryPolicy = value
    return policy


def checked_following(value: Any, field: str = "follow_advice") -> FollowAdvice | None:
    """What follows advice, or nothing."""
    if value is not None and not isinstance(value, FollowAdvice):
        raise InvalidOption(
            field, f"{value!r} is no FollowAdvice", next_step='pass FollowAdvice(timeout_at_least="10s")'
        )
    return value


def checked_word(value: Any, field: str = "on_duplicate") -> OnDuplicate:
    """One of the two answers to a duplicate."""
    if value not in get_args(OnDuplicate):
        raise InvalidOption(field, f"{value!r} is not one of {', '.join(get_args(OnDuplicate))}")
    word: OnDuplicate = value
    return word


def checked_parent_failure(value: Any, field: str = "on_parent_failure") -> OnParentFailure:
    """What a child does when a parent ends without success."""
    return _member(OnParentFailure, value, field)


def _member(kind: type[E], value: Any, field: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise InvalidOption(field, f"{value!r} is not one of {', '.join(kind)}") from None


def _period(value: Any, field: str) -> timedelta | None:
    return None if value is None else parse_duration(value, field)


def _crash_limit(value: Any, field: str) -> int | None:
    return None if value is None else checked_count(value, field, low=1)


CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    "queue": checked_name,
    "priority": checked_priority,
    "retries": partial(checked_count, low=0),
    "timeout": checked_timeout,
    "retry": checked_policy,
    "labels": checked_labels,
    "concurrency_key": checked_key,
    "concurrency_limit": partial(checked_count, low=1, high=LIMIT_MAX),
    "unique_key": checked_key,
    "unique_for": _period,
    "unique_states": checked_states,
    "on_duplicate": checked_word,
    "on_parent_failure": checked_parent_failure,
    "inherit_priority": checked_flag,
    "crash_limit": _crash_limit,
    "encrypted": checked_flag,
    "follow_advice": checked_following,
}
"""The check of each option by its name; it gives the value as it is kept."""
