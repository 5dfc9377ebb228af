"""The store's adapters over one database, driven from plain functions by a loop of its own."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

import asyncpg
import msgspec

from perdure.domain.errors import DatabaseUnavailable
from perdure.domain.job import JobState
from perdure.domain.worker import NewWorker, WorkerId
from perdure.ports import Dispatch
from perdure.services.check import Check, CheckReport
from perdure.stores.postgres.connections import Connection, Database, DedicatedDatabase, connect
from perdure.stores.postgres.control import PostgresControl
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.history import PostgresHistory
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.leadership import PostgresLeadership
from perdure.stores.postgres.leases import PostgresLeases
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, Statement, statements
from perdure.stores.postgres.workers import PostgresWorkers
from perdure.stores.redis.dispatch import RedisDispatch
from perdure.stores.redis.link import Link

T = TypeVar("T")
DispatchOf = Callable[[Database, PostgresJobs], Dispatch]
CRASH_LIMIT = 2
INTERRUPTION_LIMIT = 3

STATE = """
SELECT jsonb_build_object(
    'places', (SELECT jsonb_agg(jsonb_build_array(s.job_id, s.state, s.run, s.attempt, s.crashes, s.interruptions)) FROM (
        SELECT * FROM perdure.job_states
    ) s),
    'bodies', (SELECT jsonb_agg(jsonb_build_array(j.id, j.priority)) FROM perdure.jobs j),
    'leases', (SELECT jsonb_agg(jsonb_build_array(l.job_id, l.token, l.slot)) FROM perdure.leases l),
    'parked', (SELECT jsonb_agg(p.job_id) FROM perdure.parked_jobs p),
    'letters', (SELECT jsonb_agg(jsonb_build_array(d.job_id, d.run, d.attempt, d.crashes, d.interruptions))
        FROM perdure.dead_letter_queue d),
    'keys', (SELECT jsonb_agg(jsonb_build_array(u.key, u.job_id)) FROM perdure.unique_keys u
        WHERE u.expires_at IS NULL OR u.expires_at > now()),
    'edges', (SELECT jsonb_agg(jsonb_build_array(e.child_id, e.parent_id, e.state)) FROM perdure.job_dependencies e),
    'blocked', (SELECT jsonb_agg(jsonb_build_array(b.job_id, b.waiting)) FROM perdure.blocked_jobs b)
)
"""
EMPTY = """
DELETE FROM perdure.jobs; DELETE FROM perdure.available_jobs; DELETE FROM perdure.parked_jobs;
DELETE FROM perdure.scheduled_jobs; DELETE FROM perdure.blocked_jobs; DELETE FROM perdure.job_dependencies;
DELETE FROM perdure.leases; DELETE FROM perdure.job_executions; DELETE FROM perdure.dead_letter_queue;
DELETE FROM perdure.unique_keys; DELETE FROM perdure.workers; DELETE FROM perdure.job_events;
DELETE FROM perdure.leaders; DELETE FROM perdure.cancel_requests; DELETE FROM perdure.job_progress
"""


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where one job stands, as the tables say."""

    job_id: UUID
    state: JobState
    run: int
    attempt: int
    crashes: int
    interruptions: int


class Present(msgspec.Struct, frozen=True):
    """Everything that the tables say about the present."""

    places: list[Place] | None = None
    bodies: list[tuple[UUID, int]] | None = None
    leases: list[tuple[UUID, UUID, int | None]] | None = None
    parked: list[UUID] | None = None
    letters: list[tuple[UUID, int, int, int, int]] | None = None
    keys: list[tuple[str, UUID]] | None = None
    edges: list[tuple[UUID, UUID, str]] | None = None
    blocked: list[tuple[UUID, int]] | None = None


def by_postgres(database: Database, jobs: PostgresJobs) -> Dispatch:
    """Dispatch by PostgreSQL alone."""
    return PostgresDispatch(database)


def as_many_streams(database: Database, jobs: PostgresJobs) -> Dispatch:
    """Dispatch by PostgreSQL that takes the few streams of a test for many."""
    return PostgresDispatch(database, many_streams=0)


@dataclass(slots=True)
class Parts:
    """What can be put in place of the store's own parts; `close` is awaited at the end."""

    dispatch_of: DispatchOf = by_postgres
    exact_order: bool = True
    close: Callable[[], Coroutine[Any, Any, None]] | None = None


def by_redis(redis_url: str) -> Parts:
    """Dispatch through Redis; whose turn it is depends on what was announced, and no order is promised exactly."""
    links: list[Link] = []

    def dispatch_of(database: Database, jobs: PostgresJobs) -> Dispatch:
        links.append(Link(redis_url))
        return RedisDispatch(links[-1], PostgresDispatch(database), schema=DEFAULT_SCHEMA)

    async def close() -> None:
        for link in links:
            await link.close()

    return Parts(dispatch_of=dispatch_of, exact_order=False, close=close)


