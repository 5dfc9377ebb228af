"""Restores in place for tests: wired without waiting, a story in which something happens to every kind of job, and crashes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from perdure.domain.job import Dependency, JobId, OnParentFailure
from perdure.domain.lease import Lease
from perdure.domain.restore import CutOf, Restore
from perdure.domain.settlement import Completed
from perdure.ports import By
from perdure.services.check import Check, RecordedHistory
from perdure.services.restore import RestoreInPlace
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.history import PostgresHistory
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.restores import PostgresCuts, PostgresRestores
from perdure.stores.postgres.statements import Statement
from tests.support.records import ROWS, past_of
from tests.support.system import System, failure

KIM = By(actor="kim", reason="the deploy of noon was bad")


class Crash(BaseException):
    """The process is gone; nothing of the product catches this."""


READS = frozenset({"get", "next", "leases", "moved", "patience", "running", "touch"})


class CrashingDatabase:
    """A database whose user dies as soon as its first change has been committed.

    A death before that leaves things as the death before left them, so that none is missing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fetch(self, statement: Statement, *values: object) -> list[asyncpg.Record]:
        rows = await self._database.fetch(statement, *values)
        if statement.name not in READS:
            raise Crash
        return rows

    async def fetch_all(self, *calls: tuple[Statement, tuple[object, ...]]) -> list[list[asyncpg.Record]]:
        rows = await self._database.fetch_all(*calls)
        if not READS.issuperset(statement.name for statement, _ in calls):
            raise Crash
        return rows


async def at_once(_: float) -> None:
    """In place of a pause."""


def in_place(
    system: System,
    database: Database | None = None,
    *,
    pause: Callable[[float], Awaitable[None]] = at_once,
    hold: timedelta = timedelta(0),
) -> RestoreInPlace:
    """The service without its waiting; `database` carries its steps."""
    steps = database or system.database
    return RestoreInPlace(
        PostgresRestores(steps),
        PostgresJobs(steps),
        PostgresDispatch(steps),
        judge=Check(PostgresHistory(system.database)).run,
        pause=pause,
        hold=hold,
    )


async def marked(system: System) -> CutOf:
    """Remember the present, and give its cut."""
    await system.past.mark()
    return await PostgresCuts(system.database).of_time(
        await system.sql.fetchval("SELECT max(at) FROM perdure.moments")
    )


@dataclass(frozen=True, kw_only=True)
class Story:
    """Jobs by what happens to them, the cut in the middle, and the lease of the one that runs."""

    cut: CutOf
    jobs: dict[str, UUID]
    lease: Lease

    def name_of(self, job_id: UUID) -> str:
        return next(name for name, each in self.jobs.items() if each == job_id)


async def story(system: System) -> Story:
    """One job, at least, in each circumstance that a restore knows."""
    jobs: dict[str, UUID] = {}
    for name in ("completed", "failed", "cancelled", "waits", "runs", "ran_before"):
        jobs[name] = await system.add(f"k.{name}")
    jobs["parent"] = await system.add("k.parent")
    jobs["held"] = await system.add("k.held", after=(jobs["parent"],))
    doomed = Dependency(parent_id=JobId(jobs["parent"]), on_failure=OnParentFailure.CANCEL)
    jobs["doomed"] = await system.add("k.doomed", depends_on=(doomed,))
    jobs["dead"] = await system.dead("k.dead")
    await system.run(failure("once", retry_in=3600), kind="k.failed")
    await system.claim(kind="k.ran_before")
    cut = await marked(system)

    await system.run(Completed(result='"done"'), kind="k.completed")
    await system.control.retry([jobs["failed"]], KIM)
    await system.run(failure("for good", give_up=True), kind="k.failed")
    await system.control.cancel([jobs["cancelled"]], KIM)
    await system.run(failure("no", give_up=True), kind="k.parent")
    (lease,) = await system.claim(kind="k.runs")
    jobs["new"] = await system.add("k.new")
    jobs["new_and_done"] = await system.add("k.new_and_done")
    await system.run(kind="k.new_and_done")
    await system.control.retry([jobs["dead"]], KIM)
    return Story(cut=cut, jobs=jobs, lease=lease)


async def standings(system: System) -> dict[UUID, tuple[Any, ...]]:
    """Where every job stands and with which counts; runs and times are left out."""
    rows = await system.sql.fetch(
        "SELECT j.id, s.state::text, s.attempt, s.crashes, s.interruptions, q.job_id IS NOT NULL AS has_letter,"
        " (SELECT array_agg(d.state::text ORDER BY d.parent_id) FROM perdure.job_dependencies d WHERE d.child_id = j.id) AS edges"
        " FROM perdure.jobs j CROSS JOIN LATERAL perdure.standing(j.id) s LEFT JOIN perdure.dead_letter_queue q ON q.job_id = j.id"
    )
    return {row["id"]: tuple(row)[1:] for row in rows}


def counted(restore: Restore) -> dict[tuple[str, str], int]:
    return {(case.circumstance.value, case.action.value): case.jobs for case in restore.cases}


def outcomes(restore: Restore) -> dict[str, int]:
    found: dict[str, int] = {}
    for case in restore.outcomes:
        found[case.outcome] = found.get(case.outcome, 0) + case.jobs
    return found


async def judged(system: System) -> None:
    """All promises hold, by the statements and by the rules in memory."""
    told = past_of(await system.sql.fetchval(ROWS))
    for history in (PostgresHistory(system.database), RecordedHistory(lambda: told)):
        report = await Check(history).run()
        assert report.ok, report.words()


def ids(restore: Restore, circumstance: str) -> Sequence[UUID]:
    return [job for case in restore.cases if case.circumstance == circumstance for job in case.sample]
