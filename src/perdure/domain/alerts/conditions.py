"""The conditions of the rules that are more than a comparison."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from perdure.domain.alerts import limits as limit
from perdure.domain.alerts.facts import Facts
from perdure.domain.alerts.standing import Finding

Condition = Callable[[Facts], Sequence[Finding]]


def above(value: float, most: float) -> list[Finding]:
    """One finding about the whole, when a value is above a limit."""
    return [Finding(value=value)] if value > most else []


def no_workers(facts: Facts) -> list[Finding]:
    """Queues with jobs that may start, and nobody to start them."""
    return [
        Finding(target=queue.name, value=queue.available)
        for queue in facts.queues
        if queue.available > 0 and queue.workers == 0 and not queue.paused
    ]


def late_in(brief: timedelta, long: timedelta, most: float) -> Condition:
    """Late starts in the long span, that still go on in the brief one."""

    def condition(facts: Facts) -> list[Finding]:
        return above(facts.late_share(long), most) if facts.late_share(brief) > most else []

    return condition


def head_stuck(facts: Facts) -> list[Finding]:
    """Queues whose oldest job waits far longer than it should."""
    return [
        Finding(target=queue.name, value=queue.oldest_s)
        for queue in facts.queues
        if queue.oldest_s > limit.HEAD_S and not queue.paused
    ]


def will_not_drain(facts: Facts) -> list[Finding]:
    """Queues that need more than the time allowed at their net pace, or never get empty."""
    return [
        Finding(target=queue.name, value=queue.available)
        for queue in facts.queues
        if queue.available > limit.BACKLOG_MIN
        and queue.available > limit.DRAIN_S * (queue.finishing - queue.arriving)
    ]


def saturated(facts: Facts) -> list[Finding]:
    """Nearly all slots are busy while jobs wait."""
    if not facts.slots or not facts.available:
        return []
    return above(facts.busy / facts.slots, limit.SATURATION)


def error_ratio(most: float) -> Condition:
    """Kinds of which more than a part fails."""

    def condition(facts: Facts) -> list[Finding]:
        return [
            Finding(target=kind.kind, value=kind.failed / kind.ended)
            for kind in facts.kinds
            if kind.ended >= limit.EVENTS_MIN and kind.failed / kind.ended > most
        ]

    return condition


def retry_rate(facts: Facts) -> list[Finding]:
    """Attempts that failed and did not end their job."""
    if facts.attempts < limit.EVENTS_MIN:
        return []
    return above((facts.failed - facts.died) / facts.attempts, limit.RETRIES)


def retry_storm(facts: Facts) -> list[Finding]:
    """Many attempts for each job that ends."""
    if facts.attempts < limit.EVENTS_MIN:
        return []
    return above(facts.attempts / max(facts.finished, 1), limit.ATTEMPTS_PER_JOB)


def failure_rate(facts: Facts) -> list[Finding]:
    """The part of the workers that died lately."""
    if not facts.workers_lost:
        return []
    return above(facts.workers_lost / (facts.workers_lost + facts.workers), limit.WORKER_FAILURES)


def each_above(counts: Sequence[tuple[str, float]], most: float) -> list[Finding]:
    """One finding for each name that is above a limit."""
    return [Finding(target=name, value=value) for name, value in counts if value > most]


def failure_likely(facts: Facts) -> list[Finding]:
    """Workers that are likely to fail, told by a model of which it is known how far it can be trusted."""
    if facts.calibration_error is None or facts.calibration_error > limit.MISCALIBRATED:
        return []
    return each_above(facts.risks, limit.RISK)


def connections(facts: Facts) -> list[Finding]:
    """The part of the server's connections that is in use."""
    return (
        above(facts.connections / facts.connections_max, limit.CONNECTIONS) if facts.connections_max else []
    )


def bloat(facts: Facts) -> list[Finding]:
    """Tables with many dead rows, and far more of them than live ones."""
    return [
        Finding(target=table.name, value=table.dead / max(table.live, 1))
        for table in facts.tables
        if table.dead > limit.DEAD_ROWS_MIN and table.dead > limit.DEAD_PER_LIVE * max(table.live, 1)
    ]
