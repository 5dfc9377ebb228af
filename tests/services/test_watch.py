"""The watch over the fleet on a real database: scores, shares, alerts, evacuation in time."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest

from perdure.domain.errors import NotFound
from perdure.domain.prediction import Action
from perdure.domain.sample import Sample
from perdure.domain.vitals import Criteria
from perdure.services.champion import Champion
from perdure.services.foresee import Foresee
from perdure.services.watch import Care, Watch, WatchReport
from perdure.stores.postgres.evacuation import PostgresEvacuations
from perdure.stores.postgres.models import PostgresModels
from perdure.stores.postgres.samples import PostgresSamples
from perdure.stores.postgres.vitals import PostgresVitals
from tests.support.system import System, system_on

LAG = timedelta(seconds=6)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


def watch_of(system: System, *, evacuates: bool = False, shadow_share: float = 0.0) -> Watch:
    return Watch(
        PostgresVitals(system.database),
        PostgresEvacuations(system.database),
        champion_of(system),
        care=Care(lag_max=LAG, evacuates=evacuates, shadow_share=shadow_share),
    )


def champion_of(system: System) -> Champion:
    return Champion(PostgresModels(system.database), interval=timedelta(seconds=10))


async def test_a_warning_about_a_worker_in_the_shadow_is_told_and_not_acted_upon(system: System) -> None:
    decaying = await system.worker("decaying")
    for name in ("healthy", "sound"):
        await tells(system, await system.worker(name))
    await tells(system, decaying, leak=1.0)
    await system.add()
    report = await watch_of(system, evacuates=True, shadow_share=1.0).run_once()
    assert (report.sick, report.evacuated) == ([decaying], ())
    assert len(await system.claim(decaying)) == 1
    assert await system.count("job_events", "event = 'worker_sick' AND (detail ->> 'shadow')::boolean") == 1
    report = await watch_of(system, evacuates=True).run_once()
    assert (report.looked_at, report.sick, report.evacuated) == (3, [decaying], (decaying,))
    assert report.risks["decaying"] > 0.9
    assert max(report.risks["healthy"], report.risks["sound"]) < 0.1


async def tells(system: System, worker_id: UUID, *, leak: float = 0.0, count: int = 40) -> None:
    """Samples of the last minutes; with a leak memory grows by so many percent in each, up to 90."""
    random = Random(worker_id.int)
    series = [
        Sample(
            worker_id=worker_id,
            at=datetime.now(UTC),
            running=1,
            finished=20,
            failed=0,
            timed_out=0,
            memory_percent=(90 - leak * (count - number) if leak else 20) + random.gauss(0, 0.1),
            loop_lag_ms=abs(random.gauss(3, 1)),
            slowness=1.0,
        )
        for number in range(count)
    ]
    ages = [10_000 * (count - 1 - number) for number in range(count)]
    await PostgresSamples(system.database).write(series, ages_ms=ages)


async def test_a_decaying_worker_is_noted_gets_nothing_new_and_is_no_choice(system: System) -> None:
    decaying, healthy = await system.worker("decaying"), await system.worker("healthy")
    await tells(system, decaying, leak=1.0)
    await tells(system, healthy)
    await system.add()
    report = await watch_of(system).run_once()
    assert (report.looked_at, report.sick, report.evacuated) == (2, [decaying], ())
    assert await system.claim(decaying) == []
    assert len(await system.claim(healthy)) == 1
    assert await system.count("job_events", "event = 'worker_sick' AND reason = 'memory fills'") == 1
    foresee = Foresee(
        PostgresVitals(system.database),
        champion_of(system),
        interval=timedelta(seconds=10),
        lag_max=LAG,
    )
    outlook = await foresee.outlook(decaying)
    assert outlook.prediction.action is Action.EVACUATE
    assert outlook.score.value < 0.3
    chosen = await foresee.optimal_worker(Criteria())
    assert chosen is not None
    assert chosen.worker.id == healthy
    with pytest.raises(NotFound):
        await foresee.outlook(UUID(int=1))


async def test_a_worker_that_recovers_works_again_after_three_good_looks(system: System) -> None:
    """A transient failure needs nobody; the noted state outlives the leader."""
    worker, _ = await system.worker("w"), await system.worker("other")
    await tells(system, worker, leak=1.0)
    await watch_of(system).run_once()
    await system.sql.execute("DELETE FROM perdure.worker_samples")
    await tells(system, worker)
    await system.add()
    watch = watch_of(system)
    assert [bool((await watch.run_once()).sick) for look in range(3)] == [True, True, False]
    assert len(await system.claim(worker)) == 1
    assert await system.count("job_events", "event = 'worker_healthy'") == 1


async def test_an_unhealthy_fleet_still_works(system: System) -> None:
    workers = [await system.worker(f"w{number}") for number in range(2)]
    for worker in workers:
        await tells(system, worker, leak=1.0)
    await watch_of(system).run_once()
    await system.add_many(2)
    claimed = [len(await system.claim(worker)) for worker in workers]
    assert sum(claimed) == 2


async def test_a_sick_worker_for_whose_queue_there_is_no_other_goes_on_in_full(system: System) -> None:
    lonely, other = await system.worker("lonely"), await system.worker("other")
    await system.sql.execute("UPDATE perdure.workers SET queues = '{night}' WHERE id = $1", lonely)
    await tells(system, lonely, leak=1.0)
    await tells(system, other)
    assert (await watch_of(system).run_once()).sick == [lonely]
    assert await system.count("workers", "claim_share = 1") == 2
    await system.sql.execute("UPDATE perdure.workers SET queues = '{default,night}' WHERE id = $1", other)
    await watch_of(system).run_once()
    assert await system.count("workers", "claim_share = 0") == 1


async def test_one_at_a_time_is_evacuated_before_it_fails_if_others_can_take_its_jobs(system: System) -> None:
    """With the cause in the audit; not another within two minutes, and none whose jobs nobody else takes."""
    first, second, lonely = [await system.worker(f"w{number}") for number in range(3)]
    others = [await system.worker(f"healthy{number}") for number in range(4)]
    await system.sql.execute("UPDATE perdure.workers SET kinds = '{app.other}' WHERE id = $1", lonely)
    await system.add()
    await system.add("app.other")
    await system.claim(first)
    await system.claim(lonely, kind="app.other")
    for worker in (first, second, lonely):
        await tells(system, worker, leak=1.0)
    for worker in others:
        await tells(system, worker)
    reports: list[WatchReport] = [await watch_of(system, evacuates=True).run_once() for _ in range(2)]
    assert len(reports[0].evacuated) == 1
    assert reports[1].evacuated == (), "a new leader knows of the evacuation before it"
    await handed_over(system)
    await system.sql.execute("UPDATE perdure.job_events SET at = at - interval '110 seconds'")
    assert (await watch_of(system, evacuates=True).run_once()).evacuated == ()
    await system.sql.execute("UPDATE perdure.job_events SET at = at - interval '20 seconds'")
    reports.append(await watch_of(system, evacuates=True).run_once())
    evacuated = {worker for report in reports for worker in report.evacuated}
    assert evacuated == {first, second}
    assert (
        await system.count("job_events", "event = 'worker_evacuating' AND reason LIKE '%memory fills%'") == 2
    )
    assert await system.count("workers", "evacuate_by IS NOT NULL") == len(evacuated)


async def handed_over(system: System) -> None:
    """What is evacuated has let go, as if its processes had ended."""
    await system.sql.execute("UPDATE perdure.workers SET evacuated_at = now() WHERE evacuate_by IS NOT NULL")


async def test_the_last_worker_of_a_queue_is_not_evacuated_though_it_holds_nothing(system: System) -> None:
    lonely = await system.worker("lonely")
    others = [await system.worker(f"healthy{number}") for number in range(3)]
    await system.sql.execute("UPDATE perdure.workers SET queues = '{night}' WHERE id = $1", lonely)
    await tells(system, lonely, leak=1.0)
    for worker in others:
        await tells(system, worker)
    watch = watch_of(system, evacuates=True)
    assert (await watch.run_once()).evacuated == ()
    await system.sql.execute("UPDATE perdure.workers SET queues = '{default,night}' WHERE id = $1", others[0])
    assert (await watch.run_once()).evacuated == (lonely,)


async def test_nobody_is_evacuated_while_it_is_not_wished_or_most_are_sick(system: System) -> None:
    workers = [await system.worker(f"w{number}") for number in range(3)]
    for worker in workers[:2]:
        await tells(system, worker, leak=1.0)
    assert (await watch_of(system).run_once()).evacuated == ()
    assert (await watch_of(system, evacuates=True).run_once()).evacuated == ()
    assert await system.count("workers", "evacuate_by IS NOT NULL") == 0
