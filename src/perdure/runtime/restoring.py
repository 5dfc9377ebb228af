"""Restores in place, wired: for commands and programs, and for the leader, who carries on what was left in the middle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from perdure.domain.restore import Phase
from perdure.ports import Dispatch
from perdure.runtime.settings import Settings
from perdure.services.check import Check
from perdure.services.restore import RestoreInPlace
from perdure.stores.postgres.connections import Database, PooledDatabase
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.history import PostgresHistory
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.restores import PostgresCuts, PostgresPlans, PostgresRestores

SILENT = timedelta(seconds=20)
"""A restore that nobody has touched for so long is carried on by the leader."""
KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoring:
    """What plans and carries out restores of one database."""

    service: RestoreInPlace
    restores: PostgresRestores
    plans: PostgresPlans
    cuts: PostgresCuts


def restoring(database: PooledDatabase, settings: Settings, dispatch: Dispatch | None = None) -> Restoring:
    """On a database that is open already."""
    schema = settings.schema
    restores = PostgresRestores(database, schema=schema)
    check = Check(PostgresHistory(database, schema=schema))
    service = RestoreInPlace(
        restores,
        PostgresJobs(database, schema=schema),
        dispatch or PostgresDispatch(database, schema=schema),
        judge=lambda: check.run(
            crash_limit=settings.crash_limit, interruption_limit=settings.interruption_limit
        ),
        pause=asyncio.sleep,
    )
    return Restoring(
        service=service,
        restores=restores,
        plans=PostgresPlans(database, schema=schema),
        cuts=PostgresCuts(database, schema=schema),
    )


@asynccontextmanager
async def restoring_on(settings: Settings, *, application_name: str) -> AsyncIterator[Restoring]:
    """With connections of its own, whose statements may take long. Raises DatabaseUnavailable."""
    database = await PooledDatabase.open(
        settings.database_url.get_secret_value(),
        application_name=application_name,
        most=2,
        command_timeout=None,
    )
    try:
        yield restoring(database, settings)
    finally:
        await database.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOn:
    """A restore that the leader took to its end."""

    id: UUID
    phase: Phase
    report: str


class StalledRestores:
    """The leader's part: carries on a restore whose process has gone, and forgets those of long ago."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._plans = PostgresPlans(database, schema=settings.schema)

    async def run_once(self) -> CarriedOn | None:
        await self._plans.forget(KEPT)
        for stalled in await self._plans.stalled(SILENT):
            async with restoring_on(self._settings, application_name="perdure restore") as own:
                done = await own.service.carry_on(stalled)
            return CarriedOn(id=done.id, phase=done.phase, report=done.report)
        return None
