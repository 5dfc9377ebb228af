"""What a program does with a job that it enqueued, by its handle."""

from uuid import UUID

import pytest

from perdure import ActOutcome, JobFailed, JobState, Perdure
from perdure.domain.errors import IllegalTransition, InvalidOption, NotFound
from perdure.runtime.new_ids import new_id
from perdure.testing import inline
from tests.support import jobs

nowhere = Perdure(database_url="postgresql://nobody@localhost:1/none")


async def test_a_waiting_job_is_cancelled_and_its_history_says_by_whom_and_why(app: Perdure) -> None:
    handle = await app.enqueue(jobs.add, 1)
    assert await handle.cancel("changed our mind", actor="shop") is ActOutcome.CANCELLED
    with pytest.raises(IllegalTransition, match="is cancelled and cannot be cancelled"):
        await handle.cancel()
    with pytest.raises(JobFailed, match="ended cancelled: cancelled by shop: changed our mind"):
        await handle.result()


async def test_a_running_job_is_asked_to_stop_once(app: Perdure) -> None:
    worker = await app.workers.register(kinds=[jobs.add.name])
    handle = await app.enqueue(jobs.add, 1)
    (lease,) = await app.jobs.acquire(worker)
    assert [await handle.cancel(), await handle.cancel()] == [ActOutcome.REQUESTED, ActOutcome.UNCHANGED]
    assert list(await app.workers.heartbeat(worker)) == [(lease.job_id, lease.token)]
    await app.jobs.complete(lease, 2)
    with pytest.raises(IllegalTransition, match="completed and cannot be cancelled"):
        await handle.cancel()


async def test_a_cancelled_job_is_retried_in_a_new_run(app: Perdure) -> None:
    handle = await app.enqueue(jobs.add, 1)
    await handle.cancel()
    assert await handle.retry("after all") is ActOutcome.AVAILABLE
    with pytest.raises(IllegalTransition, match="cannot be retried"):
        await handle.retry()


async def test_cancelling_refuses_unknown_jobs_and_unfit_reasons(app: Perdure) -> None:
    with pytest.raises(NotFound):
        await app.handle(jobs.add, new_id()).cancel()
    handle = await app.enqueue(jobs.add, 1)
    with pytest.raises(InvalidOption, match="reason"):
        await handle.cancel("\x00")
    assert await handle.state() is JobState.AVAILABLE


def test_code_that_is_not_async_cancels_and_retries(database_url: str) -> None:
    app = Perdure(database_url=database_url)
    handle = app.using(delay="1h").enqueue_sync(jobs.add, 1)
    assert handle.cancel_sync() is ActOutcome.CANCELLED
    assert handle.retry_sync() is ActOutcome.AVAILABLE
    app.close_sync()


async def test_inline_cancels_what_waits_and_retries_what_was_cancelled() -> None:
    with inline(nowhere):
        later = await nowhere.using(delay="1h").enqueue(jobs.add, 1)
        child = await nowhere.using(depends_on=later, on_parent_failure="cancel").enqueue(jobs.add, 2)
        assert await later.cancel("not now") is ActOutcome.CANCELLED
        assert await child.state() is JobState.CANCELLED
        assert await later.retry() is ActOutcome.AVAILABLE
        assert await later.result() == 2
        with pytest.raises(IllegalTransition):
            await later.cancel()
        with pytest.raises(NotFound):
            await nowhere.handle(jobs.add, UUID(int=1)).retry()
