"""Plain jobs, which have nothing but their arguments and may start at once: stored at a small part of the general cost."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from time import monotonic
from uuid import UUID

import asyncpg

from perdure.domain.job import NewJob
from perdure.ports import Place
from perdure.stores.postgres.connections import Database, PooledDatabase
from perdure.stores.postgres.copying import BODY_COLUMNS, PLACE_COLUMNS, Group, bodies, places
from perdure.stores.postgres.dispatch import doorbell
from perdure.stores.postgres.jobs import REFUSED
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

KNOWN_S = 1.0
SHAPES_MAX = 1_000
MILLISECOND = timedelta(milliseconds=1)

Shape = tuple[str, str, tuple[str, ...], int, int, int | None, int | None]
"""What plain jobs have in common: queue, kind, labels, priority, attempts, time limit in milliseconds, crash limit."""

_TERMS = attrgetter("queue", "kind", "labels", "priority", "max_attempts", "timeout", "crash_limit")
"""What makes a shape, as a job has it."""


@dataclass(frozen=True, slots=True)
class Berth:
    """Where jobs of a shape go, as the database said at `asked_at`, and which ids are in time."""

    asked_at: float
    lane: int
    band: int
    rank: int
    first_id: UUID
    last_id: UUID

    def takes(self, job_id: UUID) -> bool:
        return self.first_id.int <= job_id.int <= self.last_id.int

    def takes_all(self, jobs: Sequence[NewJob]) -> bool:
        numbers = [job.id.int for job in jobs]
        return self.first_id.int <= min(numbers) and max(numbers) <= self.last_id.int

    def places(self, jobs: Sequence[NewJob]) -> list[Place]:
        """Where `jobs` wait, in their order: a rank for each, or a claimer's watermark could not tell them apart.

        The ranks rise by a microsecond a job, less than the job takes to be stored, so that later calls come after them.
        """
        return [Place(self.lane, self.band, rank, job.id) for rank, job in enumerate(jobs, start=self.rank)]


class PlainJobs:
    """Stores plain jobs. What it cannot store it leaves to `enqueue_jobs`, which knows every case and names what is wrong.

    `singles` should be a connection of its own, which no other work holds up. `rings` says whether a lone job can ring the
    doorbell by itself, as it may where claimers listen to PostgreSQL.
    """

    def __init__(
        self, singles: Database, bulk: PooledDatabase, *, schema: str = DEFAULT_SCHEMA, rings: bool = False
    ) -> None:
        self.rings = rings
        self._channel = doorbell(schema)
        self._singles = singles
        self._bulk = bulk
        self._schema = schema
        self._sql = statements("jobs", schema)
        self._known: dict[Shape, Berth] = {}

    async def few(self, jobs: Sequence[NewJob], *, ring: bool = False) -> Mapping[UUID, Place]:
        """Store jobs that have nothing to do with one another; those that are not among the answer were not stored.

        `ring` is for a lone job: it is announced with the same call, once it is durable.
        """
        placed: dict[UUID, Place] = {}
        for shape, group in shaped(jobs):
            berth = await self._berth(shape)
            taken = [] if berth is None else [job for job in group if berth.takes(job.id)]
            if berth is not None and taken:
                rank = await self._store(taken, berth, shape, ring)
                if rank is not None:
                    placed |= {job.id: Place(berth.lane, berth.band, rank, job.id) for job in taken}
        return placed

    async def _store(self, jobs: Sequence[NewJob], berth: Berth, shape: Shape, ring: bool) -> int | None:
        """The rank that the jobs got; none when the database refused them."""
        terms = (berth.lane, *shape[3:])
        try:
            if len(jobs) > 1:
                ids, args = [job.id for job in jobs], [job.args for job in jobs]
                rows = await self._singles.fetch(self._sql["enqueue_several"], ids, args, *terms)
            elif ring:
                one = jobs[0]
                rows = await self._singles.fetch(
                    self._sql["enqueue_and_ring"], one.id, one.args, *terms, self._channel
                )
            else:
                rows = await self._singles.fetch(self._sql["enqueue_one"], jobs[0].id, jobs[0].args, *terms)
        except REFUSED:
            return None
        except BaseException:
            self._known.clear()  # the server that answers next may be another one
            raise
        return int(rows[0]["rank"])

    async def _berth(self, shape: Shape) -> Berth | None:
        now = monotonic()
        berth = self._known.get(shape)
        if berth is None or now - berth.asked_at > KNOWN_S:
            rows = await self._singles.fetch(self._sql["shape"], *shape[:4])
            if not rows:
                return None
            if len(self._known) >= SHAPES_MAX:
                self._known.clear()
            berth = self._known[shape] = Berth(now, *rows[0])
        return berth

    async def many(self, jobs: Sequence[NewJob]) -> Sequence[Place] | None:
        """Copy the jobs in, all or none; None when none was stored."""
        try:
            async with self._bulk.transaction() as connection:
                groups = []
                for shape, group in shaped(jobs):
                    rows = await connection.fetch(self._sql["shape"].numbered(), *shape[:4])
                    berth = Berth(0.0, *rows[0]) if rows else None
                    if berth is None or not berth.takes_all(group):
                        return None
                    groups.append(Group(group, berth.places(group), *shape[3:]))
                for table, columns, source in (
                    ("jobs", BODY_COLUMNS, bodies(groups)),
                    ("available_jobs", PLACE_COLUMNS, places(groups)),
                ):
                    await connection.copy_to_table(
                        table, schema_name=self._schema, columns=columns, source=source, format="binary"
                    )
                return [place for group in groups for place in group.places]
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, struct.error, UnicodeError):
            return None


def shaped(jobs: Sequence[NewJob]) -> list[tuple[Shape, list[NewJob]]]:
    """The jobs by their shapes."""
    groups: dict[Shape, list[NewJob]] = {}
    for (*terms, timeout, crash_limit), group in groupby(jobs, _TERMS):
        timeout_ms = None if timeout is None else max(1, timeout // MILLISECOND)
        groups.setdefault((*terms, timeout_ms, crash_limit), []).extend(group)
    return list(groups.items())
