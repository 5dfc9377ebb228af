"""Alerts as faces show them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from perdure.domain.alerts.notices import command, summary
from perdure.domain.alerts.rules import BY_NAME
from perdure.domain.alerts.runbooks import runbook_path
from perdure.domain.alerts.standing import Alert, AlertState, Rule, Severity, Silence


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An alert with what its rule says of it; `silenced_until` when nothing is said of it for now; `page` and `runbook` are paths of the dashboard."""

    rule: str
    target: str
    label: str
    state: AlertState
    severity: Severity
    summary: str
    impact: str
    since: datetime
    fired_at: datetime | None
    resolved_at: datetime | None
    value: float
    silenced_until: datetime | None
    command: str
    page: str
    runbook: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """A rule; `outside` ones are for Prometheus alone."""

    name: str
    severity: Severity
    for_s: float
    keep_s: float
    summary: str
    impact: str
    label: str
    promql: str
    outside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPage:
    """The alerts, those that fire first, and the silences in force."""

    alerts: tuple[AlertView, ...]
    silences: tuple[Silence, ...]


def alert_view(alert: Alert, silences: Sequence[Silence], now: datetime) -> AlertView | None:
    """The view of an alert; None when its rule is not known any more."""
    rule = BY_NAME.get(alert.rule)
    if rule is None:
        return None
    ends = [silence.expires_at for silence in silences if silence.covers(alert, now)]
    return AlertView(
        rule=rule.name,
        target=alert.target,
        label=rule.label,
        state=alert.state,
        severity=rule.severity,
        summary=summary(rule, alert.target, alert.value),
        impact=rule.impact,
        since=alert.since,
        fired_at=alert.fired_at,
        resolved_at=alert.resolved_at,
        value=alert.value,
        silenced_until=max(ends, default=None),
        command=command(rule, alert.target),
        page=rule.page,
        runbook=runbook_path(rule, alert.target),
    )


def alert_page(alerts: Iterable[Alert], silences: Sequence[Silence], now: datetime) -> AlertPage:
    """All views, in the order of the alerts."""
    views = (alert_view(alert, silences, now) for alert in alerts)
    return AlertPage(alerts=tuple(view for view in views if view is not None), silences=tuple(silences))


def rule_view(rule: Rule) -> RuleView:
    """A rule as faces show it; in its texts `{target}` and `{value}` stand for what it is about."""
    return RuleView(
        name=rule.name,
        severity=rule.severity,
        for_s=rule.hold.total_seconds(),
        keep_s=rule.keep.total_seconds(),
        summary=rule.summary,
        impact=rule.impact,
        label=rule.label,
        promql=rule.promql,
        outside=rule.outside,
    )
