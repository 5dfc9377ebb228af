"""Plain jobs, which have nothing but their arguments and may start at once: stored at a small part of the general cost."""

import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Protocol
from uuid import UUID

import asyncpg

from perdure.domain.bulk import Bulk, shaped
from perdure.domain.job import JobId, NewJob, Shape
from perdure.ports import Place
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.copying import BODY_COLUMNS, PLACE_COLUMNS, Group, bodies, places
from perdure.stores.postgres.direct import fields, own_fields
from perdure.stores.postgres.dispatch import doorbell, ring_for
from perdure.stores.postgres.jobs import REFUSED, encode_jobs
from perdure.stores.postgres.sole_caller import InTurn
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, Statement, statements

KNOWN_S = 1.0
SLOW_S = 0.25
"""An answer that was heard later than this, over a slow network or by a busy event loop, tells the database's clock too badly to be kept."""

SHAPES_MAX = 1_000
OBJECT = "{"
"""Arguments that begin so are a JSON object, or no JSON at all, which the server refuses."""
MILLISECOND = timedelta(milliseconds=1)

_PLACED: Callable[[type[Place], tuple[int, int, int, UUID]], Place] = tuple.__new__
"""Makes a place for half of what its own constructor takes, which a single enqueue would feel."""


@dataclass(frozen=True, slots=True)
class Berth:
    """Where jobs of a shape go, as the database said between `asked_at` and `heard_at`, and which ids are in time.

    `terms` is what is stored of the shape with each job: priority, attempts, time limit in milliseconds, crash limit; `fields` are
    lane, terms and band as a single enqueue sends them. A job that is stored later has the rank of that much later, which lags behind the database's clock by as long as the answer took to be heard: a round
    trip, and `SLOW_S` at most while a berth is kept. So jobs of one shape are ranked as they are stored; between shapes the order is as
    exact as that.
    """

    terms: tuple[int, int, int | None, int | None]
    asked_at: float
    heard_at: float
    lane: int
    band: int
    rank: int
    first_id: int
    last_id: int
    fields: bytes

    @classmethod
    def of(cls, shape: Shape, asked_at: float, heard_at: float, row: asyncpg.Record) -> "Berth":
        lane, band, rank, first_id, last_id = row
        return cls(
            _terms(shape),
            asked_at,
            heard_at,
            lane,
            band,
            rank,
            first_id.int,
            last_id.int,
            fields(lane, *_terms(shape), band),
        )

    def takes(self, job: NewJob) -> bool:
        return self.first_id <= job.id.int <= self.last_id and job.args[:1] == OBJECT

    def group(self, bulk: Bulk) -> Group | None:
        """The jobs as they are copied in; none where an id is out of time, or arguments are no object.

        Each has a rank of its own, or a claimer's watermark could not tell them apart. The ranks rise by a microsecond a job of the
        call, less than a job takes to be stored, so that later calls come after them.
        """
        ids = bulk.ids.raw
        if int.from_bytes(min(ids), "big") < self.first_id or int.from_bytes(max(ids), "big") > self.last_id:
            return None
        if {text[:1] for text in bulk.args} != {OBJECT}:
            return None
        ranks = [self.rank + position for position in bulk.positions]
        return Group(bulk.args, ids, self.lane, self.band, ranks, *self.terms)


class Singles(Protocol):
    """Runs the statements of single enqueues, those whose rows nobody wants by a way of their own."""

    def fetch(self, statement: Statement, *values: object) -> Awaitable[list[asyncpg.Record]]:
        """Run one statement and give its rows. Raises DatabaseUnavailable."""
        ...

    def run(self, statement: Statement, values: bytes) -> Awaitable[None]:
        """Run one statement with the `fields` of its values. Raises DatabaseUnavailable."""
        ...

    def run_both(self, statements: InTurn, values: bytes, seconds: bytes) -> Awaitable[None]:
        """Run one statement as `run` does, and have the second run too: of that one nothing is told. Raises DatabaseUnavailable."""
        ...


