"""Dispatch by PostgreSQL alone: batched claims with a watermark, a doorbell by NOTIFY, polling as the truth."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
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

FULL_PASS_S = 1.0
SHORTEST_BETWEEN_FULL_PASSES_S, LONGEST_BETWEEN_FULL_PASSES_S = 0.1, 10.0
FULL_PASS_SHARE = 20
"""The next full pass comes after so many times as long as each of the last two took longer than other claims, at the soonest."""
LANES_S = 1.0
DEFAULT_GRACE_MS = 5_000
LOOKS = 5
"""How often a claim looks further that met jobs which may not start yet."""
TOLD_STREAMS = 100
PARKED_AT_ONCE = 500
BANDS = (Band.HIGH, Band.MEDIUM, Band.LOW)
CLAIM_SETTINGS = {
    "synchronous_commit": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Claims need no flush: a lost one only means that the job is seen as available again. And their plan must not
flip while the tables grow and shrink by the second (docs/decisions/0004-claim-plan.md)."""

TOKEN_BYTES = 16
VERSION_4 = bytes(byte & 0x0F | 0x40 for byte in range(256))
VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))
"""What the bytes of a UUID become that tell its version and its variant (RFC 9562, 5.4)."""

RING = re.compile(r"(\d{1,9}):([0-3]):(-?\d{1,18})")

NEW_LEASE: Callable[..., Lease] = Lease
LEASE_COLUMNS = Lease.__struct_fields__.index("queue")
"""The columns of a claim stand in the order of the lease's fields; queue and kind are known by the lane."""


class Watermarks:
    """Where the last claim of each stream (lane and band) ended: a hint for where the next scan may begin.

    The doorbell tells of rows that appear below one. What it does not tell of is found by a full pass: after an empty claim, at
    least every second and, when the bell rang without telling, at most ten times a second. While a horizon is pinned, a full pass walks
    over every dead row: what it takes longer than other claims is a twentieth of the time at most, and it is done every ten seconds at least.
    """

    def __init__(self) -> None:
        self._floors: dict[tuple[int, int], int] = {}
        self._full_at = self._pause = self._excess = 0.0
        self._usual: float | None = None
        self._rung = self._found_none = False
        self._is_full = False
        self.lowered = 0

    def ring(self) -> None:
        self._rung = True

    def floors(self, streams: Sequence[tuple[int, int]], now: float) -> list[int]:
        """The rank to begin at for each stream; the first of all when a full pass is due."""
        wait = 0.0 if self._found_none else SHORTEST_BETWEEN_FULL_PASSES_S if self._rung else FULL_PASS_S
        self._is_full = now - self._full_at >= max(wait, self._pause)
        if self._is_full:
            self._full_at, self._rung = now, False
            return [FIRST_RANK] * len(streams)
        return [self._floors.get(stream, FIRST_RANK) for stream in streams]

    def lower(self, lane: int, band: int, rank: int) -> None:
        """Begin no later than at this rank, at which a job has become available."""
        self._floors[lane, band] = min(rank, self._floors.get((lane, band), FIRST_RANK))
        self.lowered += 1

    def looked(self, rows: Sequence[asyncpg.Record], lowered: int, took: float) -> None:
        """Begin where these rows end, unless it was lowered after `lowered` was read, while they were looked for."""
        self._found_none = not rows
        if not self._is_full:
            self._usual = took
        elif self._usual is not None:
            before, self._excess = self._excess, max(0.0, took - self._usual)
            # The shorter of two: one that a busy machine held up says nothing of dead rows.
            self._pause = min(LONGEST_BETWEEN_FULL_PASSES_S, FULL_PASS_SHARE * min(before, self._excess))
        if self.lowered == lowered:
            for row in rows:
                self._floors[row["lane"], row["band"]] = row["rank"]

    def failed(self) -> None:
        """The claim may have been committed, or not: look at everything next."""
        self._full_at = self._pause = self._excess = 0.0


FIRST_RANK = -(2**63)
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
    ) -> None:
        self._database = database
        self._sql = statements("dispatch", schema)
        self._channel = doorbell(schema)
        self._grace_ms = grace_ms
        self._watermarks: dict[tuple[bool, Scope | None], Watermarks] = {}
        self._lanes = LaneCache(database, schema=schema)
        self._bell = asyncio.Event()
        self._hearing = Hearing()

    async def opened(self, connection: Connection) -> None:
        """Have a new connection listen for the doorbell."""
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
        bands = (Band.SUSPECT,) if claimer.isolated else BANDS
        streams = [(lane, int(band)) for lane in lanes for band in bands]
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
            await self._lanes.refresh(scope)
        return leases

    def _watermarks_of(self, claimer: Claimer, scope: Scope | None = None) -> Watermarks:
        """A scope's own: a full pass of one, which looks at its streams alone, is none of another's."""
        return self._watermarks.setdefault((claimer.isolated, scope), Watermarks())

    async def _look(
        self, claimer: Claimer, watermarks: Watermarks, streams: list[tuple[int, int]], limit: int
    ) -> list[asyncpg.Record]:
        lowered, began = watermarks.lowered, monotonic()
        try:
            rows = await self._database.fetch(
                self._sql["claim"],
                [lane for lane, _ in streams],
                [band for _, band in streams],
                watermarks.floors(streams, began),
                limit,
                *self._terms(claimer),
                tokens(limit),
            )
        except Exception:
            watermarks.failed()
            raise
        watermarks.looked(rows, lowered, monotonic() - began)
        return rows

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

    async def _park(self, claimer: Claimer, streams: list[tuple[int, int]]) -> None:
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


def ring_for(places: Sequence[Place]) -> str:
    """The payload of a ring: the best rank in each stream, or nothing when they are too many to tell."""
    best: dict[tuple[int, int], int] = {}
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
    """The lanes that a scope may take from, looked up when a claim finds nothing, and at most once a second while there is work.

    The look after a claim that found nothing keeps the look away from the next one, which a job may be waiting for.
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
            return await self.refresh(scope)
        return lanes

    async def refresh(self, scope: Scope) -> list[int]:
        """Look them up now."""
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
