"""Finishing inside the handler's own transaction: the effects happen exactly once."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from perdure import JobState, Perdure
from perdure.domain.kind import Kind
from perdure.domain.settlement import Interrupted, Outcome, settle
from perdure.domain.worker import WorkerId
from perdure.runtime.handles import Handle
from tests.support import jobs
from tests.support.waiting import Gate, eventually

PATIENCE = "20s"
MODES = [jobs.complete_async, jobs.complete_thread, jobs.complete_process]


async def effects(sql: Any, name: str) -> list[int]:
    rows = await sql.fetch("SELECT attempt FROM effects WHERE name = $1 ORDER BY attempt", name)
    return [row["attempt"] for row in rows]


async def outcomes(app: Perdure, handle: Handle[Any]) -> list[Outcome]:
    return [one.outcome for one in reversed((await app.jobs.get(handle.id)).attempts)]


async def refusals(sql: Any, job_id: UUID) -> int:
    return int(
        await sql.fetchval(
            "SELECT count(*) FROM perdure.job_events WHERE job_id = $1 AND event = 'result_refused'", job_id
        )
    )


@pytest.mark.parametrize("kind", MODES)
async def test_effect_and_completion_commit_together(
    worked: Perdure, worked_sql: Any, kind: Kind[[str], str]
) -> None:
    name = str(uuid4())
    handle = await worked.enqueue(kind, name)
    assert await handle.result(PATIENCE) == "attempt 1"
    assert await effects(worked_sql, name) == [1]
    assert await outcomes(worked, handle) == [Outcome.COMPLETED]


@pytest.mark.parametrize("kind", MODES)
async def test_a_rolled_back_completion_is_tried_again_and_leaves_one_effect(
    worked: Perdure, worked_sql: Any, kind: Kind[[str, bool], str]
) -> None:
    name = str(uuid4())
    handle = await worked.enqueue(kind, name, True)
    assert await handle.result(PATIENCE) == "attempt 2"
    assert await effects(worked_sql, name) == [2]
    assert await outcomes(worked, handle) == [Outcome.FAILED, Outcome.COMPLETED]


async def test_an_error_after_the_commit_undoes_nothing(worked: Perdure, worked_sql: Any) -> None:
    name = str(uuid4())
    handle = await worked.enqueue(jobs.complete_then_fail, name)
    await handle.result(PATIENCE)
    await (await worked.enqueue(jobs.add, 1)).result(PATIENCE)
    assert await effects(worked_sql, name) == [1]
    assert await outcomes(worked, handle) == [Outcome.COMPLETED]
    assert await refusals(worked_sql, handle.id) == 0


async def test_a_rollback_that_the_handler_hides_is_noticed(worked: Perdure) -> None:
    handle = await worked.enqueue(jobs.complete_silently_undone)
    assert await handle.result(PATIENCE) == 2
    first = (await worked.jobs.get(handle.id)).attempts[-1]
    assert first.error is not None
    assert "did not commit" in first.error.message


async def test_a_handler_that_lost_its_lease_is_told_and_its_transaction_undone(
    worked: Perdure, worked_sql: Any, gate: Gate
) -> None:
    name = str(uuid4())
    handle = await worked.enqueue(jobs.complete_late, name, gate.path)

    async def running() -> bool:
        return await handle.state() is JobState.RUNNING

    async def undone() -> bool:
        return bool(await refusals(worked_sql, handle.id)) and await effects(worked_sql, f"{name} lost") == [
            0
        ]

    await eventually(running)
    await take_over(worked, handle.id)
    gate.open()  # at once, or the worker notices first that the lease is gone and stops the handler
    await handle.result(PATIENCE)
    await eventually(undone)
    assert await effects(worked_sql, name) == [1]
    assert await outcomes(worked, handle) == [Outcome.INTERRUPTED, Outcome.COMPLETED]


async def take_over(app: Perdure, job_id: UUID) -> None:
    """End the lease of a running job as a rescue does, so that another attempt begins."""
    stores = await app.stores()
    lease_of = (await app.jobs.get(job_id)).lease
    assert lease_of is not None
    held = await stores.leases.of_process(WorkerId(lease_of.worker_id), lease_of.process, limit=100)
    (mine,) = [one for one in held if one.lease.job_id == job_id]
    settled = await stores.jobs.settle([settle(mine.lease, Interrupted(cause="taken over by a test"))])
    assert settled.accepted
    await stores.dispatch.announce(settled.released)
