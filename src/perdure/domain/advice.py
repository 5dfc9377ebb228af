"""Advice on a kind from how its attempts went: durations, failures, time-outs, retry delays and workers, each with its evidence."""

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import median, quantiles
from uuid import UUID

from perdure.domain.settlement import Outcome

FEWEST = 30
"""With fewer ended attempts, or in one group, nothing is advised."""
FEWEST_TO_LEARN = 100
"""With fewer successes no argument is looked at."""
TAIL = 3.0
"""A time-out is that many times the 99th percentile: a slow day ends nothing, a hung attempt ends."""
BETTER_BY = 0.1
"""An argument, a delay or a set of labels must be better by so large a share before it is named."""
Z = 1.96
DELAYS_S = (1.0, 10.0, 60.0, 600.0)
BAD = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CRASHED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One ended attempt, as far as advice needs it; `numbers` are the numeric arguments of its job."""

    job_id: UUID
    run: int
    attempt: int
    outcome: Outcome
    settled_at: datetime
    ran_s: float | None = None
    retry_s: float | None = None
    error: str = ""
    message: str = ""
    labels: tuple[str, ...] = ()
    timeout_s: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`part` of `of`, with the bounds that hold the true share in 95 of 100 cases (Wilson's interval)."""

    part: int
    of: int

    @property
    def value(self) -> float:
        return self.part / self.of if self.of else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        middle = self.value + Z * Z / (2 * self.of)
        spread = Z * math.sqrt(self.value * (1 - self.value) / self.of + Z * Z / (4 * self.of * self.of))
        whole = 1 + Z * Z / self.of
        return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """How well durations are told beforehand, on the last fifth of the successes: mean absolute errors in seconds.

    `argument` is the numeric argument that helps, with the median for each of its ranges (from, seconds); none where none does.
    """

    error_s: float
    plain_error_s: float
    tested: int
    argument: str = ""
    ranges: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """How long successful attempts run, in seconds."""

    median_s: float
    p90_s: float
    p99_s: float
    successes: int
    prediction: Prediction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A cause of failures, and how many of them it has."""

    error: str
    message: str
    share: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutAdvice:
    """A time-out in seconds; `ended` successes of those seen would have been ended by it. `now_s` is what jobs have."""

    timeout_s: float
    now_s: float | None
    ended: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAdvice:
    """The shortest delay after which retries went about as well as after any: at least `delay_s`, with the share that succeeded."""

    delay_s: float
    succeeded: Share
    others: tuple[tuple[float, Share], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsAdvice:
    """The labels of the workers on which attempts went best, beside all others: share of failures and median duration."""

    labels: tuple[str, ...]
    failed: Share
    median_s: float
    others: Share
    others_median_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the history of a kind says; what too few attempts tell of is None, and `too_few` says so."""

    kind: str
    attempts: int
    since: datetime | None
    until: datetime | None
    duration: Duration | None = None
    failure: Share | None = None
    causes: tuple[Cause, ...] = ()
    timeout: TimeoutAdvice | None = None
    retry: RetryAdvice | None = None
    labels: LabelsAdvice | None = None
    too_few: tuple[str, ...] = ()


def advise(kind: str, attempts: Sequence[Attempt]) -> Advice:
    """What these attempts of one kind say, whatever their order. Interrupted and snoozed ones count for nothing."""
    ended = sorted(
        (each for each in attempts if each.outcome in BAD or each.outcome is Outcome.COMPLETED),
        key=lambda each: each.settled_at,
    )
    if len(ended) < FEWEST:
        return Advice(
            kind=kind,
            attempts=len(ended),
            since=ended[0].settled_at if ended else None,
            until=ended[-1].settled_at if ended else None,
            too_few=(f"{len(ended)} attempts have ended, and advice needs {FEWEST}",),
        )
    bad = [each for each in ended if each.outcome in BAD]
    duration = _duration(ended)
    retry, labels = _retry(ended), _labels(ended)
    missing = {
        "durations": duration,
        "retries at one delay": retry,
        "attempts on workers with other labels": labels,
    }
    return Advice(
        kind=kind,
        attempts=len(ended),
        since=ended[0].settled_at,
        until=ended[-1].settled_at,
        duration=duration,
        failure=Share(part=len(bad), of=len(ended)),
        causes=_causes(bad),
        timeout=_timeout(ended, duration),
        retry=retry,
        labels=labels,
        too_few=tuple(
            f"fewer than {FEWEST} {what}, or none better" for what, told in missing.items() if told is None
        ),
    )


def _successes(ended: Sequence[Attempt]) -> list[Attempt]:
    return [each for each in ended if each.outcome is Outcome.COMPLETED and each.ran_s is not None]


def _ran(attempts: Sequence[Attempt]) -> list[float]:
    return [each.ran_s for each in attempts if each.ran_s is not None]


def _duration(ended: Sequence[Attempt]) -> Duration | None:
    successes = _successes(ended)
    if len(successes) < FEWEST:
        return None
    ran = _ran(successes)
    cuts = quantiles(ran, n=100, method="inclusive")
    return Duration(
        median_s=median(ran),
        p90_s=cuts[89],
        p99_s=cuts[98],
        successes=len(ran),
        prediction=predict(successes) if len(ran) >= FEWEST_TO_LEARN else None,
    )


