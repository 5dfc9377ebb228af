"""The leader's process that looks after the trained models."""

from pydantic import SecretStr

from perdure.runtime.settings import Settings
from perdure.runtime.training_process import TrainingProcess
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.models import PostgresModels
from tests.support.waiting import eventually


async def test_a_leader_has_a_process_look_after_the_models_once_and_tells_what_it_found(
    database_url: str,
) -> None:
    database = await PooledDatabase.open(database_url, application_name="tests", most=1)
    models = PostgresModels(database)
    settings = Settings(database_url=SecretStr(database_url))
    training, other = TrainingProcess(settings, models), TrainingProcess(settings, models)

    async def found() -> str:
        await training.keep(leading=True)
        return (await models.found())[1]

    try:
        await training.keep(leading=False)
        assert (await models.found())[0] is None
        assert "takes 20" in await eventually(found, within_s=60)
        looked_at, _ = await models.found()
        await other.keep(leading=True)  # somebody has had the turn within the hour
        assert (await models.found())[0] == looked_at
    finally:
        await training.end()
        await other.end()
        await database.close()


async def test_without_training_wanted_nobody_takes_the_turn(database_url: str) -> None:
    database = await PooledDatabase.open(database_url, application_name="tests", most=1)
    models = PostgresModels(database)
    settings = Settings(database_url=SecretStr(database_url), model_training=False)
    await TrainingProcess(settings, models).keep(leading=True)
    assert (await models.found())[0] is None
    await database.close()
