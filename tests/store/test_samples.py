"""What workers tell of themselves is kept, and read back in order."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from perdure.domain.sample import Sample
from perdure.services.assess import Assess
from perdure.stores.postgres.samples import PostgresSamples
from tests.support.system import System, system_on


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


def sample(worker_id: UUID, **figures: float | None) -> Sample:
    values = {"running": 1, "finished": 10, "failed": 0, "timed_out": 0, **figures}
    return Sample(worker_id=worker_id, at=datetime.now(UTC), **values)  # type: ignore[arg-type]


async def test_samples_are_dated_by_their_age_and_read_oldest_first(system: System) -> None:
    worker, samples = uuid4(), PostgresSamples(system.database)
    batch = [sample(worker, resident_mb=float(number)) for number in range(3)]
    await samples.write([*batch, sample(uuid4())], ages_ms=[20_000, 10_000, 0, 0])
    found = await samples.latest(worker, limit=2)
    assert [one.resident_mb for one in found] == [1.0, 2.0]
    assert found[1].at - found[0].at == timedelta(seconds=10)
    assert found[0].cpu_percent is None


async def test_a_spike_is_named_with_what_was_expected(system: System) -> None:
    """And metrics that are as always are not."""
    worker, samples = uuid4(), PostgresSamples(system.database)
    lags = [*(1.0 + number % 3 for number in range(30)), 90.0]
    batch = [sample(worker, loop_lag_ms=lag, resident_mb=50.0) for lag in lags]
    await samples.write(batch, ages_ms=[10_000 * (30 - number) for number in range(31)])
    (off,) = (await Assess(samples, interval=timedelta(seconds=10)).detect_anomalies(worker)).anomalies
    assert (off.metric, off.value, off.severity) == ("loop_lag_ms", 90.0, 5)
    assert 1 < off.expected < 3


async def test_of_a_worker_that_has_told_nothing_nothing_is_said(system: System) -> None:
    found = await Assess(PostgresSamples(system.database), interval=timedelta(seconds=10)).detect_anomalies(
        uuid4()
    )
    assert (found.samples, found.newest, found.anomalies) == (0, None, ())