def predict(successes: Sequence[Attempt]) -> Prediction:
    """Learn on the first four fifths in time, and measure on the last one.

    An argument is chosen by what it gains on the fourth fifth, which the learning on the first three has not seen.
    """
    fifth = len(successes) // 5
    learnt, chosen_on, tested = (
        successes[: 3 * fifth],
        successes[3 * fifth : 4 * fifth],
        successes[4 * fifth :],
    )
    plain = _error(learnt, chosen_on, "")
    names = sorted({name for each in learnt for name in each.numbers})
    errors = {name: _error(learnt, chosen_on, name) for name in names}
    best = min(errors, key=errors.__getitem__, default="")
    if not best or errors[best] > plain * (1 - BETTER_BY):
        best = ""
    before = successes[: 4 * fifth]
    return Prediction(
        error_s=_error(before, tested, best),
        plain_error_s=_error(before, tested, ""),
        tested=len(tested),
        argument=best,
        ranges=tuple(zip(*_ranges(before, best), strict=True)) if best else (),
    )


def _ranges(learnt: Sequence[Attempt], argument: str) -> tuple[list[float], list[float]]:
    """The quarters of an argument's values: where each begins, and the median duration within it."""
    values = sorted(each.numbers[argument] for each in learnt if argument in each.numbers)
    starts = sorted({values[len(values) * quarter // 4] for quarter in range(4)}) if values else []
    groups: defaultdict[int, list[float]] = defaultdict(list)
    for each in learnt:
        if argument in each.numbers and each.ran_s is not None:
            groups[bisect_right(starts, each.numbers[argument])].append(each.ran_s)
    return starts, [median(groups[place]) for place in range(1, len(starts) + 1)]


def _error(learnt: Sequence[Attempt], tested: Sequence[Attempt], argument: str) -> float:
    """The mean absolute error of the median, or of the median of an argument's range."""
    plain = median(_ran(learnt))
    starts, medians = _ranges(learnt, argument) if argument else ([], [])

    def told(each: Attempt) -> float:
        value = each.numbers.get(argument)
        return plain if value is None else medians[max(0, bisect_right(starts, value) - 1)]

    return sum(abs(told(each) - (each.ran_s or 0.0)) for each in tested) / len(tested)


def _causes(bad: Sequence[Attempt]) -> tuple[Cause, ...]:
    counted = Counter(each.error or each.outcome.value for each in bad)
    newest = {each.error or each.outcome.value: each.message for each in bad}
    return tuple(
        Cause(error=error, message=newest[error], share=Share(part=count, of=len(bad)))
        for error, count in counted.most_common(3)
    )


def _timeout(ended: Sequence[Attempt], duration: Duration | None) -> TimeoutAdvice | None:
    if duration is None or duration.successes < FEWEST_TO_LEARN:
        return None
    ran = _ran(_successes(ended))
    wanted = max(1.0, TAIL * duration.p99_s, 1.1 * max(ran))
    digits = 10 ** math.floor(math.log10(wanted))
    rounded = math.ceil(wanted / digits * 2) / 2 * digits
    return TimeoutAdvice(
        timeout_s=rounded,
        now_s=ended[-1].timeout_s,
        ended=Share(part=sum(each > rounded for each in ran), of=len(ran)),
    )


def _retry(ended: Sequence[Attempt]) -> RetryAdvice | None:
    """Of pairs of attempts that follow each other within a run."""
    in_order = sorted(ended, key=lambda each: (each.job_id, each.run, each.attempt))
    went: defaultdict[float, list[bool]] = defaultdict(list)
    for first, second in pairwise(in_order):
        follows = (second.job_id, second.run, second.attempt) == (first.job_id, first.run, first.attempt + 1)
        if follows and first.outcome in BAD and first.retry_s is not None:
            place = bisect_right(DELAYS_S, first.retry_s)
            went[DELAYS_S[place - 1] if place else 0.0].append(second.outcome is Outcome.COMPLETED)
    shares = {
        delay: Share(part=sum(ends), of=len(ends))
        for delay, ends in sorted(went.items())
        if len(ends) >= FEWEST
    }
    if not shares:
        return None
    most = max(share.value for share in shares.values())
    delay = next(delay for delay, share in shares.items() if share.value >= most * (1 - BETTER_BY))
    others = tuple((each, share) for each, share in shares.items() if each != delay)
    return RetryAdvice(delay_s=delay, succeeded=shares[delay], others=others)


def _labels(ended: Sequence[Attempt]) -> LabelsAdvice | None:
    """The set that fails less than the others beyond doubt, or else, where none fails more, runs faster."""
    groups: defaultdict[tuple[str, ...], list[Attempt]] = defaultdict(list)
    for each in ended:
        groups[each.labels].append(each)
    found = []
    for labels, own in groups.items():
        others = [each for each in ended if each.labels != labels]
        if min(len(own), len(others)) < FEWEST or min(len(_successes(own)), len(_successes(others))) < FEWEST:
            continue
        one = LabelsAdvice(
            labels=labels,
            failed=_failed(own),
            median_s=median(_ran(_successes(own))),
            others=_failed(others),
            others_median_s=median(_ran(_successes(others))),
        )
        surer = one.failed.bounds[1] < one.others.bounds[0]
        as_sure = one.failed.value <= one.others.bounds[1]
        if surer or (as_sure and one.median_s <= one.others_median_s * (1 - BETTER_BY)):
            found.append(one)
    return min(found, key=lambda one: (one.failed.value, one.median_s), default=None)


def _failed(attempts: Sequence[Attempt]) -> Share:
    return Share(part=sum(each.outcome in BAD for each in attempts), of=len(attempts))
