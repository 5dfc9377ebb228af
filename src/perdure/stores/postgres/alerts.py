"""Alerts on PostgreSQL: facts, standing, silences and the messages on their way."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from perdure.domain.alerts import (
    BY_NAME,
    Alert,
    AlertState,
    Facts,
    KindFacts,
    Message,
    QueueFacts,
    Silence,
    Step,
    TableFacts,
    Waits,
)
from perdure.domain.alerts import limits as limit
from perdure.domain.alerts.facts import WAIT_TARGET_S
from perdure.domain.job import JobState
from perdure.domain.views import QueueView, StatusView
from perdure.ports.alerts import Outgoing
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.insights import PostgresInsights
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

BUDGET = timedelta(seconds=20)
"""So long a part may take: the alerts are wanted most when everything takes long."""
STEP = timedelta(minutes=2)
COUNTED_MAX = 100_000
NAMED_MAX = 50
PACE_SPAN_S = 900.0
TAKEN = timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)
SPANS = {
    "5m": timedelta(minutes=5),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """How the parts stand that no other reading tells of."""

    oldest_letter_s: float
    overdue: int
    workers_lost: int
    evacuation_late_s: float
    snapshot_late_s: float
    snapshot_age_s: float | None
    snapshot_verified_age_s: float | None
    restores_failed: int
    calibration_error: float | None
    held: int
    new_errors: tuple[tuple[str, int], ...]
    short_lives: tuple[tuple[str, int], ...]
    connections: int
    connections_max: int
    tables: tuple[TableFacts, ...]
    failing_channels: tuple[str, ...]
    firing: Mapping[str, int]


class PostgresAlerts:
    """The ports `Alerts` and `Outbox`."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._schema = schema
        self._sql = statements("alerts", schema)
        self._insights = PostgresInsights(database, schema=schema)

    async def facts(self) -> Facts:
        await self._count_up()
        (totals,) = await self._fetch("totals", None)
        kinds = await self._fetch("kinds", None)
        paces = {row["queue"]: row for row in await self._fetch("paces", None)}
        queues = await self._insights.queues(None, budget=BUDGET)
        (slots,) = await self._fetch("slots")
        status = await self._insights.status(budget=BUDGET)
        vitals = await self.vitals()
        counts = {
            name: totals[name] for name in ("attempts", "failed", "finished", "died", "died_15m", "refused")
        }
        return Facts(
            queues=tuple(_queue_facts(queue, paces.get(queue.name)) for queue in queues),
            kinds=tuple(
                KindFacts(kind=row["kind"], ended=row["ended"], failed=row["failed"]) for row in kinds
            ),
            waits=tuple(
                Waits(span=span, started=totals[f"waited_{name}"], late=totals[f"late_{name}"])
                for name, span in SPANS.items()
            ),
            tables=vitals.tables,
            oldest_letter_s=vitals.oldest_letter_s,
            workers_lost=vitals.workers_lost,
            overdue=vitals.overdue,
            evacuation_late_s=vitals.evacuation_late_s,
            snapshot_late_s=vitals.snapshot_late_s,
            snapshot_verified_age_s=vitals.snapshot_verified_age_s or 0.0,
            restores_failed=vitals.restores_failed,
            calibration_error=vitals.calibration_error,
            held=vitals.held,
            new_errors=vitals.new_errors,
            short_lives=vitals.short_lives,
            connections=vitals.connections,
            connections_max=vitals.connections_max,
            failing_channels=vitals.failing_channels,
            **counts,
            **slots,
            **_of_status(status),
        )

    async def _count_up(self) -> None:
        """In steps, for what came since the last look may be minutes and millions."""
        step = STEP
        while step == STEP and (spans := await self._fetch("span_to_count", None, STEP // MILLISECOND)):
            await self._fetch("count_up", *spans[0], WAIT_TARGET_S)
            step = spans[0]["until"] - spans[0]["since"]

    async def vitals(self) -> Vitals:
        """Facts of their own, for metrics, too. Raises DatabaseUnavailable."""
        (row,) = await self._fetch("vitals", limit.OVERDUE_S, COUNTED_MAX)
        tables = await self._fetch("tables", self._schema)
        return Vitals(
            oldest_letter_s=row["oldest_letter_s"] or 0.0,
            overdue=row["overdue"],
            workers_lost=row["workers_lost"],
            evacuation_late_s=max(0.0, row["evacuation_late_s"] or 0.0),
            snapshot_late_s=max(0.0, row["snapshot_late_s"] or 0.0),
            snapshot_age_s=row["snapshot_age_s"],
            snapshot_verified_age_s=row["snapshot_verified_age_s"],
            restores_failed=row["restores_failed"],
            calibration_error=row["calibration_error"],
            held=row["held"],
            new_errors=await self._named("new_errors"),
            short_lives=await self._named("short_lives"),
            connections=row["connections"],
            connections_max=row["connections_max"],
            tables=tuple(TableFacts(name=t["name"], dead=t["dead"], live=t["live"]) for t in tables),
            failing_channels=tuple(row["channel"] for row in await self._fetch("failing_channels")),
            firing={row["rule"]: row["alerts"] for row in await self._fetch("firing")},
        )

    async def _named(self, statement: str) -> tuple[tuple[str, int], ...]:
        return tuple((row["name"], row["count"]) for row in await self._fetch(statement, NAMED_MAX))

    async def alerts(self) -> Sequence[Alert]:
        return [_alert_of(row) for row in await self._fetch("alerts")]

    async def silences(self) -> Sequence[Silence]:
        return [_silence_of(row) for row in await self._fetch("silences", None)]

    async def keep(self, step: Step, messages: Mapping[str, Sequence[Message]]) -> None:
        sent = [(channel, message) for channel, each in messages.items() for message in each]
        marks = [("alert_fired", each) for each in step.fired]
        marks += [("alert_resolved", each) for each in step.resolved]
        calls: list[tuple[str, tuple[object, ...]]] = [
            ("keep_alerts", (_json(list(step.alerts)),)),
            (
                "forget_alerts",
                ([each.rule for each in step.forgotten], [each.target for each in step.forgotten]),
            ),
            (
                "keep_messages",
                (
                    [channel for channel, _ in sent],
                    [message.id for _, message in sent],
                    [_json(message) for _, message in sent],
                ),
            ),
            (
                "mark_events",
                (
                    [event for event, _ in marks],
                    [_queue_of(alert) for _, alert in marks],
                    [_json(_detail_of(alert)) for _, alert in marks],
                ),
            ),
        ]
        await self._database.fetch_all(*((self._sql[name], values) for name, values in calls))

    async def sweep(self) -> None:
        """Remove what nothing looks at any more."""
        await self._fetch("sweep_alerts")

    async def silence(self, rule: str, target: str, *, author: str, reason: str, lasts: timedelta) -> Silence:
        (row,) = await self._fetch("silence", rule, target, author, reason, lasts.total_seconds())
        return _silence_of(row)

    async def unsilence(self, silence_id: UUID, *, author: str) -> Silence | None:
        rows = await self._fetch("unsilence", silence_id, author)
        return _silence_of(rows[0]) if rows else None

    async def due(self, limit: int) -> Sequence[Outgoing]:
        rows = await self._fetch("due_messages", limit, TAKEN // MILLISECOND)
        return [
            Outgoing(
                channel=row["channel"],
                message=msgspec.json.decode(row["body"], type=Message),
                tries=row["tries"],
            )
            for row in rows
        ]

    async def delivered(self, outgoing: Outgoing) -> None:
        await self._fetch("delivered", outgoing.message.id, outgoing.channel)

    async def refused(self, outgoing: Outgoing, error: str, *, again: timedelta) -> None:
        await self._fetch("refused", outgoing.message.id, outgoing.channel, error, again // MILLISECOND)

    async def _fetch(self, name: str, *values: object) -> list[asyncpg.Record]:
        return await self._database.fetch(self._sql[name], *values)


def _queue_facts(queue: QueueView, pace: asyncpg.Record | None) -> QueueFacts:
    return QueueFacts(
        name=queue.name,
        available=queue.depths.get(JobState.AVAILABLE, 0),
        oldest_s=queue.oldest_available_s or 0.0,
        workers=queue.workers,
        paused=queue.paused,
        arriving=pace["enqueued"] / PACE_SPAN_S if pace else 0.0,
        finishing=pace["finished"] / PACE_SPAN_S if pace else 0.0,
    )


def _of_status(status: StatusView) -> dict[str, Any]:
    return {
        "dead_letters": status.dead_letters or 0,
        "deaf": status.workers_deaf or 0,
        "unserved": sum(each.jobs for each in status.unserved or ()),
        "oldest_transaction_s": status.oldest_transaction_s or 0.0,
    }


def _alert_of(row: asyncpg.Record) -> Alert:
    told = AlertState(row["told"]) if row["told"] else None
    return Alert(**{**dict(row), "state": AlertState(row["state"]), "told": told})


def _silence_of(row: asyncpg.Record) -> Silence:
    return Silence(**dict(row))


def _queue_of(alert: Alert) -> str | None:
    rule = BY_NAME.get(alert.rule)
    return alert.target if rule is not None and rule.label == "queue" else None


def _detail_of(alert: Alert) -> dict[str, object]:
    rule = BY_NAME.get(alert.rule)
    return {
        "rule": alert.rule,
        "target": alert.target,
        "value": alert.value,
        "severity": str(rule.severity) if rule else "",
    }


def _json(value: object) -> str:
    return msgspec.json.encode(
        [asdict(each) for each in value] if isinstance(value, list) else value
    ).decode()
