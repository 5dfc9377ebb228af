"""From settings to services: the one place where technologies are chosen."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from perdure.domain.redaction import Redaction
from perdure.ports import Control, Dispatch, Insights
from perdure.runtime.beside import stores_beside
from perdure.runtime.dispatching import quickest_dispatch
from perdure.runtime.memory import Memory
from perdure.runtime.settings import Settings
from perdure.services.act import Act
from perdure.services.activity import Activity
from perdure.services.alerts import Silencing
from perdure.services.assess import Assess
from perdure.services.champion import Champion
from perdure.services.check import Check
from perdure.services.evacuate import Evacuate
from perdure.services.flows import Flows
from perdure.services.foresee import Foresee
from perdure.services.models import TrainedModels
from perdure.services.read import Read
from perdure.services.redacted import RedactedInsights
from perdure.services.shared_memory import SharedMemory
from perdure.stores.postgres.activity import PostgresActivity
from perdure.stores.postgres.alerts import PostgresAlerts
from perdure.stores.postgres.connections import PooledDatabase, connect
from perdure.stores.postgres.control import PostgresControl
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.evacuation import PostgresEvacuations
from perdure.stores.postgres.flows import PostgresFlows
from perdure.stores.postgres.history import PostgresHistory
from perdure.stores.postgres.insights import PostgresInsights
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.leases import PostgresLeases
from perdure.stores.postgres.lineage import PostgresLineage
from perdure.stores.postgres.migrations import require_current
from perdure.stores.postgres.models import PostgresModels
from perdure.stores.postgres.past import PostgresPast
from perdure.stores.postgres.plain import PlainJobs
from perdure.stores.postgres.pressure import PostgresPressure
from perdure.stores.postgres.requests import PostgresRequests
from perdure.stores.postgres.samples import PostgresSamples
from perdure.stores.postgres.shared_memory import PostgresSharedEntries
from perdure.stores.postgres.sole_caller import SoleCallerDatabase
from perdure.stores.postgres.vitals import PostgresVitals
from perdure.stores.postgres.workers import PostgresWorkers

CONNECTIONS_OF_A_COMMAND = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What a face or a program builds on, all on one database."""

    database: PooledDatabase
    jobs: PostgresJobs
    plain: PlainJobs
    workers: PostgresWorkers
    leases: PostgresLeases
    dispatch: Dispatch
    insights: Insights
    control: Control
    read: Read
    act: Act
    check: Check
    evacuate: Evacuate
    flows: Flows
    activity: Activity
    requests: PostgresRequests
    shared: SharedMemory
    samples: PostgresSamples
    assess: Assess
    vitals: PostgresVitals
    foresee: Foresee
    models: TrainedModels
    lineage: PostgresLineage
    memory: Memory
    beside: Callable[[], Awaitable[Mapping[str, bool]]]
    alert_facts: PostgresAlerts
    pressure: PostgresPressure
    alerts: Silencing


def wired(
    database: PooledDatabase,
    settings: Settings,
    dispatch: Dispatch,
    singles: SoleCallerDatabase,
) -> Stores:
    """The services on a database that is open already; single enqueues take `singles`."""
    schema = settings.schema
    insights = RedactedInsights(PostgresInsights(database, schema=schema), Redaction(settings.redact))
    control = PostgresControl(database, schema=schema)
    workers = PostgresWorkers(database, schema=schema)
    samples = PostgresSamples(database, schema=schema)
    vitals = PostgresVitals(database, schema=schema)
    models = PostgresModels(database, schema=schema)
    interval = timedelta(seconds=settings.sample_interval_s)
    lag_max = timedelta(seconds=settings.suspect_after_s)
    alerts = PostgresAlerts(database, schema=schema)
    return Stores(
        database=database,
        jobs=PostgresJobs(database, schema=schema),
        plain=PlainJobs(singles, database, schema=schema, rings=isinstance(dispatch, PostgresDispatch)),
        workers=workers,
        leases=PostgresLeases(database, schema=schema),
        dispatch=dispatch,
        insights=insights,
        control=control,
        read=Read(insights, PostgresPast(database, schema=schema)),
        act=Act(control, insights),
        check=Check(PostgresHistory(database, schema=schema)),
        samples=samples,
        vitals=vitals,
        foresee=Foresee(vitals, Champion(models, interval=interval), interval=interval, lag_max=lag_max),
        models=trained_models(settings, models),
        assess=Assess(samples, interval=interval),
        evacuate=Evacuate(PostgresEvacuations(database, schema=schema), workers),
        flows=Flows(PostgresFlows(database, schema=schema)),
        activity=Activity(PostgresActivity(database, schema=schema)),
        requests=PostgresRequests(database, schema=schema),
        shared=SharedMemory(
            PostgresSharedEntries(database, schema=schema), max_bytes=settings.max_payload_bytes
        ),
        lineage=PostgresLineage(database, schema=schema),
        memory=Memory(settings, database),
        beside=partial(stores_beside, settings),
        alert_facts=alerts,
        pressure=PostgresPressure(database, schema=schema),
        alerts=Silencing(alerts),
    )


def trained_models(settings: Settings, models: PostgresModels) -> TrainedModels:
    """The service that trains models and looks after them."""
    return TrainedModels(
        models,
        interval=timedelta(seconds=settings.sample_interval_s),
        lag_max=timedelta(seconds=settings.suspect_after_s),
        shadow=timedelta(seconds=settings.model_shadow_s),
    )


@asynccontextmanager
async def connected(
    settings: Settings,
    *,
    application_name: str = "perdure",
    most: int = CONNECTIONS_OF_A_COMMAND,
    redis: bool = True,
) -> AsyncIterator[Stores]:
    """The services on the database that the settings name, its schema checked first. Raises Unavailable.

    Without `redis` it is left alone even where it is set: who only looks or acts announces nothing.
    """
    url = settings.database_url.get_secret_value()
    await _check_schema(url, settings.schema, application_name)
    async with AsyncExitStack() as stack:
        database = await PooledDatabase.open(url, application_name=application_name, most=most)
        singles = SoleCallerDatabase(url, application_name=f"{application_name}: enqueues")
        for opened in (database, singles):
            stack.push_async_callback(opened.close)
        postgres = PostgresDispatch(database, schema=settings.schema)
        dispatch = await quickest_dispatch(settings, postgres, stack) if redis else postgres
        stores = wired(database, settings, dispatch, singles)
        stack.push_async_callback(stores.memory.close)
        yield stores


async def _check_schema(url: str, schema: str, application_name: str) -> None:
    connection = await connect(url, application_name=application_name)
    try:
        await require_current(connection, schema=schema)
    finally:
        await connection.close()
