"""What is said of alerts, when, and how it reads."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from uuid import NAMESPACE_URL, UUID, uuid5

from perdure.domain.alerts.rules import BY_NAME
from perdure.domain.alerts.runbooks import NOWHERE, Links
from perdure.domain.alerts.standing import Alert, AlertState, Rule, Silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel is given: one rule, firing or resolved, with every target that it is said of now.

    `id` is the same when the same thing is said twice, so that a receiver can drop the second.
    """

    id: UUID
    rule: str
    severity: str
    status: str
    title: str
    lines: tuple[str, ...]
    impact: str
    since: datetime
    ended: datetime | None
    label: str
    targets: tuple[str, ...]
    runbook_url: str
    dashboard_url: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """The messages that are due, and the alerts as they stand once those are on their way."""

    messages: tuple[Message, ...]
    alerts: tuple[Alert, ...]


def notices(
    alerts: Iterable[Alert],
    silences: Sequence[Silence],
    *,
    now: datetime,
    repeat: timedelta,
    links: Links = NOWHERE,
) -> Notice:
    """What to say now: of what fires for the first time or again after `repeat`, and of what is over, unless it is silenced."""
    due: list[Alert] = []
    after: list[Alert] = []
    for alert in alerts:
        if alert.rule not in BY_NAME:
            # Of a newer program that led before, or of a rule that is no more: nobody here knows what to say of it.
            after.append(replace(alert, told=alert.state, told_at=now))
        elif not _is_due(alert, now, repeat):
            after.append(alert)
        elif any(silence.covers(alert, now) for silence in silences):
            # A resolved alert of which nothing was to be said is done with; a firing one is told when the silence ends.
            after.append(
                replace(alert, told=AlertState.RESOLVED) if alert.state is AlertState.RESOLVED else alert
            )
        else:
            due.append(alert)
            after.append(replace(alert, told=alert.state, told_at=now))
    due.sort(key=lambda alert: (alert.rule, alert.state, alert.target))
    grouped = groupby(due, key=lambda alert: (alert.rule, alert.state))
    messages = [message(list(group), now=now, repeat=repeat, links=links) for _, group in grouped]
    return Notice(messages=tuple(messages), alerts=tuple(after))


def message(alerts: Sequence[Alert], *, now: datetime, repeat: timedelta, links: Links = NOWHERE) -> Message:
    """What is said of alerts of one rule in one state."""
    rule, first = BY_NAME[alerts[0].rule], alerts[0]
    firing = first.state is AlertState.FIRING
    since = min(alert.fired_at or alert.since for alert in alerts)
    said = (now - since) // repeat if firing else 0
    keys = " ".join(f"{alert.target}@{alert.fired_at}" for alert in alerts)
    return Message(
        id=uuid5(NAMESPACE_URL, f"perdure:{rule.name}:{first.state}:{said}:{keys}"),
        rule=rule.name,
        severity=str(rule.severity),
        status="firing" if firing else "resolved",
        title=rule.name if firing else f"{rule.name} is over",
        lines=tuple(summary(rule, alert.target, alert.value) for alert in alerts),
        impact=rule.impact,
        since=since,
        ended=None if firing else max(alert.resolved_at or now for alert in alerts),
        label=rule.label,
        targets=tuple(alert.target for alert in alerts),
        runbook_url=links.runbook(rule, first.target),
        dashboard_url=links.page(rule),
        command=command(rule, first.target),
    )


def summary(rule: Rule, target: str, value: float) -> str:
    """The sentence of a rule about one target."""
    return rule.summary.format(target=target, value=f"{_figure(value, rule.unit)}")


def command(rule: Rule, target: str) -> str:
    """The first command of a rule about one target, whose name is quoted for a shell: it may be anybody's text."""
    return rule.command.format(target=shlex.quote(target))


def text_of(said: Message) -> str:
    """A message as plain text."""
    lines = [f"[{said.status}, {said.severity}] {said.title}", *said.lines, said.impact]
    lines.append(
        f"Since {said.since:%Y-%m-%d %H:%M:%S} UTC"
        + (f", over at {said.ended:%H:%M:%S}" if said.ended else "")
    )
    if said.status == "firing":
        lines.append(f"First look: {said.command}")
    links = {"Dashboard": said.dashboard_url, "Runbook": said.runbook_url}
    return "\n".join([*lines, *(f"{name}: {url}" for name, url in links.items() if url)])


def webhook_body(said: Message) -> Mapping[str, object]:
    """A message as what programs read."""
    return {
        "schema": "perdure.alert_message/1",
        "id": str(said.id),
        "alert": said.rule,
        "severity": said.severity,
        "status": said.status,
        "summary": list(said.lines),
        "impact": said.impact,
        "since": said.since.isoformat(),
        "ended": said.ended.isoformat() if said.ended else None,
        "label": said.label,
        "targets": list(said.targets),
        "runbook_url": said.runbook_url,
        "dashboard_url": said.dashboard_url,
        "command": said.command,
    }


def _is_due(alert: Alert, now: datetime, repeat: timedelta) -> bool:
    match alert.state:
        case AlertState.FIRING:
            return (
                alert.told is not AlertState.FIRING or alert.told_at is None or now - alert.told_at >= repeat
            )
        case AlertState.RESOLVED:
            return alert.told is AlertState.FIRING
        case _:
            return False


def _figure(value: float, unit: str) -> str:
    if unit == "share":
        return f"{value * 100:.0f} %"
    if unit == "s":
        return str(timedelta(seconds=round(value)))
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"
