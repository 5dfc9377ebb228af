"""`app.state`: the specification's operations on snapshots."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure import Perdure, job
from perdure.domain.errors import InvalidOption, NotEmpty, NotFound, PastUnknown
from perdure.domain.restore import Conflicts, Phase, RestoreScope
from perdure.runtime.state_operations import InPlaceOptions, RestoreOptions


@job
async def send(to: str) -> None:
    """Does nothing; it is only enqueued."""


async def test_the_operations_of_the_specification(
    database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    async with Perdure(database_url=database_url, snapshots=str(tmp_path)) as app:
        handle = await app.enqueue(send, "kim")
        full = await app.state.create_snapshot()
        increment = await app.state.create_snapshot(base=full.id)
        assert [each.id for each in await app.state.snapshots()] == [increment.id, full.id]
        assert len(await app.state.verify_snapshot(increment.id)) == 2
        with pytest.raises(NotEmpty):
            await app.state.restore_from_snapshot(full.id)
        with pytest.raises(PastUnknown):
            await app.state.point_in_time_recovery(full.at - timedelta(seconds=1))
        elsewhere = RestoreOptions(database_url=empty_database_url)
        done = await app.state.point_in_time_recovery(datetime.now(UTC), elsewhere)
        assert (done.snapshot, done.rows["jobs"]) == (increment.id, 1)
        await app.state.restore_from_snapshot(full.id, RestoreOptions(schema="copy", fork=True))
        await app.state.enable_auto_snapshot("1h", 5)
        assert await app.state.disable_auto_snapshot()
        assert not await app.state.disable_auto_snapshot()
        with pytest.raises(InvalidOption):
            await app.state.enable_auto_snapshot("1s", 5)
        await app.state.delete_snapshot(increment.id)
        with pytest.raises(NotFound):
            await app.state.delete_snapshot(increment.id)
    async with Perdure(database_url=empty_database_url) as restored:
        assert (await restored.jobs.get(handle.id)).job.state == "available"
        with pytest.raises(PastUnknown):
            await restored.jobs.list(as_of=datetime.now(UTC))


async def test_a_live_system_is_restored_by_a_plan_that_is_looked_at(
    database_url: str, tmp_path: Path
) -> None:
    async with Perdure(database_url=database_url, snapshots=str(tmp_path)) as app:
        handle = await app.enqueue(send, "kim")
        snapshot = await app.state.create_snapshot()
        await app.jobs.cancel(handle.id)
        kept = InPlaceOptions(conflicts=Conflicts(choices={"cancelled_since": "keep"}))
        assert (await app.state.plan_restore(snapshot.id, kept)).changes == 0
        options = InPlaceOptions(scope=RestoreScope(graph=handle.id))
        plan = await app.state.plan_restore(snapshot.id, options)
        done = await app.state.apply_restore(plan, drain="1s")
        assert (done.phase, done.changes) == (Phase.DONE, 1)
        assert (await app.jobs.get(handle.id)).job.state == "available"
        undoing = await app.state.plan_undoing(plan.id)
        assert (await app.state.apply_restore(undoing)).phase is Phase.DONE
        assert (await app.state.restore(undoing.id)).undoes == plan.id
        assert (await app.jobs.get(handle.id)).job.state == "cancelled"
        with pytest.raises(PastUnknown):
            await app.state.plan_restore(datetime.now(UTC))
