"""What the lives of workers teach: moments at which they were seen, each with the time until a failure or until nothing more was seen.

A worker fails when it dies unasked, when a process of it crashes, when so many of its jobs fail that the fleet's do not, or when
its loop is blocked for as long as makes it suspect. What was prevented, or befell most of the fleet at once, is no failure of it: there the
observation ends (it is censored).
"""

import math
import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from perdure.domain.health.drift import Limits, failure_shares
from perdure.domain.sample import Sample

EVERY = 6
"""Of so many samples one is a moment that is learnt from: one a minute at ten seconds a sample."""

SAMPLES_MIN = 5
FLEET_MIN = 3
FLEET_SHARE = 0.55
AT_ONCE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From one moment to another."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What is known of a worker from its start until its end, or until now.

    `died` says that its end was neither planned nor part of a silence of the whole fleet. While work was `withheld` from it because of a
    warning that was acted upon, or because it was evacuated, a failure counts and its absence does not.
    """

    worker_id: UUID
    samples: Sequence[Sample]
    until: datetime
    died: bool
    withheld: Sequence[Span] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """A worker as it was at its sample number `index`, and for how many seconds it was seen after; `failed` says what ended that."""

    life: int
    index: int
    at: datetime
    seconds: float
    failed: bool


def limits_of(lives: Iterable[Life], *, lag_max: timedelta) -> Limits:
    """Beyond what a worker of this fleet counts as failing; its share of failures is judged beside the median of all."""
    shares = [_usual_share(life) for life in lives]
    known = [one for one in shares if math.isfinite(one)]
    return Limits(
        lag_ms=1000 * lag_max.total_seconds(), fleet_failure_share=statistics.median(known) if known else 0.0
    )


def moments(
    lives: Sequence[Life], limits: Limits, incidents: Sequence[Span] = (), *, every: int = EVERY
) -> list[Moment]:
    """What can be learnt from all lives, by worker and time; `incidents` are times in which the fleet as a whole was troubled."""
    signs = [_Signs.of(life, limits) for life in lives]
    troubled = [*incidents, *_together(lives, signs)]
    return [
        moment
        for number, (life, sign) in enumerate(zip(lives, signs, strict=True))
        for moment in _moments(number, life, sign, troubled, every)
    ]


def failures(lives: Sequence[Life], limits: Limits, incidents: Sequence[Span] = ()) -> int:
    """How often workers failed, each by itself."""
    signs = [_Signs.of(life, limits) for life in lives]
    troubled = [*incidents, *_together(lives, signs)]
    return sum(not _within(at, troubled) for sign in signs for at in sign.failures)


@dataclass(frozen=True, slots=True)
class _Signs:
    """When a worker failed, in order, and for each sample whether it was failing then."""

    failures: tuple[datetime, ...]
    failing: tuple[bool, ...]

    @classmethod
    def of(cls, life: Life, limits: Limits) -> "_Signs":
        shares = failure_shares(life.samples)
        failing = tuple(
            one.crashed > 0 or share >= limits.failure_share or (one.loop_lag_ms or 0.0) >= limits.lag_ms
            for one, share in zip(life.samples, shares, strict=True)
        )
        began = [
            one.at
            for one, now, before in zip(life.samples, failing, (False, *failing), strict=False)
            if now and not before
        ]
        return cls(tuple(began + [life.until] * life.died), failing)


def _usual_share(life: Life) -> float:
    finished = sum(max(one.finished, 0) for one in life.samples)
    return sum(max(one.failed, 0) for one in life.samples) / finished if finished else math.nan


def _together(lives: Sequence[Life], signs: Sequence[_Signs]) -> Iterator[Span]:
    """Times in which more than half of the workers that lived then, and at least three, failed within a minute."""
    seconds = AT_ONCE.total_seconds()
    minutes = Counter(
        minute for sign in signs for minute in {int(at.timestamp() // seconds) for at in sign.failures}
    )
    for minute, count in minutes.items():
        if count < FLEET_MIN:
            continue
        since = datetime.fromtimestamp(minute * seconds, tz=lives[0].until.tzinfo)
        alive = sum(bool(life.samples) and life.samples[0].at <= since <= life.until for life in lives)
        if count > FLEET_SHARE * alive:
            yield Span(since, since + AT_ONCE)


def _within(at: datetime, spans: Iterable[Span]) -> bool:
    return any(span.since <= at <= span.until for span in spans)


def _moments(
    number: int, life: Life, signs: _Signs, troubled: Sequence[Span], every: int
) -> Iterator[Moment]:
    for index in range(SAMPLES_MIN - 1, len(life.samples), every):
        at = life.samples[index].at
        if at >= life.until or signs.failing[index] or _within(at, life.withheld) or _within(at, troubled):
            continue
        end, failed = _seen(at, life, signs.failures, troubled)
        yield Moment(number, index, at, (end - at).total_seconds(), failed)


def _seen(
    at: datetime, life: Life, failures: Sequence[datetime], troubled: Sequence[Span]
) -> tuple[datetime, bool]:
    """Until when a worker was seen undisturbed, and whether a failure ended it."""
    after = bisect_right(failures, at)
    failure = failures[after] if after < len(failures) else None
    hindrances = [(span, True) for span in life.withheld] + [(span, False) for span in troubled]
    first = min((one for one in hindrances if one[0].since > at), key=lambda one: one[0].since, default=None)
    if first is None or first[0].since > life.until:
        return (life.until, False) if failure is None else (failure, True)
    span, counts = first
    if failure is not None and (failure < span.since or (counts and failure <= span.until)):
        return failure, True
    return span.since, False
