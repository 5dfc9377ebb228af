"""Advice on a kind from its recorded history."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from perdure import Perdure
from perdure.domain.errors import InvalidOption, NotFound
from perdure.domain.redaction import Redaction
from perdure.services.advise import Advise
from perdure.stores.postgres.advice import PostgresAttempts
from tests.support.attempts import went
from tests.support.system import System, system_on


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


async def test_the_history_of_a_kind_tells_its_durations_failures_and_causes(
    system: System, database_url: str
) -> None:
    await went(system)
    await system.add("app.other")
    advise = Advise(PostgresAttempts(system.database, Redaction()))
    told = await advise.kind("app.work")
    assert (told.attempts, told.failure and told.failure.part) == (60, 20)
    assert told.duration is not None
    assert (told.duration.median_s, told.duration.successes) == (2.0, 40)
    assert [(cause.error, cause.share.part) for cause in told.causes] == [("ValueError", 20)]
    assert (told.timeout, told.retry, told.labels) == (None, None, None)
    assert (await advise.kind("app.other")).attempts == 0
    assert (await advise.kind("app.work", limit=35)).attempts == 35
    with pytest.raises(NotFound):
        await advise.kind("app.none")
    with pytest.raises(InvalidOption):
        await advise.kind("app.work", within=timedelta(0))
    async with Perdure(database_url=database_url) as app:
        assert (await app.state.advise("app.work")).failure == told.failure


async def test_numeric_arguments_are_looked_at_and_hidden_ones_are_not(system: System) -> None:
    await went(system)
    attempts = await PostgresAttempts(system.database, Redaction()).of_kind(
        "app.work", within=timedelta(days=1), limit=5, budget=timedelta(seconds=30)
    )
    assert {tuple(each.numbers.items()) for each in attempts} == {(("width", 3.0),)}
    assert {each.timeout_s for each in attempts} == {300.0}
