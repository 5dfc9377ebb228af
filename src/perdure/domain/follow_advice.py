"""The option by which a kind follows the advice on it."""

from dataclasses import dataclass
from datetime import timedelta

from perdure.domain.durations import Duration, parse_duration
from perdure.domain.errors import InvalidOption


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class FollowAdvice:
    """What of a kind follows the advice from its own history, and how far.

    `timeout_at_least`: its time-out may be shorter than the `timeout` of the kind, down to this. `retry_at_most`: a retry waits at least
    as long as retries needed that succeeded, up to this. What is not given does not follow.
    """

    timeout_at_least: timedelta | None
    retry_at_most: timedelta | None

    def __init__(
        self, *, timeout_at_least: Duration | None = None, retry_at_most: Duration | None = None
    ) -> None:
        if timeout_at_least is None and retry_at_most is None:
            raise InvalidOption(
                "follow_advice", "follows nothing", next_step="give timeout_at_least, retry_at_most or both"
            )
        object.__setattr__(self, "timeout_at_least", _span(timeout_at_least, "timeout_at_least"))
        object.__setattr__(self, "retry_at_most", _span(retry_at_most, "retry_at_most"))


def _span(value: Duration | None, field: str) -> timedelta | None:
    span = None if value is None else parse_duration(value, field)
    if span is not None and span <= timedelta(0):
        raise InvalidOption(field, "must be longer than nothing")
    return span
