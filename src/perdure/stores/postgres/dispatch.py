"""Dispatch by PostgreSQL alone: batched claims with a watermark, a doorbell by NOTIFY, polling as the truth."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from math import ceil, sqrt
from operator import itemgetter
from time import monotonic
from uuid import UUID

import asyncpg

from perdure.domain.errors import WorkerGone
from perdure.domain.lease import Lease
from perdure.domain.rank import Band
from perdure.ports import Claimer, Place, Scope
from perdure.stores.postgres.connections import Connection, Database, DedicatedDatabase
from perdure.stores.postgres.hearing import PROBE, Hearing
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements
from perdure.stores.postgres.watermarks import ENDLESS, Stream, Watermarks

LANES_S = 1.0
DEFAULT_GRACE_MS = 5_000
LOOKS = 5
"""How often a claim looks further that met jobs which may not start yet."""
TOLD_STREAMS = 100
FEW_STREAMS, MANY_STREAMS = 4, 30
"""A few streams are read at once; of many it pays to know which hold jobs, and where the first of each waits (docs/decisions/0036-many-queues.md)."""
PARKED_AT_ONCE = 500
BANDS = (int(Band.HIGH), int(Band.MEDIUM), int(Band.LOW))
CLAIM_SETTINGS = {
    "synchronous_commit": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "default_transaction_isolation": "read committed",
}
"""Claims need no flush: a lost one only means that the job is seen as available again. And their plan must not
flip while the tables grow and shrink by the second (docs/decisions/0004-claim-plan.md). Whoever has waited for a turn must see what
was committed meanwhile."""

TOKEN_BYTES = 16
VERSION_4 = bytes(byte & 0x0F | 0x40 for byte in range(256))
VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))
"""What the bytes of a UUID become that tell its version and its variant (RFC 9562, 5.4)."""

RING = re.compile(r"(\d{1,9}):([0-3]):(-?\d{1,18})")

NEW_LEASE: Callable[..., Lease] = Lease
LEASE_COLUMNS = Lease.__struct_fields__.index("queue")
"""The columns of a claim stand in the order of the lease's fields; queue and kind are known by the lane."""


NOT_ALIVE = "PD006"


