"""The life of trained models on a real database: learnt, shadowed, promoted, refused when tampered with, rolled back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest

from perdure.domain.errors import Conflict, ModelUnusable, NotFound
from perdure.domain.model import Model, ModelState
from perdure.domain.sample import Sample
from perdure.ports import By
from perdure.services.champion import Champion
from perdure.services.foresee import Foresee
from perdure.services.models import TrainedModels
from perdure.stores.postgres.models import PostgresModels
from perdure.stores.postgres.samples import PostgresSamples
from perdure.stores.postgres.vitals import PostgresVitals
from tests.support.system import System, system_on

INTERVAL, LAG = timedelta(seconds=10), timedelta(seconds=6)
ME = By(actor="me", reason="a test")
TOLD = 60
HOURS = 40


@dataclass(frozen=True)
class Fleet:
    """A database with the history of a fleet, and the services on it."""

    system: System
    models: TrainedModels
    store: PostgresModels
    champion: Champion

    async def foretold(self, worker_id: UUID) -> tuple[str, float, str]:
        """By which method a worker's failure is foretold, how likely it is, and what is to be heeded."""
        vitals = PostgresVitals(self.system.database)
        foresee = Foresee(vitals, self.champion, interval=INTERVAL, lag_max=LAG)
        found = (await foresee.outlook(worker_id)).prediction
        return found.method, found.probability, found.caution


@asynccontextmanager
async def fleet_on(database_url: str) -> AsyncIterator[Fleet]:
    async with system_on(database_url) as system:
        store = PostgresModels(system.database)
        yield Fleet(
            system,
            TrainedModels(store, interval=INTERVAL, lag_max=LAG, shadow=timedelta(0)),
            store,
            Champion(store, interval=INTERVAL),
        )


@pytest.fixture
async def fleet(database_url: str) -> AsyncIterator[Fleet]:
    async with fleet_on(database_url) as fleet:
        yield fleet


def told(worker_id: UUID, random: Random, *, leaking: bool) -> list[Sample]:
    """Ten minutes of a worker; one that will die loses files, which no limit watches."""
    return [
        Sample(
            worker_id=worker_id,
            at=datetime.now(UTC),
            running=1,
            finished=20,
            failed=random.randint(0, 1),
            timed_out=0,
            memory_percent=20 + random.gauss(0, 0.5),
            loop_lag_ms=abs(random.gauss(3, 1)),
            slowness=1.0,
            open_files=40 + (30 * number if leaking else 0) + random.randint(0, 5),
        )
        for number in range(TOLD)
    ]


async def lived(
    fleet: Fleet, *, count: int = 120, until: timedelta = timedelta(minutes=10), seed: int = 0
) -> None:
    """Workers of the last forty hours, half of which died after files had leaked for ten minutes; the last ended `until` ago."""
    random = Random(seed)
    samples, ages, rows = [], [], []
    for number in range(count):
        worker_id, leaking = UUID(int=random.getrandbits(128)), number % 2 == 0
        ended = until + timedelta(hours=HOURS) * (1 - (number + 1) / count)
        samples += told(worker_id, random, leaking=leaking)
        ages += [int(1000 * ended.total_seconds()) + 10_000 * (TOLD - 1 - each) for each in range(TOLD)]
        rows.append((worker_id, "dead" if leaking else "stopped", ended))
    await PostgresSamples(fleet.system.database).write(samples, ages_ms=ages)
    await fleet.system.sql.executemany(
        "INSERT INTO perdure.workers (id, name, host, pid, type, state, queues, kinds, labels, capacity, processes, version, started_at, stopped_at) "
        "VALUES ($1, 'w', 'h', 1, 'worker', $2::text::perdure.worker_state, '{}', '{}', '{}', 1, 1, '1', now() - $3::interval - interval '10 minutes', now() - $3::interval)",
        rows,
    )


async def worker(fleet: Fleet, *, leaking: bool) -> UUID:
    """A living worker that has told of itself until now."""
    worker_id = await fleet.system.worker("leaking" if leaking else "sound")
    samples = told(worker_id, Random(1), leaking=leaking)
    ages = [10_000 * (TOLD - 1 - number) for number in range(TOLD)]
    await PostgresSamples(fleet.system.database).write(samples, ages_ms=ages)
    return worker_id


async def stands(fleet: Fleet) -> dict[int, str]:
    return {one.id: str(one.state) for one in await fleet.models.list()}


async def trained(fleet: Fleet) -> Model:
    model = await fleet.models.train(ME)
    assert model.state is ModelState.SHADOW, model.why
    return model


async def test_a_model_learns_from_history_what_no_limit_sees_and_foretells_by_it(fleet: Fleet) -> None:
    await lived(fleet)
    leaking, sound = await worker(fleet, leaking=True), await worker(fleet, leaking=False)
    method, before, _ = await fleet.foretold(leaking)
    assert method == "limits"
    model = await trained(fleet)
    assert (await fleet.foretold(leaking))[0] == "limits"
    promoted = await fleet.models.promote(model.id, ME)
    assert promoted.state is ModelState.CHAMPION
    method, after, _ = await fleet.foretold(leaking)
    assert method == model.name
    assert after > 0.5 > before
    assert (await fleet.foretold(sound))[1] < 0.1
    evaluation = await fleet.models.evaluate(model.id)
    assert (evaluation.faults, evaluation.failures > 0) == ((), True)
    assert (
        await fleet.system.count(
            "job_events", "event IN ('model_trained', 'model_shadowed', 'model_promoted')"
        )
        == 3
    )


