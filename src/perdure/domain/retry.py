"""When a failed job is tried again, and how a handler steers its own end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, assert_never, get_args

from perdure.domain.durations import Duration, format_duration, parse_duration
from perdure.domain.errors import InvalidOption

Jitter = Literal["full", "none", "proportional"]
"""Full: anywhere from nothing to the bound. Proportional: the upper fifth of the bound. None: the bound itself."""

_DOUBLINGS_MAX = 64
_SPREAD = 0.2


class RetryPolicy(Protocol):
    """How long to wait after a failure.

    `horizon` bounds the time from the first enqueue to the start of the last retry.
    """

    @property
    def horizon(self) -> timedelta | None: ...

    def delay(self, failures: int, draw: float) -> timedelta:
        """The wait after a failure that `failures` others preceded; `draw` is a random number in [0, 1)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Backoff:
    """Twice the wait after each failure: `min(base * 2**failures, cap)`, spread by the jitter."""

    base: timedelta
    cap: timedelta
    jitter: Jitter
    horizon: timedelta | None

    def __init__(
        self,
        *,
        base: Duration = timedelta(seconds=1),
        cap: Duration = timedelta(seconds=60),
        jitter: Jitter = "full",
        horizon: Duration | None = None,
    ) -> None:
        object.__setattr__(self, "base", parse_duration(base, "base"))
        object.__setattr__(self, "cap", parse_duration(cap, "cap"))
        object.__setattr__(self, "jitter", _checked_jitter(jitter))
        object.__setattr__(self, "horizon", _checked_horizon(horizon))
        if self.cap < self.base:
            raise InvalidOption("cap", f"{format_duration(self.cap)} is less than the base")

    def bound(self, failures: int) -> timedelta:
        """The longest wait after a failure that `failures` others preceded."""
        microsecond = timedelta(microseconds=1)
        grown = self.base // microsecond << max(0, min(failures, _DOUBLINGS_MAX))
        return min(grown, self.cap // microsecond) * microsecond

    def delay(self, failures: int, draw: float) -> timedelta:
        return _spread(self.bound(failures), self.jitter, draw)


@dataclass(frozen=True, slots=True, init=False)
class Fixed:
    """The same wait after each failure."""

    interval: timedelta
    jitter: Jitter
    horizon: timedelta | None

    def __init__(
        self, interval: Duration, *, jitter: Jitter = "none", horizon: Duration | None = None
    ) -> None:
        object.__setattr__(self, "interval", parse_duration(interval, "interval"))
        object.__setattr__(self, "jitter", _checked_jitter(jitter))
        object.__setattr__(self, "horizon", _checked_horizon(horizon))

    def delay(self, failures: int, draw: float) -> timedelta:
        return _spread(self.interval, self.jitter, draw)


@dataclass(frozen=True, slots=True, init=False)
class Delays:
    """A wait for each failure in turn; the last one repeats."""

    delays: tuple[timedelta, ...]
    jitter: Jitter
    horizon: timedelta | None

    def __init__(
        self, delays: Sequence[Duration], *, jitter: Jitter = "none", horizon: Duration | None = None
    ) -> None:
        if isinstance(delays, str) or not delays:
            raise InvalidOption("delays", 'give a list with at least one duration, such as ["1s", "1m"]')
        object.__setattr__(self, "delays", tuple(parse_duration(delay, "delays") for delay in delays))
        object.__setattr__(self, "jitter", _checked_jitter(jitter))
        object.__setattr__(self, "horizon", _checked_horizon(horizon))

    def delay(self, failures: int, draw: float) -> timedelta:
        place = max(0, min(failures, len(self.delays) - 1))
        return _spread(self.delays[place], self.jitter, draw)


def beyond_horizon(policy: RetryPolicy, delay: timedelta, *, enqueued_at: datetime, now: datetime) -> bool:
    """Whether a retry after `delay` would start later than the policy's horizon permits."""
    return policy.horizon is not None and now - enqueued_at + delay > policy.horizon


def _spread(bound: timedelta, jitter: Jitter, draw: float) -> timedelta:
    match jitter:
        case "full":
            return bound * draw
        case "proportional":
            return bound * (1 - _SPREAD * draw)
        case "none":
            return bound
        case _:
            assert_never(jitter)


def _checked_jitter(value: Jitter) -> Jitter:
    if value not in get_args(Jitter):
        raise InvalidOption("jitter", f"{value!r} is not one of {', '.join(get_args(Jitter))}")
    return value


def _checked_horizon(value: Duration | None) -> timedelta | None:
    return None if value is None else parse_duration(value, "horizon")


class Steer(Exception):
    """How a handler decides its own end: raise one, or return it."""

    __module__ = "perdure"  # where users import them from, and what operators read


class RetryAfter(Steer):
    """This attempt failed; the next one starts after `delay` instead of the policy's."""

    __module__ = "perdure"

    def __init__(self, delay: Duration, reason: str = "") -> None:
        super().__init__(delay, reason)
        self.delay = parse_duration(delay, "delay")
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or f"retry after {format_duration(self.delay)}"


class Snooze(Steer):
    """Not now: run the job again after `delay`, and count nothing against it."""

    __module__ = "perdure"

    def __init__(self, delay: Duration) -> None:
        super().__init__(delay)
        self.delay = parse_duration(delay, "delay")

    def __str__(self) -> str:
        return f"snoozed for {format_duration(self.delay)}"


class Cancel(Steer):
    """The job need not be done any more; it ends cancelled."""

    __module__ = "perdure"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class GiveUp(Steer):
    """No further attempt can help: the job goes to the dead letter queue at once."""

    __module__ = "perdure"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