class PlainJobs:
    """Stores plain jobs. What it cannot store it leaves to `enqueue_jobs`, which knows every case and names what is wrong.

    `singles` should be a connection of its own, which no other work holds up; it is asked for one thing at a time. `rings` says
    whether a lone job can ring the doorbell by itself, as it may where claimers listen to PostgreSQL.
    """

    def __init__(
        self, singles: Singles, bulk: PooledDatabase, *, schema: str = DEFAULT_SCHEMA, rings: bool = False
    ) -> None:
        self.rings = rings
        self._channel = doorbell(schema)
        self._singles = singles
        self._bulk = bulk
        self._schema = schema
        self._sql = sql = statements("jobs", schema)
        self._one = sql["enqueue_one"]
        self._ringing = InTurn("enqueue_one and ring", self._one, statements("dispatch", schema)["ring"])
        self._known: dict[Shape, Berth] = {}
        self._have_lanes: set[Shape] = set()

    async def open(self) -> None:
        """Connect ahead of the first job, which would wait for it. Raises DatabaseUnavailable."""
        await self._singles.fetch(self._sql["shape"], "", "", (), 1, 1, None, None)

    async def lone(self, job: NewJob, *, ring: Sequence[Place] | None = None) -> Place | None:
        """Store one job; none when it was not stored.

        With `ring` it is announced with the same call, once it is durable, and those places with it; whether that was done is not told.
        """
        shape, now = job.shape, monotonic()
        berth = self._known.get(shape)
        if berth is None or now - berth.asked_at > KNOWN_S:
            berth, now = await self._ask(shape), monotonic()
        job_id = job.id
        if berth is None or not berth.first_id <= job_id.int <= berth.last_id or job.args[:1] != OBJECT:
            return None
        rank, lane, band = berth.rank + int((now - berth.heard_at) * 1_000_000), berth.lane, berth.band
        try:
            values = own_fields(job_id, rank, job.args) + berth.fields
            if ring is None:
                await self._singles.run(self._one, values)
            else:
                told = ring_for([_PLACED(Place, (lane, band, rank, job_id)), *ring])
                await self._singles.run_both(self._ringing, values, fields(self._channel, told))
        except (*REFUSED, UnicodeError):
            return None
        except BaseException:
            self._known.clear()  # the server that answers next may be another one
            raise
        return _PLACED(Place, (lane, band, rank, job_id))

    async def few(self, jobs: Sequence[NewJob]) -> Mapping[UUID, Place]:
        """Store jobs that have nothing to do with one another; those that are not among the answer were not stored."""
        placed: dict[UUID, Place] = {}
        for shape, group in shaped(jobs):
            berth = await self._berth(shape)
            taken = [] if berth is None else [job for job in group if berth.takes(job)]
            if berth is not None and taken:
                rank = await self._store(taken, berth)
                if rank is not None:
                    placed |= {job.id: Place(berth.lane, berth.band, rank, job.id) for job in taken}
        return placed

    async def _store(self, jobs: Sequence[NewJob], berth: Berth) -> int | None:
        """The rank that the jobs got; none when the database refused them."""
        ids, args = [job.id for job in jobs], [job.args for job in jobs]
        try:
            rows = await self._singles.fetch(
                self._sql["enqueue_several"], ids, args, berth.lane, *berth.terms
            )
        except REFUSED:
            return None
        except BaseException:
            self._known.clear()  # the server that answers next may be another one
            raise
        return int(rows[0]["rank"])

    async def _berth(self, shape: Shape) -> Berth | None:
        berth = self._known.get(shape)
        if berth is None or monotonic() - berth.asked_at > KNOWN_S:
            return await self._ask(shape)
        return berth

    async def _ask(self, shape: Shape) -> Berth | None:
        now = monotonic()
        try:
            rows = await self._singles.fetch(self._sql["shape"], *_asked(shape))
        except REFUSED:  # a number that no column could hold
            return None
        if not rows:
            return None
        if len(self._known) >= SHAPES_MAX:
            self._known.clear()
        berth = Berth.of(shape, now, monotonic(), rows[0])
        if berth.heard_at - now < SLOW_S:
            self._known[shape] = berth
        return berth

    async def many(self, bulks: Sequence[Bulk]) -> Sequence[Place] | None:
        """Copy the jobs in, all or none; None when none was stored.

        Gives the places to announce: all of them, or the first of each shape where claimers listen to PostgreSQL, whose
        ring tells no more.
        """
        try:
            await self._make_lanes([bulk for bulk in bulks if bulk.shape not in self._have_lanes])
            async with self._bulk.transaction() as connection:
                groups: list[Group] = []
                for bulk in bulks:
                    rows = await connection.fetch(self._sql["shape"].numbered(), *_asked(bulk.shape))
                    group = Berth.of(bulk.shape, 0.0, 0.0, rows[0]).group(bulk) if rows else None
                    if group is None:
                        return None
                    groups.append(group)
                for table, columns, source in (
                    ("jobs", BODY_COLUMNS, bodies(groups)),
                    ("available_jobs", PLACE_COLUMNS, places(groups)),
                ):
                    await connection.copy_to_table(
                        table, schema_name=self._schema, columns=columns, source=source, format="binary"
                    )
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, struct.error, UnicodeError):
            return None
        told = 1 if self.rings else None
        return [
            Place(group.lane, group.band, rank, JobId(UUID(bytes=job_id)))
            for group in groups
            for rank, job_id in zip(group.ranks[:told], group.ids[:told], strict=True)
        ]

    async def _make_lanes(self, bulks: Sequence[Bulk]) -> None:
        """Have the lanes of these jobs be there, which may be the first of their kind: they would all go the general way, which is slower."""
        if not bulks:
            return
        firsts = [NewJob(id=bulk.ids[0], shape=bulk.shape) for bulk in bulks]
        with suppress(asyncpg.InsufficientPrivilegeError):  # a role with the rights of an earlier version
            await self._bulk.fetch(self._sql["make_lanes"], encode_jobs(firsts))
        if len(self._have_lanes) >= SHAPES_MAX:
            self._have_lanes.clear()
        self._have_lanes.update(bulk.shape for bulk in bulks)


def _terms(shape: Shape) -> tuple[int, int, int | None, int | None]:
    timeout_ms = None if shape.timeout is None else max(1, shape.timeout // MILLISECOND)
    return shape.priority, shape.max_attempts, timeout_ms, shape.crash_limit


def _asked(shape: Shape) -> tuple[object, ...]:
    return shape.queue, shape.kind, shape.labels, *_terms(shape)
