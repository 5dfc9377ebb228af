"""A worker tells of itself while it works."""

from functools import partial

import pytest

from perdure.domain.sample import Sample
from tests.support import fault_jobs as jobs
from tests.support.fleet import Fleet, until

ONE_DISPATCH = pytest.mark.parametrize("dispatch", ["postgres"], indirect=True)


@ONE_DISPATCH
async def test_samples_tell_of_jobs_memory_and_a_process_that_died(fleet: Fleet) -> None:
    host = await fleet.host(
        sample_interval_s=0.2, heartbeat_interval_s=0.2, suspect_after_s=2, dead_after_s=5
    )
    await fleet.app.enqueue_many([fleet.app.prepare(jobs.noop, n) for n in range(40)])
    samples: list[Sample] = []

    async def told(metric: str, least: int) -> bool:
        stores = await fleet.app.stores()
        samples[:] = await stores.samples.latest(host.worker_id, limit=500)
        return sum(int(getattr(one, metric)) for one in samples) >= least

    await until(partial(told, "finished", 40), within_s=30, what="the samples tell of the jobs")
    await fleet.app.using(retries=0).enqueue(jobs.poison)
    await until(partial(told, "crashed", 1), within_s=30, what="the samples tell of the crash")
    alive = [one for one in samples if one.resident_mb]
    assert max(one.resident_mb or 0 for one in alive) > 10
    assert 0 < max(one.memory_percent or 0 for one in alive) < 100
    assert max(one.open_files or 0 for one in alive) > 3
    assert max(one.database_ms or 0 for one in samples) > 0
    assessed = await fleet.app.health.detect_anomalies(host.worker_id)
    assert assessed.samples >= len(samples)
