"""`app.state`: the specification's operations on snapshots."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from perdure import Perdure, job
from perdure.domain.errors import Conflict, InvalidOption, NotEmpty, NotFound, PastUnknown
from perdure.domain.restore import Action, Conflicts, Phase, RestoreScope
from perdure.runtime.restore_operations import InPlaceOptions
from perdure.runtime.snapshot_operations import RestoreOptions
from perdure.runtime.state_operations import StateOperations
from perdure.stores.postgres.archive import SnapshotPolicy
from perdure.surfaces.cli import memory, restore, snapshot


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
        assert await app.state.half_snapshots() == []
        assert await app.state.snapshot(full.id) == full
        assert (await app.state.compare_snapshots(full.id, full.id)).rows["jobs"] == (1, 1)
        with pytest.raises(NotEmpty):
            await app.state.restore_from_snapshot(full.id)
        with pytest.raises(PastUnknown):
            await app.state.point_in_time_recovery(full.at - timedelta(seconds=1))
        reach = await app.state.recoverable(datetime.now(UTC))
        assert (reach.snapshot, reach.recorded, reach.gap_s > 0) == (increment, None, True)
        elsewhere = RestoreOptions(database_url=empty_database_url)
        done = await app.state.point_in_time_recovery(datetime.now(UTC), elsewhere)
        assert (done.snapshot, done.rows["jobs"]) == (increment.id, 1)
        await app.state.restore_from_snapshot(full.id, RestoreOptions(schema="copy", fork=True))
        assert await app.state.auto_snapshot() is None
        await app.state.enable_auto_snapshot("1h", 5)
        assert await app.state.auto_snapshot() == SnapshotPolicy(every=timedelta(hours=1), keep=5)
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
        saved = await app.state.create_snapshot()
        await app.jobs.cancel(handle.id)
        kept = InPlaceOptions(conflicts=Conflicts(choices={"cancelled_since": "keep"}))
        assert (await app.state.plan_restore(saved.id, kept)).changes == 0
        options = InPlaceOptions(scope=RestoreScope(graph=handle.id))
        plan = await app.state.plan_restore(saved.id, options)
        assert await app.state.moved_since_plan(plan.id) == 0
        done = await app.state.apply_restore(plan, drain="1s")
        assert (done.phase, done.changes) == (Phase.DONE, 1)
        assert (await app.state.resume_restore(plan.id)).phase is Phase.DONE, (
            "what has ended is left as it is"
        )
        assert [each.id for each in await app.state.restores(limit=1)] == [plan.id]
        (item,) = await app.state.restore_jobs(plan.id)
        assert (item.job_id, item.action, item.outcome) == (handle.id, Action.REQUEUE, "done")
        assert await app.state.restore_jobs(plan.id, after=handle.id) == []
        with pytest.raises(Conflict, match="does not hold its lanes"):
            await app.state.release_restore(plan.id)
        with pytest.raises(NotFound):
            await app.state.restore_jobs(UUID(int=1))
        assert (await app.jobs.get(handle.id)).job.state == "available"
        undoing = await app.state.plan_undoing(plan.id)
        assert (await app.state.apply_restore(undoing)).phase is Phase.DONE
        assert (await app.state.restore(undoing.id)).undoes == plan.id
        assert (await app.jobs.get(handle.id)).job.state == "cancelled"
        with pytest.raises(PastUnknown):
            await app.state.plan_restore(datetime.now(UTC))


OPERATIONS = {
    "snapshot create": "create_snapshot",
    "snapshot list": "snapshots half_snapshots",
    "snapshot show": "snapshot",
    "snapshot verify": "verify_snapshot",
    "snapshot diff": "compare_snapshots",
    "snapshot delete": "delete_snapshot",
    "snapshot restore": "restore_from_snapshot point_in_time_recovery recoverable",
    "snapshot auto": "enable_auto_snapshot disable_auto_snapshot auto_snapshot",
    "restore plan": "plan_restore plan_undoing",
    "restore apply": "apply_restore moved_since_plan",
    "restore resume": "resume_restore",
    "restore release": "release_restore",
    "restore list": "restores",
    "restore show": "restore",
    "restore jobs": "restore_jobs",
    "memory show": "execution_context",
    "memory store": "store_execution_context",
    "memory status": "memory_status",
    "memory rebuild": "rebuild_memory",
    "memory serve": "",  # a process of its own, which a program starts as one
    "search": "search_similar_executions",
    "job similar": "similar_patterns",
    "kind advise": "advise",
    "shared": "shared_memory",
}


def test_what_the_command_line_does_a_program_does_too_and_the_other_way_round() -> None:
    """Every command on state has its operation, and every operation its command."""
    commands = {
        f"{app.name[0]} {name}"
        for app in (snapshot.app, restore.app, memory.app)
        for name in app
        if not name.startswith("-")
    }
    beside = {"search", "job similar", "kind advise", "shared"}
    assert commands | beside == OPERATIONS.keys()
    operations = {name for name in dir(StateOperations) if not name.startswith("_")}
    assert operations == {name for names in OPERATIONS.values() for name in names.split()}
