"""Keeping work from a worker, and moving away what it holds."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from time import monotonic
from uuid import uuid4

import pytest

from perdure.domain.errors import Conflict, InvalidOption, NotFound
from perdure.domain.settlement import Completed
from perdure.domain.worker import WorkerId
from perdure.ports import By
from perdure.services.evacuate import Evacuate, FollowUp, Terms
from perdure.stores.postgres.callers import complete
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.evacuation import PostgresEvacuations
from tests.support.system import System, system_on

BY = By(actor="tests", reason="drill")
AT_ONCE = Terms(grace=timedelta(0))


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


def service(system: System) -> Evacuate:
    return Evacuate(PostgresEvacuations(system.database), system.workers)


def leader(system: System) -> FollowUp:
    dispatch = PostgresDispatch(system.database)
    return FollowUp(PostgresEvacuations(system.database), system.jobs, dispatch, interruption_limit=50)


async def past_deadline(system: System, worker: WorkerId) -> None:
    statement = "UPDATE perdure.workers SET evacuate_by = now() - interval '1 minute' WHERE id = $1"
    await system.sql.execute(statement, worker)


async def events(system: System, worker: WorkerId) -> list[str]:
    statement = "SELECT event FROM perdure.job_events WHERE worker_id = $1 ORDER BY at"
    return [row["event"] for row in await system.sql.fetch(statement, worker)]


async def test_a_cordon_is_told_with_the_heartbeat_and_can_be_undone(system: System) -> None:
    worker, evacuate = await system.worker(), service(system)
    assert await evacuate.cordon(worker, BY)
    assert not await evacuate.cordon(worker, BY)
    beat = await system.workers.beat(worker, kinds=(), processes=1)
    assert beat is not None
    assert beat.cordoned
    assert (await system.workers.get(worker)).cordoned
    assert await evacuate.uncordon(worker, BY)
    assert not await evacuate.uncordon(worker, BY)
    beat = await system.workers.beat(worker, kinds=(), processes=1)
    assert beat is not None
    assert not beat.cordoned
    assert await events(system, worker) == ["worker_cordoned", "worker_uncordoned"]


async def test_a_dry_run_tells_where_each_job_can_go_and_changes_nothing(system: System) -> None:
    worker = await system.worker("old")
    await system.worker("idle")
    await system.worker("other-kind", kinds=("app.other",))
    cordoned = await system.worker("cordoned")
    await service(system).cordon(cordoned, BY)
    await system.add_many(3)
    await system.claim(worker, limit=3)
    plan = await service(system).evacuate(worker, BY, Terms(dry_run=True))
    assert [(move.kind, move.jobs, move.destinations) for move in plan.moves] == [("app.work", 3, ("idle",))]
    assert (plan.jobs, plan.stranded, plan.changed) == (3, 0, False)
    beat = await system.workers.beat(worker, kinds=(), processes=1)
    assert beat is not None
    assert beat.grace is None


async def test_jobs_that_nobody_else_takes_are_counted(system: System) -> None:
    worker = await system.worker()
    await system.add()
    await system.claim(worker)
    assert (await service(system).evacuate(worker, BY, Terms(dry_run=True))).stranded == 1


async def test_an_evacuated_worker_is_told_to_drain_and_how_long_it_has(system: System) -> None:
    worker = await system.worker()
    assert (await service(system).evacuate(worker, BY, Terms(grace=timedelta(seconds=20)))).changed
    assert not (await service(system).evacuate(worker, BY)).changed
    beat = await system.workers.beat(worker, kinds=(), processes=1)
    assert beat is not None
    assert beat.state.value == "draining"
    assert beat.cordoned
    assert beat.grace is not None
    assert timedelta(seconds=10) < beat.grace <= timedelta(seconds=20)


async def test_a_worker_that_does_not_answer_loses_its_leases_after_the_deadline_and_burns_no_attempt(
    system: System,
) -> None:
    """And what it says afterwards is refused."""
    worker = await system.worker()
    await system.add()
    (lease,) = await system.claim(worker)
    await service(system).evacuate(worker, BY, AT_ONCE)
    assert (await leader(system).run_once()).taken == 0  # it still has time to settle by itself
    await past_deadline(system, worker)
    report = await leader(system).run_once()
    assert (report.taken, list(report.finished)) == (1, [worker])
    assert (await system.end(lease, Completed(result="null"))).accepted == frozenset()
    (again,) = await system.claim()
    assert (again.job_id, again.attempt, again.interruptions) == (lease.job_id, lease.attempt, 1)
    assert await events(system, worker) == ["worker_evacuating", "worker_evacuated"]


async def test_a_handler_that_is_about_to_end_its_job_itself_holds_up_no_evacuation(system: System) -> None:
    """Its worker froze before the commit: the leader passes over that lease, and takes it when the transaction is gone."""
    worker = await system.worker()
    slow, hung = await system.add(), await system.add()
    leases = {lease.job_id: lease for lease in await system.claim(worker, limit=2)}
    await service(system).evacuate(worker, BY, AT_ONCE)
    await past_deadline(system, worker)
    async with system.sql.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await complete(conn, leases[slow], "done", started=monotonic())
        report = await asyncio.wait_for(leader(system).run_once(), 20)
        assert (report.taken, list(report.finished)) == (1, [])
        assert [await system.state(job) for job in (slow, hung)] == ["running", "available"]
        await transaction.rollback()
    report = await leader(system).run_once()
    assert (report.taken, list(report.finished)) == (1, [worker])
    assert await system.state(slow) == "available"


async def test_the_end_of_an_evacuation_is_told_once(system: System) -> None:
    worker = await system.worker()
    await service(system).evacuate(worker, BY, AT_ONCE)
    assert list((await leader(system).run_once()).finished) == [worker]
    assert list((await leader(system).run_once()).finished) == []


async def test_no_more_workers_than_allowed_are_evacuated_at_once(system: System) -> None:
    first, second = await system.worker("a"), await system.worker("b")
    await system.add()
    await system.claim(first)
    await service(system).evacuate(first, BY)
    with pytest.raises(Conflict, match="1 workers are being evacuated already"):
        await service(system).evacuate(second, BY)
    assert (await service(system).evacuate(second, BY, Terms(at_once=2))).changed


async def test_an_evacuation_cannot_be_called_off_and_the_error_says_what_to_do(system: System) -> None:
    worker = await system.worker()
    await service(system).evacuate(worker, BY)
    with pytest.raises(Conflict) as caught:
        await service(system).uncordon(worker, BY)
    assert "start another worker" in caught.value.next_step


async def test_a_worker_that_has_ended_or_never_was_is_not_found(system: System) -> None:
    worker = await system.worker()
    await system.workers.stop(worker, cause="done")
    for gone in (worker, uuid4()):
        for act in (service(system).cordon, service(system).uncordon, service(system).evacuate):
            with pytest.raises(NotFound):
                await act(gone, BY)


async def test_terms_that_make_no_sense_are_refused(system: System) -> None:
    worker = await system.worker()
    for terms in (Terms(grace=timedelta(seconds=-1)), Terms(at_once=0)):
        with pytest.raises(InvalidOption):
            await service(system).evacuate(worker, BY, terms)