class Cuttable:
    """A database whose connection breaks when it is told to: after so many transactions, with the answer to the last one lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.left: int | None = None

    async def fetch(self, statement: Statement, *values: object) -> list[asyncpg.Record]:
        return await self._cut(self._database.fetch, statement, *values)

    async def fetch_all(self, *calls: tuple[Statement, tuple[object, ...]]) -> list[list[asyncpg.Record]]:
        return await self._cut(self._database.fetch_all, *calls)

    async def _cut(self, how: Callable[..., Coroutine[Any, Any, T]], *what: object) -> T:
        if self.left == 0:
            raise DatabaseUnavailable("cut before the statement ran")
        answer = await how(*what)
        if self.left is not None:
            self.left -= 1
            if not self.left:
                raise DatabaseUnavailable("cut before the answer came")
        return answer


class Store:
    """The adapters over one database; every call is run to its end on a loop of the store's own."""

    def __init__(self, database_url: str, parts: Parts | None = None) -> None:
        self.parts = parts or Parts()
        self._runner = asyncio.Runner()
        self.connection: Connection = self.run(connect(database_url, application_name="test"))
        self._databases = [DedicatedDatabase(database_url, application_name=f"store {n}") for n in range(3)]
        self.database, *claimers = self._databases
        self.link = Cuttable(self.database)
        self.elections = statements("leadership")
        self.jobs = PostgresJobs(self.link)
        self.leases = PostgresLeases(self.database)
        self.workers = PostgresWorkers(self.database)
        self.control = PostgresControl(self.database)
        self.check = Check(PostgresHistory(self.database))
        self.dispatches = [self.parts.dispatch_of(claimer, self.jobs) for claimer in claimers]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.parts.close is not None:
            self.run(self.parts.close())
        for database in self._databases:
            self.run(database.close())
        self.run(self.connection.close())
        self._runner.close()

    def run(self, awaited: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(awaited)

    def together(self, *awaited: Coroutine[Any, Any, T]) -> list[T]:
        """Run all at once, each on a connection of its own."""

        async def gathered() -> list[T]:
            return await asyncio.gather(*awaited)

        return self.run(gathered())

    def dispatch(self) -> Dispatch:
        """A new dispatch, which knows nothing of earlier claims."""
        return self.parts.dispatch_of(self.database, self.jobs)

    def leadership(self, holder: UUID) -> PostgresLeadership:
        leadership = PostgresLeadership(self.database, holder=holder, ttl=timedelta(minutes=5))
        leadership._sql = self.elections
        return leadership

    def end_term(self) -> None:
        """Let the leader's term run out."""
        self.execute("UPDATE perdure.leaders SET expires_at = now() - interval '1 s'")

    def execute(self, sql: str, *values: object) -> None:
        self.run(self.connection.execute(sql, *values))

    def value(self, sql: str, *values: object) -> Any:
        return self.run(self.connection.fetchval(sql, *values))

    def empty(self) -> None:
        """Forget all jobs and what happened to them."""
        self.execute(EMPTY)

    def present(self) -> Present:
        return msgspec.json.decode(self.value(STATE), type=Present)

    def new_worker(self) -> WorkerId:
        worker_id = WorkerId(uuid4())
        self.run(self.workers.register(NewWorker(id=worker_id, name="test", host="here", pid=1)))
        return worker_id

    def judge(self) -> CheckReport:
        """The verdicts on everything that has happened."""
        return self.run(self.check.run(crash_limit=CRASH_LIMIT, interruption_limit=INTERRUPTION_LIMIT))

    def live(self) -> Mapping[JobState, int]:
        return self.run(self.check.live())

    def become_due(self, job_ids: Sequence[UUID]) -> None:
        """Bring the moment near for which these jobs wait."""
        self.execute(
            "WITH s AS (UPDATE perdure.scheduled_jobs SET run_at = now() WHERE job_id = ANY ($1)) "
            "UPDATE perdure.blocked_jobs SET run_at = now() WHERE job_id = ANY ($1)",
            job_ids,
        )

    def end_period(self, job_id: UUID) -> None:
        """Let the time run out in which the job's unique key keeps others out."""
        self.execute(
            "WITH b AS (UPDATE perdure.jobs SET unique_until = now() - interval '1 s' WHERE id = $1) "
            "UPDATE perdure.unique_keys SET expires_at = now() - interval '1 s' WHERE job_id = $1",
            job_id,
        )
