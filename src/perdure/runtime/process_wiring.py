"""What one process of a worker, and its supervisor, need of the stores."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from perdure.ports import Dispatch, Lineage, Scope
from perdure.runtime.dispatching import quickest_dispatch
from perdure.runtime.following import following_of_leader
from perdure.runtime.settings import Settings
from perdure.services.follow import Follow
from perdure.stores.postgres.alerts import PostgresAlerts
from perdure.stores.postgres.connections import (
    BOUNDED_WAITS,
    Connection,
    DedicatedDatabase,
    PooledDatabase,
)
from perdure.stores.postgres.control import PostgresControl
from perdure.stores.postgres.dispatch import PostgresDispatch, claimer_database
from perdure.stores.postgres.evacuation import PostgresEvacuations
from perdure.stores.postgres.following import PostgresFollowing
from perdure.stores.postgres.jobs import PostgresJobs, settler_database
from perdure.stores.postgres.keeping import PostgresKeeping
from perdure.stores.postgres.leases import PostgresLeases
from perdure.stores.postgres.levels import PostgresLevels
from perdure.stores.postgres.lineage import PostgresLineage
from perdure.stores.postgres.models import PostgresModels
from perdure.stores.postgres.rollups import PostgresRollups
from perdure.stores.postgres.samples import PostgresSamples
from perdure.stores.postgres.vitals import PostgresVitals
from perdure.stores.postgres.workers import PostgresWorkers

CONNECTIONS_FOR_REPORTS = 1
UPKEEP_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStores:
    """The stores of a process that runs jobs: it claims on one connection, settles on another, reports on a third.

    One that runs suspects alone needs no third.
    """

    jobs: PostgresJobs
    leases: PostgresLeases
    workers: PostgresWorkers
    dispatch: Dispatch
    postgres: PostgresDispatch
    lineage: PostgresLineage
    following: PostgresFollowing


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStores:
    """The stores of a supervisor: heartbeats have a connection that no duty can hold up, and upkeep one of its own.

    The other duties share one on which nothing waits long for what somebody else has locked. Alerts share that of upkeep: they
    hold up no other duty, and wait for one statement of it at most. Requests to cancel and to drain are heard on the connection of
    the heartbeats, and the leader is elected there: whatever a duty waits for, a term is renewed, and given up at the end.
    """

    jobs: PostgresJobs
    leases: PostgresLeases
    workers: PostgresWorkers
    beats: PostgresWorkers
    dispatch: Dispatch
    postgres: PostgresDispatch
    keeping: PostgresKeeping
    control: PostgresControl
    evacuations: PostgresEvacuations
    samples: PostgresSamples
    vitals: PostgresVitals
    models: PostgresModels
    lineage: Lineage
    alerts: PostgresAlerts
    rollups: PostgresRollups
    follow: Follow
    levels: PostgresLevels
    duties: DedicatedDatabase
    elections: DedicatedDatabase
    heartbeats: DedicatedDatabase

    async def suspects(self, scope: Scope) -> bool:
        """Whether a suspect of this scope waits to be run alone."""
        return await self.postgres.suspects(scope)


@asynccontextmanager
async def process_stores(
    settings: Settings, *, application_name: str, isolated: bool = False
) -> AsyncIterator[ProcessStores]:
    """Open lazily and close at the end."""
    url = settings.database_url.get_secret_value()
    claims = claimer_database(url, application_name=f"{application_name}: claims")
    settles = settler_database(url, application_name=f"{application_name}: settles")
    reports = await PooledDatabase.open(
        url, application_name=f"{application_name}: reports", most=CONNECTIONS_FOR_REPORTS
    )
    postgres = PostgresDispatch(
        claims, schema=settings.schema, grace_ms=int(settings.deadline_grace_s * 1000)
    )
    lineage = PostgresLineage(settles if isolated else reports, schema=settings.schema)

    async def opened(connection: Connection) -> None:
        await lineage.require(connection)
        await postgres.opened(connection)

    claims.on_open = opened
    async with AsyncExitStack() as stack:
        for database in (claims, settles, reports):
            stack.push_async_callback(database.close)
        yield ProcessStores(
            jobs=PostgresJobs(settles, schema=settings.schema),
            leases=PostgresLeases(settles if isolated else reports, schema=settings.schema),
            workers=PostgresWorkers(settles if isolated else reports, schema=settings.schema),
            postgres=postgres,
            lineage=lineage,
            following=PostgresFollowing(settles if isolated else reports, schema=settings.schema),
            dispatch=await quickest_dispatch(settings, postgres, stack),
        )


@asynccontextmanager
async def supervisor_stores(settings: Settings) -> AsyncIterator[SupervisorStores]:
    """Open lazily and close at the end."""
    url = settings.database_url.get_secret_value()
    beats = DedicatedDatabase(
        url, application_name="perdure supervisor: beats", command_timeout=max(1.0, settings.dead_after_s / 3)
    )
    duties = DedicatedDatabase(url, application_name="perdure supervisor: duties", settings=BOUNDED_WAITS)
    upkeep = DedicatedDatabase(
        url, application_name="perdure supervisor: upkeep", command_timeout=UPKEEP_TIMEOUT_S
    )
    postgres = PostgresDispatch(duties, schema=settings.schema)
    async with AsyncExitStack() as stack:
        for database in (beats, duties, upkeep):
            stack.push_async_callback(database.close)
        yield SupervisorStores(
            jobs=PostgresJobs(duties, schema=settings.schema),
            leases=PostgresLeases(duties, schema=settings.schema),
            workers=PostgresWorkers(duties, schema=settings.schema),
            beats=PostgresWorkers(beats, schema=settings.schema),
            dispatch=await quickest_dispatch(settings, postgres, stack),
            postgres=postgres,
            keeping=PostgresKeeping(upkeep, schema=settings.schema),
            control=PostgresControl(duties, schema=settings.schema),
            evacuations=PostgresEvacuations(duties, schema=settings.schema),
            samples=PostgresSamples(duties, schema=settings.schema),
            vitals=PostgresVitals(duties, schema=settings.schema),
            models=PostgresModels(duties, schema=settings.schema),
            lineage=PostgresLineage(beats, schema=settings.schema),
            alerts=PostgresAlerts(upkeep, schema=settings.schema),
            rollups=PostgresRollups(upkeep, schema=settings.schema),
            follow=following_of_leader(settings, upkeep),
            levels=PostgresLevels(upkeep, schema=settings.schema),
            duties=duties,
            elections=beats,
            heartbeats=beats,
        )
