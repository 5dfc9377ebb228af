"""What a rule is, and how an alert stands: pending until its rule has held for long enough, firing, resolved."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from perdure.domain.alerts.facts import Facts

BLIND_AFTER = timedelta(minutes=5)
"""After such a gap between two looks nobody knows whether a condition held all the time: the wait begins anew."""
REMEMBERED = timedelta(days=7)


class Severity(StrEnum):
    """Whom an alert concerns: `page` somebody now, `ticket` somebody today, `info` nobody in particular."""

    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"


PAGE, TICKET, INFO = Severity.PAGE, Severity.TICKET, Severity.INFO
MINUTE, HOUR, NOW = timedelta(minutes=1), timedelta(hours=1), timedelta(0)
KEEP = 5 * MINUTE
"""For so long a condition must not have held before most alerts are over."""


class AlertState(StrEnum):
    """How an alert stands."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A condition that holds: for which queue, kind, host, worker, error, table or channel (none: for the whole), and the number behind it."""

    target: str = ""
    value: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of alert.

    It fires when `condition` has held for `hold`, and is over when it has not held for `keep`. `promql` is the same
    condition over the metrics of `/metrics`. `label` says what a target is; `summary` may name `{target}` and `{value}`.
    `outside` marks what Perdure cannot see by itself: such rules are for Prometheus alone.
    """

    name: str
    severity: Severity
    hold: timedelta
    keep: timedelta
    summary: str
    impact: str
    condition: Callable[[Facts], Sequence[Finding]]
    promql: str
    label: str = ""
    unit: str = ""
    outside: bool = False
    command: str = "perdure status"
    page: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule about one target. `since`: when it began to hold; `seen_at`: when it held last; `told`: what was last said of it."""

    rule: str
    target: str
    state: AlertState
    since: datetime
    seen_at: datetime
    value: float = 0.0
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    told: AlertState | None = None
    told_at: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells alerts apart."""
        return self.rule, self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nothing is said of alerts of a rule (or of all: `*`), of one target or of all of them (empty), until it expires."""

    id: UUID
    rule: str
    target: str
    author: str
    reason: str
    created_at: datetime
    expires_at: datetime

    def covers(self, alert: Alert, now: datetime) -> bool:
        """Whether nothing is to be said of this alert."""
        return now < self.expires_at and self.rule in {"*", alert.rule} and self.target in {"", alert.target}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a look came to: alerts as they stand now, those that are forgotten, and those that fired or were resolved in it."""

    alerts: tuple[Alert, ...]
    forgotten: tuple[Alert, ...]
    fired: tuple[Alert, ...]
    resolved: tuple[Alert, ...]


def advance(known: Iterable[Alert], facts: Facts, rules: Iterable[Rule], now: datetime) -> Step:
    """Judge the facts by the rules and move each alert on."""
    ruled = {rule.name: rule for rule in rules}
    found = {
        (rule.name, finding.target): finding for rule in ruled.values() for finding in rule.condition(facts)
    }
    before = {alert.key: alert for alert in known}
    after: list[Alert] = []
    forgotten: list[Alert] = []
    for key in sorted(before.keys() | found.keys()):
        moved = _moved(before.get(key), found.get(key), ruled.get(key[0]), key, now)
        if moved is not None:
            after.append(moved)
        else:
            forgotten.append(before[key])
    return Step(
        alerts=tuple(after),
        forgotten=tuple(forgotten),
        fired=_newly(after, before, AlertState.FIRING),
        resolved=_newly(after, before, AlertState.RESOLVED),
    )


def _newly(
    after: Sequence[Alert], before: Mapping[tuple[str, str], Alert], state: AlertState
) -> tuple[Alert, ...]:
    return tuple(
        alert
        for alert in after
        if alert.state is state and (alert.key not in before or before[alert.key].state is not state)
    )


def _moved(
    alert: Alert | None, finding: Finding | None, rule: Rule | None, key: tuple[str, str], now: datetime
) -> Alert | None:
    if rule is None or finding is None:
        return None if alert is None else _absent(alert, rule, now)
    if alert is None or alert.state is AlertState.RESOLVED or _is_stale(alert, now):
        alert = Alert(rule=key[0], target=key[1], state=AlertState.PENDING, since=now, seen_at=now)
    alert = replace(alert, seen_at=now, value=finding.value)
    if alert.state is AlertState.PENDING and now - alert.since >= rule.hold:
        return replace(alert, state=AlertState.FIRING, fired_at=now)
    return alert


def _is_stale(alert: Alert, now: datetime) -> bool:
    return alert.state is AlertState.PENDING and now - alert.seen_at > BLIND_AFTER


def _absent(alert: Alert, rule: Rule | None, now: datetime) -> Alert | None:
    match alert.state:
        case AlertState.PENDING:
            return None
        case AlertState.FIRING if rule is None or now - alert.seen_at >= rule.keep:
            return replace(alert, state=AlertState.RESOLVED, resolved_at=now)
        case AlertState.RESOLVED if now - (alert.resolved_at or now) > REMEMBERED:
            return None
        case _:
            return alert
