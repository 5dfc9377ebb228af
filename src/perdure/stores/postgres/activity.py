"""Activity: counts by the minute and the trail of events, each read within a budget."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec

from perdure.domain.activity import (
    BUCKETS,
    EventChoice,
    EventPage,
    EventSubject,
    Metered,
    MeteredAttempts,
    MeteredJobs,
    Minute,
    QueueRate,
    ThroughputView,
)
from perdure.domain.errors import DatabaseUnavailable, InvalidOption
from perdure.ports import By
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rollups import MILLISECOND, MINUTE, SKEW, id_at, minute_of
from perdure.stores.postgres.rows import event_of
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

_METERED = tuple(MeteredAttempts.__dataclass_fields__)
UNFINISHED = "The time budget ended the search here; narrow it."


class PostgresActivity:
    """Reads what the service `Activity` asks for, and writes its events."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("activity", schema)
        self._rollups = statements("rollups", schema)
        self._bounded = statements("insights", schema)["bounded"]

    async def throughput(self, since: datetime, until: datetime, *, budget: timedelta) -> ThroughputView:
        """Whole minutes from the counts that the leader keeps, the rest from the history itself."""
        notes: list[str] = []
        counted = await self._counted(since, until)
        begun, since = since, max(since, max(counted) + MINUTE) if counted else since
        ended, enqueued = await self._counts(since, until, budget, notes) if since < until else ({}, {})
        minutes = []
        at = minute_of(begun)
        while at < until:
            row = ended.get(at)
            counts = {name: row[name] for name in ("completed", "failed", "other")} if row else {}
            minutes.append(counted.get(at) or Minute(at=at, enqueued=enqueued.get(at, 0), **counts))
            at += MINUTE
        return ThroughputView(minutes=tuple(minutes), complete=not notes, note="; ".join(notes))

    async def _counts(
        self, since: datetime, until: datetime, budget: timedelta, notes: list[str]
    ) -> tuple[dict[datetime, asyncpg.Record], dict[datetime, int]]:
        """What ended and what came in each minute, by the history; `notes` gets what was not counted in time."""
        ended: dict[datetime, asyncpg.Record] = {}
        enqueued: dict[datetime, int] = {}
        try:
            ended = {row["at"]: row for row in await self._within(budget / 2, "ended", since, until)}
        except asyncpg.QueryCanceledError:
            notes.append("attempts that ended: not counted within the time budget")
        try:
            bounds = (since, until, id_at(since - SKEW), id_at(until + SKEW))
            enqueued = {
                row["at"]: row["enqueued"] for row in await self._within(budget / 2, "enqueued", *bounds)
            }
        except asyncpg.QueryCanceledError:
            notes.append("jobs enqueued: not counted within the time budget")
        return ended, enqueued

    async def _counted(self, since: datetime, until: datetime) -> dict[datetime, Minute]:
        """The minutes from the beginning of the span on that are counted without a gap; none when its first one is not."""
        found: dict[datetime, Minute] = {}
        expected = minute_of(since)
        for row in await self._database.fetch(self._rollups["minutes"], expected, until):
            if row["at"] != expected:
                break
            found[expected] = Minute(**row)
            expected += MINUTE
        return found

    async def queue_rates(self, *, budget: timedelta) -> Sequence[QueueRate]:
        first = id_at(datetime.now(UTC) - MINUTE - SKEW)
        try:
            rows = await self._within(budget, "queue_rates", first)
        except asyncpg.QueryCanceledError as error:
            raise DatabaseUnavailable("the rates of the queues were not counted in time") from error
        return [
            QueueRate(
                queue=row["queue"],
                arriving=row["arrived"] / 60,
                finishing=row["ended"] / 60,
                failing=row["failed"] / 60,
            )
            for row in rows
        ]

    async def metered(self, since: datetime, until: datetime, *, budget: timedelta) -> Metered:
        first, last = id_at(since - SKEW), id_at(until + SKEW)
        try:
            ended = await self._within(budget, "meter_ended", since, until, list(BUCKETS))
            finished = await self._within(budget, "meter_finished", since, until, list(BUCKETS))
            enqueued = await self._within(budget, "meter_enqueued", first, last, since, until)
            events = await self._within(budget, "meter_events", since, until)
        except asyncpg.QueryCanceledError as error:
            raise DatabaseUnavailable("what happened was not counted in time") from error
        messages = await self._if_soon(budget, "meter_messages", since, until)
        claims = await self._if_soon(budget, "meter_claims", since, until, list(BUCKETS))
        return Metered(
            attempts=tuple(MeteredAttempts(**{name: row[name] for name in _METERED}) for row in ended),
            enqueued={(row["queue"], row["kind"]): row["jobs"] for row in enqueued},
            events={row["event"]: row["events"] for row in events},
            finished=tuple(
                MeteredJobs(queue=r["queue"], bucket=r["bucket"], jobs=r["jobs"], whole_s=r["whole_s"])
                for r in finished
            ),
            notifications={
                (row["channel"], result): row[result]
                for row in messages
                for result in ("delivered", "failed")
            },
            claims=tuple((row["bucket"], row["claims"], float(row["claim_s"])) for row in claims),
        )

    async def _if_soon(self, budget: timedelta, name: str, *values: object) -> Sequence[asyncpg.Record]:
        """What is no more than useful beside the rest: nothing, where it takes long."""
        try:
            return await self._within(budget / 4, name, *values)
        except asyncpg.QueryCanceledError:
            return ()

    async def events(
        self, choice: EventChoice, *, limit: int, before: str | None, budget: timedelta
    ) -> EventPage:
        cursor = _cursor(before)
        event = choice.event and choice.event.replace("%", r"\%").replace("_", r"\_").replace("*", "%")
        try:
            rows = await self._within(
                budget,
                "events",
                *cursor,
                event,
                choice.actor,
                choice.queue,
                choice.since,
                choice.until,
                limit + 1,
            )
        except asyncpg.QueryCanceledError:
            return EventPage(events=(), cursor=before, complete=False, note=UNFINISHED)
        shown = rows[:limit]
        more = (
            f"{shown[-1]['at'].isoformat()}~{shown[-1]['xid']}~{shown[-1]['key']}"
            if len(rows) > limit
            else None
        )
        return EventPage(events=tuple(map(event_of, shown)), cursor=more)

    async def record(self, event: str, by: By, subject: EventSubject) -> None:
        detail = msgspec.json.encode(subject.detail).decode() if subject.detail else None
        await self._database.fetch(
            self._sql["record"],
            event,
            subject.job_id,
            subject.worker_id,
            subject.queue,
            by.actor,
            by.reason or None,
            detail,
        )

    async def _within(self, budget: timedelta, name: str, *values: object) -> list[asyncpg.Record]:
        milliseconds = str(max(1, budget // MILLISECOND))
        return (await self._database.fetch_all((self._bounded, (milliseconds,)), (self._sql[name], values)))[
            1
        ]


def _cursor(text: str | None) -> tuple[datetime | None, str | None, str | None]:
    if text is None:
        return None, None, None
    at, _, rest = text.partition("~")
    xid, separator, key = rest.partition("~")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None or not separator or not _is_xid(xid) or "\0" in key:
        raise InvalidOption(
            "cursor", f"{text!r} is not a cursor", next_step="pass the cursor of the page before"
        )
    return moment, xid, key


def _is_xid(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
