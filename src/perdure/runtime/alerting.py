"""The leader's duty of alerts: it looks, it sends, and it tells by itself when PostgreSQL is away."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from perdure.domain.alerts import BY_NAME, Alert, AlertState, Facts
from perdure.domain.alerts.notices import message
from perdure.domain.alerts.runbooks import Links
from perdure.domain.errors import NotifierFailed
from perdure.ports.alerts import Channel
from perdure.runtime.beside import stores_beside
from perdure.runtime.settings import Settings
from perdure.services.alerts import Manner, Send, Watch
from perdure.stores.notifying.email import NAME as EMAIL
from perdure.stores.notifying.email import Email
from perdure.stores.notifying.prometheus import NAME as ALERTMANAGER
from perdure.stores.notifying.prometheus import Alertmanager
from perdure.stores.notifying.slack import NAME as SLACK
from perdure.stores.notifying.slack import Slack
from perdure.stores.notifying.webhook import NAME as WEBHOOK
from perdure.stores.notifying.webhook import Webhook
from perdure.stores.postgres.alerts import PostgresAlerts

SWEEP_S = 600.0
RISKS_LAST_S = 60.0
"""Predictions are forgotten when no look after the workers' health has followed for so long."""
DOWN = BY_NAME["PerdurePostgresDown"]

log = structlog.get_logger("perdure.alerts")


def channels_of(settings: Settings) -> Mapping[str, Channel]:
    """The channels that the settings name."""
    webhook, slack = settings.alert_webhook.get_secret_value(), settings.alert_slack.get_secret_value()
    smtp, manager = settings.alert_smtp.get_secret_value(), settings.alert_alertmanager.get_secret_value()
    found: dict[str, Channel] = {}
    if webhook:
        found[WEBHOOK] = Webhook(webhook, settings.alert_webhook_secret.get_secret_value())
    if slack:
        found[SLACK] = Slack(slack)
    if smtp and settings.alert_email_from and settings.alert_email_to:
        found[EMAIL] = Email(smtp, sender=settings.alert_email_from, recipients=settings.alert_email_to)
    if manager:
        found[ALERTMANAGER] = Alertmanager(manager, repeat=timedelta(seconds=settings.alert_repeat_s))
    return found


def links_of(settings: Settings) -> Links:
    """Where links in messages lead, by the settings."""
    return Links(dashboard=settings.alert_dashboard, runbooks=settings.alert_runbooks)


class Alerting:
    """Looks and sends. While PostgreSQL is away the last leader tells so by itself, from memory."""

    def __init__(self, settings: Settings, alerts: PostgresAlerts) -> None:
        self._alerts = alerts
        self._channels = channels_of(settings)
        self._manner = Manner(
            channels=tuple(self._channels),
            repeat=timedelta(seconds=settings.alert_repeat_s),
            links=links_of(settings),
        )
        self._settings = settings
        self._risks: tuple[tuple[str, float], ...] = ()
        self._risks_at = 0.0
        self._watch = Watch(alerts, self._manner, more=self._with_more)
        self._send = Send(alerts, self._channels)
        self._outages = {name: Outage() for name in self._channels}
        self._swept_at: float | None = None

    def note_risks(self, risks: Mapping[str, float]) -> None:
        """How likely each living worker fails, as the look after their health has found."""
        self._risks = tuple(risks.items())
        self._risks_at = asyncio.get_running_loop().time()

    async def _with_more(self, facts: Facts) -> Facts:
        beside = await stores_beside(self._settings)
        down = frozenset(name for name, answers in beside.items() if not answers)
        is_fresh = asyncio.get_running_loop().time() - self._risks_at < RISKS_LAST_S
        return replace(facts, risks=self._risks if is_fresh else (), stores_down=down)

    async def look(self) -> None:
        """One look. Raises Unavailable."""
        report = await self._watch.run_once()
        await self._sweep()
        if report.fired:
            log.warning("alerts fire", alerts=list(report.fired))
        if report.resolved:
            log.info("alerts are over", alerts=list(report.resolved))

    async def send(self) -> None:
        """Send what is due. Raises Unavailable."""
        report = await self._send.run_once()
        for channel, why in report.refused.items():
            log.warning("a message about an alert did not get through", channel=channel, why=why)

    async def tell_of_outage(self, *, away: bool) -> None:
        """Tell, without the database, that it has been away for too long, and later that it is back."""
        await asyncio.gather(*(self._tell(name, away=away) for name in self._channels))

    async def _tell(self, name: str, *, away: bool) -> None:
        """What does not get through is due again the next time, on this channel alone."""
        now, outage = datetime.now(UTC), self._outages[name]
        alert = outage.lasts(now) if away else outage.over(now)
        if alert is None:
            return
        said = message([alert], now=now, repeat=self._manner.repeat, links=self._manner.links)
        try:
            await self._channels[name].send(said)
        except NotifierFailed as error:
            log.warning("a message about an alert did not get through", channel=name, why=error.message)
        else:
            outage.told(alert)

    async def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._swept_at is None or now - self._swept_at >= SWEEP_S:
            self._swept_at = now
            await self._alerts.sweep()


class Outage:
    """How long PostgreSQL has been away, as one process saw it, and whether a channel was told."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._told = False

    def lasts(self, now: datetime) -> Alert | None:
        """The alert to be told, once the outage has lasted for long enough."""
        self._since = self._since or now
        if self._told or now - self._since < DOWN.hold:
            return None
        return self._alert(AlertState.FIRING, self._since, now)

    def over(self, now: datetime) -> Alert | None:
        """The alert to be told as over, if it was told."""
        if self._told and self._since is not None:
            return self._alert(AlertState.RESOLVED, self._since, now)
        self._since = None
        return None

    def told(self, alert: Alert) -> None:
        """The channel was told; without this, it is due again."""
        self._told = alert.state is AlertState.FIRING
        if not self._told:
            self._since = None

    @staticmethod
    def _alert(state: AlertState, since: datetime, now: datetime) -> Alert:
        return Alert(
            rule=DOWN.name,
            target="",
            state=state,
            since=since,
            seen_at=now,
            fired_at=since,
            resolved_at=now if state is AlertState.RESOLVED else None,
        )
