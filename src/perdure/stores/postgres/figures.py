"""Figures of a history that is small enough to be counted whole: demonstrations and measurements."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from perdure.domain.errors import NotFound
from perdure.stores.postgres.connections import Database, connect
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements


@dataclass(frozen=True, slots=True, kw_only=True)
class KindProgress:
    """How far the jobs of one kind have come; `failures` counts attempts."""

    kind: str
    jobs: int
    completed: int
    discarded: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigures:
    """What happened to the jobs of one kind, or (`kind` empty) to all; waits and runs are p50 and p95."""

    kind: str
    jobs: int
    attempts: int
    retries: int
    rescued: int
    dead_letters: int
    replayed: int
    completed: int
    span_s: float
    waits_s: tuple[float, float]
    runs_s: tuple[float, float]

    @property
    def per_s(self) -> float:
        """Jobs completed in a second, from the first claim to the last settling."""
        return self.completed / self.span_s if self.span_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a job was enqueued, and when its newest attempt was due and began."""

    enqueued_at: datetime
    available_at: datetime
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What became of the jobs that a worker held when its evacuation began.

    `moved` were given back and completed elsewhere, `finished` came to their end in it; whatever else happened is `amiss`.
    """

    moved: int
    finished: int
    amiss: int


class PostgresFigures:
    """Counts over jobs and history; nothing here is bounded by an index."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("figures", schema)

    async def progress(self) -> list[KindProgress]:
        """How far each kind has come."""
        return [KindProgress(**row) for row in await self._database.fetch(self._sql["progress"])]

    async def held(self, worker_id: UUID) -> dict[int, int]:
        """The number of leases that each process of a worker holds."""
        rows = await self._database.fetch(self._sql["held"], worker_id)
        return {row["process"]: row["leases"] for row in rows}

    async def ledger(self) -> list[KindFigures]:
        """The figures of each kind, and last those of all together."""
        rows = await self._database.fetch(self._sql["ledger"])
        return [
            KindFigures(
                **{
                    **row,
                    "kind": row["kind"] or "",
                    "span_s": row["span_s"] or 0.0,
                    "waits_s": _pair(row["waits_s"]),
                    "runs_s": _pair(row["runs_s"]),
                }
            )
            for row in rows
        ]

    async def timing(self, job_id: UUID) -> Timing:
        """When a job that has ended began. Raises NotFound."""
        rows = await self._database.fetch(self._sql["timing"], job_id)
        if not rows:
            raise NotFound("ended attempt of job", job_id)
        return Timing(**rows[0])

    async def overtaken(self, job_id: UUID) -> tuple[int, float]:
        """How many jobs of its kind a job has overtaken, and the median of their waits in seconds."""
        (row,) = await self._database.fetch(self._sql["overtaken"], job_id)
        return row["jobs"], row["waited_s"]

    async def handed_over(self, worker_id: UUID) -> Handover:
        """What became of the jobs of an evacuated worker; nothing but zeros for one that was not."""
        (row,) = await self._database.fetch(self._sql["handed_over"], worker_id)
        return Handover(**row)

    async def done_by(self, worker_id: UUID) -> int:
        """How many jobs a worker has completed."""
        (row,) = await self._database.fetch(self._sql["done_by"], worker_id)
        return int(row["jobs"])


async def drop_schema(database_url: str, schema: str) -> None:
    """Remove a schema with all that is in it."""
    connection = await connect(database_url, application_name="perdure drop")
    quoted = '"' + schema.replace('"', '""') + '"'
    try:
        await connection.execute(f"DROP SCHEMA IF EXISTS {quoted} CASCADE")
    finally:
        await connection.close()


def _pair(values: list[float | None] | None) -> tuple[float, float]:
    first, last = values or (None, None)
    return (first or 0.0, last or 0.0)
