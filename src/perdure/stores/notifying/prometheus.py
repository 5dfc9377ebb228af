"""Alerts for an Alertmanager, by its API of version 2."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from perdure.domain.alerts import Message
from perdure.stores.notifying.http import post

NAME = "alertmanager"


class Alertmanager:
    """Pushes each target of a message as an alert; one that fires ends by itself when it is not pushed again in time."""

    def __init__(
        self, url: str, *, repeat: timedelta, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._url = url.rstrip("/") + "/api/v2/alerts"
        self._repeat = repeat
        self._clock = clock

    async def send(self, message: Message) -> None:
        ends = message.ended or self._clock() + 2 * self._repeat
        alerts = [
            {
                "labels": {
                    "alertname": message.rule,
                    "severity": message.severity,
                    **({message.label: target} if message.label else {}),
                },
                "annotations": {
                    "summary": line,
                    "impact": message.impact,
                    "runbook_url": message.runbook_url,
                    "dashboard_url": message.dashboard_url,
                },
                "startsAt": message.since.isoformat(),
                "endsAt": ends.isoformat(),
            }
            for target, line in zip(message.targets, message.lines, strict=True)
        ]
        await post(NAME, self._url, msgspec.json.encode(alerts), {})