@contextmanager
def refused(claimer: Claimer) -> Iterator[None]:
    """Raise WorkerGone in place of the error code of a claim whose worker does not live."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if error.sqlstate == NOT_ALIVE:
            raise WorkerGone(claimer.worker_id) from error
        raise


class PostgresDispatch:
    """The port `Dispatch` on PostgreSQL."""

    def __init__(
        self,
        database: Database,
        *,
        schema: str = DEFAULT_SCHEMA,
        grace_ms: int = DEFAULT_GRACE_MS,
        many_streams: int = MANY_STREAMS,
    ) -> None:
        self._database = database
        self._sql = statements("dispatch", schema)
        self._channel = doorbell(schema)
        self._grace_ms = grace_ms
        self._many_streams = many_streams
        self._watermarks: dict[tuple[bool, Scope | None], Watermarks] = {}
        self._lanes = LaneCache(database, schema=schema)
        self._bell = asyncio.Event()
        self._hearing = Hearing()
        self._listens = False

    async def opened(self, connection: Connection) -> None:
        """Have a new connection listen for the doorbell."""
        self._listens = True
        self._hearing.begin()
        await connection.add_listener(self._channel, lambda *message: self.hear(str(message[3])))

    async def announce(self, places: Sequence[Place]) -> None:
        if places:
            await self._database.fetch(self._sql["ring"], self._channel, ring_for(places))

    def hear(self, payload: str) -> None:
        """Be told that the doorbell rang, and perhaps where the first of the new jobs wait."""
        self._hearing.heard()
        if payload == PROBE:
            return
        self._bell.set()
        told = streams_of(payload)
        for lane, band, rank in told:
            self._lanes.told(lane)
            for (isolated, _), watermarks in self._watermarks.items():
                if isolated == (band == Band.SUSPECT):
                    watermarks.lower(lane, band, rank)
        if not told:
            for watermarks in self._watermarks.values():
                watermarks.ring()

    async def claim(self, claimer: Claimer, scope: Scope, *, limit: int) -> Sequence[Lease]:
        lanes = await self._lanes.of(scope)
        if not lanes or limit < 1:
            return []
        bands = (int(Band.SUSPECT),) if claimer.isolated else BANDS
        streams = [(lane, band) for lane in lanes for band in bands]
        watermarks = self._watermarks_of(claimer, scope)
        leases: list[Lease] = []
        with refused(claimer):
            for _ in range(LOOKS):
                sought = limit - len(leases)
                rows = await self._look(claimer, watermarks, streams, sought)
                gained = await self._with_gated(claimer, rows, sought)
                leases += gained
                if len(rows) < sought or len(gained) == sought:
                    break
                if not gained:
                    await self._park(claimer, streams)
        if leases:
            self._hearing.found()
        else:
            await self._lanes.renew(scope, at_once=not self._listens)
        return leases

    def _watermarks_of(self, claimer: Claimer, scope: Scope | None = None) -> Watermarks:
        """A scope's own: a full pass of one, which looks at its streams alone, is none of another's."""
        return self._watermarks.setdefault((claimer.isolated, scope), Watermarks())

    async def _look(
        self, claimer: Claimer, watermarks: Watermarks, streams: list[Stream], limit: int
    ) -> list[asyncpg.Record]:
        lowered, began = watermarks.lowered, monotonic()
        try:
            if len(streams) <= self._many_streams and not watermarks.quiet:
                rows = await self._take(claimer, watermarks.floors(streams, began), ENDLESS, limit)
            else:
                rows = await self._take_of_many(claimer, watermarks, streams, limit)
        except Exception:
            watermarks.failed()
            raise
        watermarks.looked(rows, lowered, monotonic() - began)
        return rows

    async def _take_of_many(
        self, claimer: Claimer, watermarks: Watermarks, streams: list[Stream], limit: int
    ) -> list[asyncpg.Record]:
        """Take from the streams that begin first; where they do not suffice, ask where the others begin."""
        known = watermarks.occupied(streams, monotonic())
        rows = await self._take(claimer, *watermarks.nearest(known), limit) if known else []
        if len(rows) < limit:
            found = await self._look_around(watermarks, streams)
            for floors, below in watermarks.in_steps(found):
                if len(rows) < limit:
                    rows += await self._take(claimer, floors, below, limit - len(rows))
        return sorted(rows, key=itemgetter("rank", "job_id"))

    async def _look_around(self, watermarks: Watermarks, streams: list[Stream]) -> Mapping[Stream, int]:
        floors = watermarks.floors(streams, monotonic())
        watermarks.look_around()
        heads = await self._database.fetch(self._sql["occupied"], *_columns(floors))
        return watermarks.looked_around(streams, heads, monotonic())

    async def _take(
        self, claimer: Claimer, floors: Mapping[Stream, int], below: int, limit: int
    ) -> list[asyncpg.Record]:
        return await self._database.fetch(
            self._sql["claim"],
            *_columns(floors),
            below,
            few_of(len(floors), limit),
            limit,
            *self._terms(claimer),
            tokens(limit),
        )

    async def confirm(self, claimer: Claimer, places: Sequence[Place]) -> Sequence[Lease]:
        """Lease these jobs, of those still available. Raises WorkerGone.

        Where some have a concurrency key, the best ranked of their streams are leased in place of them: another claimer
        may have been proposed an earlier job of the key, and the slot is for that one.
        """
        with refused(claimer):
            rows = await self._database.fetch(
                self._sql["claim_places"],
                [place.lane for place in places],
                [place.band for place in places],
                [place.rank for place in places],
                [place.job_id for place in places],
                *self._terms(claimer),
                tokens(len(places)),
            )
            gated = [row for row in rows if row["token"] is None]
            if gated:
                rows = [row for row in rows if row["token"] is not None]
                watermarks = self._watermarks_of(claimer)
                for row in gated:
                    watermarks.lower(row["lane"], row["band"], row["rank"])
                streams = sorted({(row["lane"], row["band"]) for row in gated})
                rows += await self._look(claimer, watermarks, streams, len(places) - len(rows))
            return await self._with_gated(claimer, rows, len(places))

    async def _with_gated(self, claimer: Claimer, rows: list[asyncpg.Record], limit: int) -> list[Lease]:
        gated = [row["job_id"] for row in rows if row["token"] is None]
        if gated:
            rows = [row for row in rows if row["token"] is not None]
            rows += await self._claim_gated(claimer, gated, limit - len(rows))
            rows.sort(key=itemgetter("rank", "job_id"))
        return [self._lease(row) for row in rows]

    async def _claim_gated(self, claimer: Claimer, job_ids: list[UUID], limit: int) -> list[asyncpg.Record]:
        return await self._database.fetch(self._sql["claim_gated"], job_ids, limit, *self._terms(claimer))

    async def _park(self, claimer: Claimer, streams: list[Stream]) -> None:
        """Move jobs aside whose keys are full, more than one claim meets, so that those behind them are not held up."""
        rows = await self._database.fetch(
            self._sql["gated_heads"],
            [lane for lane, _ in streams],
            [band for _, band in streams],
            PARKED_AT_ONCE,
        )
        if rows:
            await self._claim_gated(claimer, [row["job_id"] for row in rows], 0)

    def _lease(self, row: asyncpg.Record) -> Lease:
        queue, kind = self._lanes.names[row["lane"]]
        return NEW_LEASE(*row[:LEASE_COLUMNS], queue, kind)

    def _terms(self, claimer: Claimer) -> tuple[object, ...]:
        return claimer.worker_id, claimer.process, claimer.isolated, self._grace_ms

    async def lanes(self, scope: Scope) -> Sequence[int]:
        """The lanes that a scope may take from; may lag a second behind."""
        return await self._lanes.of(scope)

    async def suspects(self, scope: Scope) -> bool:
        """Whether a suspect of this scope waits to be run alone."""
        rows = await self._database.fetch(
            self._sql["suspects"], list(scope.queues), list(scope.kinds), list(scope.labels)
        )
        return bool(rows[0]["waiting"])

    async def wait(self, timeout: timedelta) -> bool:
        if self._hearing.probe_due():
            await self._database.fetch(self._sql["ring"], self._channel, PROBE)
        with suppress(TimeoutError):
            async with asyncio.timeout(
                timeout.total_seconds()
            ):  # unlike wait_for, it puts no task in between
                await self._bell.wait()
        rang = self._bell.is_set()
        self._bell.clear()
        self._hearing.waited(rang=rang)
        return rang

    @property
    def deaf(self) -> bool:
        """Whether waits are ended by their time alone, since notifications do not come through."""
        return self._hearing.deaf

    async def release(self, worker_id: UUID) -> None:
        return None

    async def depths(self) -> Mapping[Band, int]:
        rows = await self._database.fetch(self._sql["depths"])
        return {Band(row["band"]): row["waiting"] for row in rows}


def tokens(count: int) -> bytes:
    """The bytes of as many random UUIDs (version 4): what is made once for all costs a twentieth of one call for each."""
    made = bytearray(os.urandom(count * TOKEN_BYTES))
    made[6::TOKEN_BYTES] = made[6::TOKEN_BYTES].translate(VERSION_4)
    made[8::TOKEN_BYTES] = made[8::TOKEN_BYTES].translate(VARIANT)
    return bytes(made)


def few_of(streams: int, limit: int) -> int:
    """How many rows of each stream a claim looks at first, so that it reads the fewest at the worst.

    With k streams it reads k times as many, and then up to the limit of each stream of which all these were among the best:
    of limit / few streams at most. The sum, k few + limit² / few, is least for limit / sqrt(k); up to four streams
    it is no less than the limit of each stream read at once.
    """
    return limit if streams <= FEW_STREAMS else ceil(limit / sqrt(streams))


def _columns(floors: Mapping[Stream, int]) -> tuple[list[int], list[int], list[int]]:
    return [lane for lane, _ in floors], [band for _, band in floors], list(floors.values())


def ring_for(places: Sequence[Place]) -> str:
    """The payload of a ring: the best rank in each stream, or nothing when they are too many to tell."""
    best: dict[Stream, int] = {}
    for place in places:
        stream = place.lane, place.band
        best[stream] = min(place.rank, best.get(stream, place.rank))
    if len(best) > TOLD_STREAMS:
        return ""
    return " ".join(f"{lane}:{band}:{rank}" for (lane, band), rank in best.items())


def streams_of(payload: str) -> list[tuple[int, int, int]]:
    """Lane, band and rank of each stream of a ring; none in what others than `ring_for` have written."""
    return [(int(lane), int(band), int(rank)) for lane, band, rank in RING.findall(payload)]


def doorbell(schema: str) -> str:
    """The channel on which waiting claimers are woken."""
    return f"{schema}_doorbell"


class LaneCache:
    """The lanes that a scope may take from, looked up once a second while there is work, and every half second while there is none.

    A look after a claim that found nothing keeps it away from the next claim, which a job may be waiting for. As long as there
    is no lane, each claim looks for one.
    """

    def __init__(self, database: Database, *, schema: str) -> None:
        self._database = database
        self._sql = statements("dispatch", schema)
        self._known: dict[Scope, tuple[float, list[int]]] = {}
        self._told: set[int] = set()
        self.names: dict[int, tuple[str, str]] = {}

    async def of(self, scope: Scope) -> list[int]:
        at, lanes = self._known.get(scope, (0.0, []))
        if monotonic() - at > LANES_S or not lanes:
            return await self._refresh(scope)
        return lanes

    async def renew(self, scope: Scope, *, at_once: bool) -> None:
        """Look them up while there is time, at once or when they would be soon: whoever hears of a new lane need not ask so often."""
        at, _ = self._known.get(scope, (0.0, []))
        if at_once or monotonic() - at > LANES_S / 2:
            await self._refresh(scope)

    async def _refresh(self, scope: Scope) -> list[int]:
        now = monotonic()
        rows = await self._database.fetch(
            self._sql["lanes"], list(scope.queues), list(scope.kinds), list(scope.labels)
        )
        lanes = [row["lane"] for row in rows]
        self._known[scope] = (now, lanes)
        self.names.update((row["lane"], (row["queue"], row["kind"])) for row in rows)
        return lanes

    def told(self, lane: int) -> None:
        """Be told of a lane that has a job: one that was never heard of is looked for with the next claim."""
        if lane not in self._told:
            self._told.add(lane)
            self._known.clear()


def claimer_database(database_url: str, *, application_name: str) -> DedicatedDatabase:
    """The connection that a process claims with."""
    return DedicatedDatabase(database_url, application_name=application_name, settings=CLAIM_SETTINGS)


def listening_dispatch(
    database_url: str, *, application_name: str, schema: str = DEFAULT_SCHEMA
) -> PostgresDispatch:
    """A dispatch with a claiming connection of its own that hears the doorbell."""
    database = claimer_database(database_url, application_name=application_name)
    dispatch = PostgresDispatch(database, schema=schema)
    database.on_open = dispatch.opened
    return dispatch