async def test_a_tampered_champion_is_refused_and_the_one_before_stays(fleet: Fleet) -> None:
    await lived(fleet)
    leaking = await worker(fleet, leaking=True)
    first, second = await trained(fleet), await fleet.models.train(ME)
    await fleet.models.promote(first.id, ME)
    assert (await fleet.foretold(leaking))[0] == first.name
    await fleet.system.sql.execute(
        "UPDATE perdure.models SET body = overlay(body PLACING 'xx' FROM 900) WHERE id = $1", second.id
    )
    with pytest.raises(ModelUnusable, match="hash"):
        await fleet.models.promote(second.id, ME, force=True)
    await fleet.system.sql.execute(
        "UPDATE perdure.model_posts SET champion = $1, shadow = NULL, shadow_since = NULL", second.id
    )
    method, probability, caution = await fleet.foretold(leaking)
    assert (method, probability > 0.5) == (first.name, True)
    assert f"model {second.id}" in caution
    fresh = Fleet(fleet.system, fleet.models, fleet.store, Champion(fleet.store, interval=INTERVAL))
    method, _, caution = await fresh.foretold(leaking)
    assert (method, "hash" in caution) == ("limits", True)
    assert "took model" in await fleet.models.run_once()
    assert (await stands(fleet))[second.id] == "retired"


async def test_the_leader_trains_promotes_after_the_shadow_and_takes_back_what_does_worse_than_the_limits(
    fleet: Fleet,
) -> None:
    await lived(fleet, until=timedelta(minutes=30))
    assert "there is no model yet: model 1 is shadow" in await fleet.models.run_once()
    assert "promoted" not in await fleet.models.run_once()  # nothing has happened since it is in the shadow
    await fleet.system.sql.execute("UPDATE perdure.model_posts SET shadow_since = now() - interval '1 hour'")
    await lived(fleet, count=24, until=timedelta(minutes=1), seed=1)
    await fleet.system.sql.execute(
        "UPDATE perdure.model_posts SET shadow_since = now() - interval '41 hours'"
    )
    assert "promoted model 1" in await fleet.models.run_once()
    assert (await stands(fleet))[1] == "champion"
    # Most of those whose files grew lived on for long: what the model learnt is not so any more.
    await fleet.system.sql.execute(
        "UPDATE perdure.workers SET state = 'stopped', stopped_at = stopped_at + interval '20 minutes' WHERE get_byte(uuid_send(id), 15) < 215"
    )
    await fleet.system.sql.execute(
        "UPDATE perdure.model_posts SET champion_since = now() - interval '41 hours'"
    )
    assert "took model 1 back" in await fleet.models.run_once()
    assert await fleet.store.champion() is None


async def test_roll_backs_go_back_champion_by_champion(fleet: Fleet) -> None:
    await lived(fleet)
    first, second = await trained(fleet), await fleet.models.train(ME)
    await fleet.models.promote(first.id, ME)
    await fleet.models.promote(second.id, ME, force=True)
    with pytest.raises(Conflict, match="already"):
        await fleet.models.promote(second.id, ME, force=True)
    assert await stands(fleet) == {first.id: "retired", second.id: "champion"}
    assert await fleet.models.rollback(ME) == first.id
    assert await stands(fleet) == {first.id: "champion", second.id: "retired"}
    assert await fleet.models.rollback(ME) is None
    with pytest.raises(Conflict, match="no champion"):
        await fleet.models.rollback(ME)
    with pytest.raises(NotFound):
        await fleet.models.promote(99, ME)
    assert await fleet.system.count("job_events", "event = 'model_rolled_back'") == 2


async def test_a_model_that_is_no_better_than_the_champion_is_kept_as_a_candidate_and_not_promoted_unasked(
    fleet: Fleet,
) -> None:
    await lived(fleet)
    first = await trained(fleet)
    await fleet.models.promote(first.id, ME)
    second = await fleet.models.train(ME)
    assert second.state is ModelState.CANDIDATE
    assert "not surely better than the champion" in second.why
    with pytest.raises(Conflict, match="not to be relied on"):
        await fleet.models.promote(second.id, ME)


async def test_with_few_failures_nothing_is_learnt_and_it_is_said(fleet: Fleet) -> None:
    with pytest.raises(Conflict):
        await fleet.models.train(ME)
    await lived(fleet, count=10)
    with pytest.raises(Conflict, match="5 failures of workers are known; to learn from them takes 20"):
        await fleet.models.train(ME)
    assert "takes 20" in await fleet.models.run_once()
    assert await fleet.models.list() == []


async def test_one_leader_at_a_time_looks_after_the_models_and_not_again_at_once(fleet: Fleet) -> None:
    hour = timedelta(hours=1)
    assert [await fleet.store.look(every=hour), await fleet.store.look(every=hour)] == [True, False]
    await fleet.store.note("nothing to do")
    looked_at, found = await fleet.models.found()
    assert (looked_at is not None, found) == (True, "nothing to do")
