"""Alerts: look at the facts, move alerts on, send what is to be said, and silence what is known."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from perdure.domain.alerts import BY_NAME, RULES, Alert, AlertState, Facts, Message, Silence, advance, notices
from perdure.domain.alerts.notices import message
from perdure.domain.alerts.runbooks import NOWHERE, Links
from perdure.domain.alerts.views import AlertPage, alert_page
from perdure.domain.bounds import checked_name
from perdure.domain.errors import InvalidOption, NotFound, NotifierFailed
from perdure.ports import Clock
from perdure.ports.alerts import Alerts, Channel, Outbox

AT_ONCE = 20
FIRST_AGAIN = timedelta(seconds=10)
LAST_AGAIN = timedelta(minutes=5)
LONGEST_SILENCE = timedelta(days=30)
REASON_MAX = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """What a look came to."""

    firing: int
    fired: tuple[str, ...]
    resolved: tuple[str, ...]
    messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReport:
    """Messages that got through, and what went wrong with others, by channel."""

    delivered: int
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How alerts are told: on which channels, how often again, and where their links lead."""

    channels: tuple[str, ...]
    repeat: timedelta
    links: Links = NOWHERE


async def nothing_more(facts: Facts) -> Facts:
    """For whom the database knows everything."""
    return facts


class Watch:
    """One look at the facts: alerts move on, and what is to be said of them is put on its way.

    `more` adds to the facts what the database does not know.
    """

    def __init__(
        self,
        alerts: Alerts,
        manner: Manner,
        clock: Clock | None = None,
        *,
        more: Callable[[Facts], Awaitable[Facts]] = nothing_more,
    ) -> None:
        self._alerts = alerts
        self._manner = manner
        self._clock = clock
        self._more = more

    async def run_once(self) -> WatchReport:
        """Look, judge, and keep what came of it. Raises DatabaseUnavailable."""
        facts = await self._more(await self._alerts.facts())
        now = datetime.now(UTC) if self._clock is None else self._clock.now()
        rules = [rule for rule in RULES if not rule.outside]
        step = advance(await self._alerts.alerts(), facts, rules, now)
        notice = notices(
            step.alerts,
            await self._alerts.silences(),
            now=now,
            repeat=self._manner.repeat,
            links=self._manner.links,
        )
        kept = replace(step, alerts=notice.alerts)
        await self._alerts.keep(kept, dict.fromkeys(self._manner.channels, notice.messages))
        return WatchReport(
            firing=sum(alert.state is AlertState.FIRING for alert in step.alerts),
            fired=_names(step.fired),
            resolved=_names(step.resolved),
            messages=len(notice.messages),
        )


class Send:
    """Hands messages to their channels, and tries again with what did not get through."""

    def __init__(self, outbox: Outbox, channels: Mapping[str, Channel]) -> None:
        self._outbox = outbox
        self._channels = channels

    async def run_once(self) -> SendReport:
        """Send what is due. Raises DatabaseUnavailable."""
        delivered, failed = 0, {}
        for outgoing in await self._outbox.due(AT_ONCE):
            try:
                await self._channel(outgoing.channel).send(outgoing.message)
            except NotifierFailed as error:
                failed[outgoing.channel] = error.message
                again = min(LAST_AGAIN, FIRST_AGAIN * 2 ** min(outgoing.tries - 1, 10))
                await self._outbox.refused(outgoing, error.message, again=again)
            else:
                delivered += 1
                await self._outbox.delivered(outgoing)
        return SendReport(delivered=delivered, refused=failed)

    def _channel(self, name: str) -> Channel:
        if name not in self._channels:
            raise NotifierFailed(name, "the settings of this supervisor do not have the channel")
        return self._channels[name]


class Silencing:
    """Alerts for faces: see them, silence them, end a silence."""

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts

    async def page(self) -> AlertPage:
        """Alerts that are firing, pending or lately resolved, in this order, the newest first; and the silences in force."""
        order = {AlertState.FIRING: 0, AlertState.PENDING: 1, AlertState.RESOLVED: 2}
        found = sorted(await self._alerts.alerts(), key=lambda alert: alert.since, reverse=True)
        silences = await self._alerts.silences()
        return alert_page(sorted(found, key=lambda alert: order[alert.state]), silences, datetime.now(UTC))

    async def silence(
        self, rule: str, target: str = "", *, author: str, reason: str, lasts: timedelta
    ) -> Silence:
        """Say nothing of a rule's alerts (`*`: of any), or of those about one target. Raises InvalidOption."""
        if rule != "*" and rule not in BY_NAME:
            raise InvalidOption("rule", f"there is no alert {rule!r}", next_step="see `perdure alert rules`")
        if not timedelta(0) < lasts <= LONGEST_SILENCE:
            raise InvalidOption("for", f"must be above zero and at most {LONGEST_SILENCE.days} days")
        if not reason.strip():
            raise InvalidOption("reason", "say why, for those who wonder about the silence")
        if "\0" in reason + target or len(reason) > REASON_MAX:
            raise InvalidOption("reason", f"must have at most {REASON_MAX} characters, none of them NUL")
        checked_name(author, "actor")
        return await self._alerts.silence(
            rule, target and checked_name(target, "target"), author=author, reason=reason, lasts=lasts
        )

    async def unsilence(self, silence_id: UUID, *, author: str) -> Silence:
        """End a silence now. Raises NotFound."""
        ended = await self._alerts.unsilence(silence_id, author=checked_name(author, "actor"))
        if ended is None:
            raise NotFound("silence in force", silence_id, next_step="see `perdure alert list`")
        return ended


def trial(now: datetime | None = None, *, links: Links = NOWHERE) -> Message:
    """A message that says of itself that it is a trial."""
    at = now or datetime.now(UTC)
    alert = Alert(
        rule="PerdureWatchdog", target="", state=AlertState.FIRING, since=at, seen_at=at, fired_at=at
    )
    said = message([alert], now=at, repeat=timedelta(hours=1), links=links)
    return replace(
        said, title="A trial of this channel", lines=("Nothing is wrong; somebody tries this channel.",)
    )


def _names(alerts: Sequence[Alert]) -> tuple[str, ...]:
    return tuple(f"{alert.rule}({alert.target})" if alert.target else alert.rule for alert in alerts)
