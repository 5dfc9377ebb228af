"""How attempts end in a real worker: steering, retries, time limits, cancelling."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import Context, JobFailed, JobState, Perdure
from perdure.domain.kind import Kind
from perdure.domain.settlement import Outcome
from perdure.domain.views import AttemptView, ProgressView
from perdure.runtime.handles import Handle
from tests.support import jobs
from tests.support.waiting import Gate, eventually

PATIENCE = "20s"


async def history(app: Perdure, handle: Handle[Any]) -> list[AttemptView]:
    """The attempts of a job, the first one first."""
    return list(reversed((await app.jobs.get(handle.id)).attempts))


async def reached(handle: Handle[Any], state: JobState) -> None:
    async def there() -> bool:
        return await handle.state() is state

    await eventually(there)


async def process_of(app: Perdure) -> int:
    """The process that runs async jobs now."""
    return (await (await app.enqueue(jobs.about_async)).result(PATIENCE)).pid


@pytest.mark.parametrize("by_raising", [True, False])
async def test_retry_after_uses_up_an_attempt_and_names_its_own_wait(
    worked: Perdure, tmp_path: Path, by_raising: bool
) -> None:
    handle = await worked.enqueue(jobs.steer, "retry", str(tmp_path / "marker"), by_raising)
    assert await handle.result(PATIENCE) == "done at attempt 2"
    first, second = await history(worked, handle)
    assert (first.outcome, first.state, first.cause) == (Outcome.FAILED, JobState.RETRYABLE, "later")
    assert first.retry_at is not None
    assert second.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("by_raising", [True, False])
async def test_snooze_uses_up_no_attempt(worked: Perdure, tmp_path: Path, by_raising: bool) -> None:
    handle = await worked.enqueue(jobs.steer, "snooze", str(tmp_path / "marker"), by_raising)
    assert await handle.result(PATIENCE) == "done at attempt 1"
    first, _ = await history(worked, handle)
    assert (first.outcome, first.state) == (Outcome.SNOOZED, JobState.SCHEDULED)


@pytest.mark.parametrize("by_raising", [True, False])
async def test_cancel_ends_the_job_cancelled(worked: Perdure, tmp_path: Path, by_raising: bool) -> None:
    handle = await worked.enqueue(jobs.steer, "cancel", str(tmp_path / "marker"), by_raising)
    with pytest.raises(JobFailed, match="ended cancelled: not needed"):
        await handle.result(PATIENCE)


@pytest.mark.parametrize("by_raising", [True, False])
async def test_give_up_goes_to_the_dead_letter_queue_at_once(
    worked: Perdure, tmp_path: Path, by_raising: bool
) -> None:
    handle = await worked.enqueue(jobs.steer, "give up", str(tmp_path / "marker"), by_raising)
    with pytest.raises(JobFailed, match="ended discarded"):
        await handle.result(PATIENCE)
    detail = await worked.jobs.get(handle.id)
    assert detail.dead_letter is not None
    assert (detail.dead_letter.cause, detail.dead_letter.attempt) == ("hopeless", 1)


async def test_failures_are_retried_after_their_back_off_and_counted(worked: Perdure) -> None:
    handle = await worked.enqueue(jobs.fails_twice)
    assert await handle.result(PATIENCE) == 3
    attempts = await history(worked, handle)
    assert [one.attempt for one in attempts] == [1, 2, 3]
    assert [one.outcome for one in attempts] == [Outcome.FAILED, Outcome.FAILED, Outcome.COMPLETED]


async def test_the_error_of_a_failed_job_tells_no_password(worked: Perdure) -> None:
    handle = await worked.enqueue(jobs.always_fails, "no answer, password=hunter2")
    with pytest.raises(JobFailed, match=r"Never: no answer, password=\[redacted\]$") as failed:
        await handle.result(PATIENCE)
    assert "hunter2" not in failed.value.error


async def test_the_last_failure_is_discarded_with_its_error_and_place(worked: Perdure) -> None:
    handle = await worked.enqueue(jobs.always_fails, "no \ud7ff way")
    with pytest.raises(JobFailed, match=r"tests\.support\.jobs\.Never: no . way") as failed:
        await handle.result(PATIENCE)
    assert failed.value.state == "discarded"
    attempts = await history(worked, handle)
    assert [one.state for one in attempts] == [JobState.RETRYABLE, JobState.RETRYABLE, JobState.DISCARDED]
    waits = [one.retry_at - one.settled_at for one in attempts[:2] if one.retry_at]
    assert [round(wait.total_seconds(), 3) for wait in waits] == [0.02, 0.04]
    error = attempts[-1].error
    assert error is not None
    assert "in always_fails" in error.traceback


async def test_a_retry_policy_that_fails_itself_loses_no_attempt(worked: Perdure) -> None:
    handle = await worked.enqueue(jobs.fails_with_its_policy)
    assert await handle.result(PATIENCE) == 2
    first = (await history(worked, handle))[0]
    assert "its retry policy failed" in first.cause
    assert "no such customer" in first.cause
    assert first.error is not None
    assert first.error.message.endswith("at first")


async def test_retries_end_at_their_horizon_however_many_are_left(worked: Perdure) -> None:
    handle = await worked.enqueue(jobs.fails_past_its_horizon)
    with pytest.raises(JobFailed):
        await handle.result(PATIENCE)
    attempts = await history(worked, handle)
    assert len(attempts) < 5
    assert attempts[-1].cause == "the next attempt would start more than 150ms after the enqueue"


@pytest.mark.parametrize("kind", [jobs.slow_async, jobs.slow_thread, jobs.slow_process])
async def test_a_time_limit_ends_the_attempt_in_each_mode(worked: Perdure, kind: Kind[[], None]) -> None:
    handle = await worked.enqueue(kind)
    with pytest.raises(JobFailed, match="ran longer than"):
        await handle.result(PATIENCE)
    (attempt,) = await history(worked, handle)
    assert attempt.outcome is Outcome.TIMED_OUT
    assert attempt.started_at is not None
    assert attempt.finished_at is not None
    assert (attempt.finished_at - attempt.started_at).total_seconds() < 3


@pytest.mark.parametrize("make", [lambda: jobs.stuck_thread, lambda: jobs.swallows_cancelling])
async def test_a_handler_that_cannot_be_stopped_is_left_behind_and_its_process_replaced(
    worked: Perdure, gate: Gate, tmp_path: Path, make: Callable[[], Kind[[str], None]]
) -> None:
    before = await process_of(worked)

    async def replaced() -> bool:
        return await process_of(worked) != before

    other = Gate(tmp_path / "other")
    bystander = await worked.enqueue(jobs.wait_async, other.path)
    await reached(bystander, JobState.RUNNING)
    handle = await worked.enqueue(make(), gate.path)
    with pytest.raises(JobFailed, match="ran longer than"):
        await handle.result(PATIENCE)
    other.open()
    await bystander.result(PATIENCE)
    await eventually(replaced)
    assert (await worked.jobs.get(bystander.id)).crashes == 0
    gate.open()


async def test_a_process_whose_loop_is_blocked_is_replaced_once_its_jobs_were_taken(
    worked: Perdure, gate: Gate
) -> None:
    before = await process_of(worked)

    async def replaced() -> bool:
        return await process_of(worked) != before

    handle = await worked.enqueue(jobs.blocks_the_loop, gate.path)
    with pytest.raises(JobFailed, match="did not stop the handler"):
        await handle.result(PATIENCE)
    await eventually(replaced)
    gate.open()


async def test_a_waiting_job_that_is_cancelled_never_starts(worked: Perdure) -> None:
    waiting = await worked.enqueue(jobs.never_served)
    later = await worked.using(delay="1h").enqueue(jobs.add, 1)
    blocked = await worked.using(depends_on=later).enqueue(jobs.add, 2)
    for handle in (blocked, later, waiting):
        await worked.jobs.cancel(handle.id, actor="tests", reason="changed our mind")
        with pytest.raises(JobFailed, match="cancelled"):
            await handle.result(PATIENCE)
    events = (await worked.jobs.get(waiting.id)).events
    assert any(event.actor == "tests" and event.reason == "changed our mind" for event in events)


async def test_a_running_async_job_is_cancelled_and_can_tell(
    worked: Perdure, gate: Gate, tmp_path: Path
) -> None:
    farewell = tmp_path / "farewell"
    handle = await worked.enqueue(jobs.wait_async, gate.path, str(farewell))
    await reached(handle, JobState.RUNNING)
    await worked.jobs.cancel(handle.id)
    with pytest.raises(JobFailed, match="cancelled"):
        await handle.result(PATIENCE)

    async def said() -> str:
        return await asyncio.to_thread(lambda: farewell.read_text() if farewell.exists() else "")

    assert await eventually(said) == "cancelled: True"


async def test_a_running_thread_job_is_asked_and_one_that_looks_ends_cancelled(
    worked: Perdure, gate: Gate
) -> None:
    handle = await worked.enqueue(jobs.wait_thread, gate.path)
    await reached(handle, JobState.RUNNING)
    await worked.jobs.cancel(handle.id)
    with pytest.raises(JobFailed, match="cancelled"):
        await handle.result(PATIENCE)


async def test_a_running_process_job_is_killed_when_it_is_cancelled(worked: Perdure, gate: Gate) -> None:
    handle = await worked.enqueue(jobs.wait_process, gate.path)
    await reached(handle, JobState.RUNNING)
    await worked.jobs.cancel(handle.id)
    with pytest.raises(JobFailed, match="cancelled"):
        await handle.result(PATIENCE)
    (attempt,) = await history(worked, handle)
    assert attempt.outcome is Outcome.CANCELLED


@pytest.mark.parametrize("kind", [jobs.halfway_async, jobs.halfway_thread, jobs.halfway_process])
async def test_progress_is_seen_while_the_job_runs(
    worked: Perdure, gate: Gate, kind: Kind[[str], None]
) -> None:
    handle = await worked.enqueue(kind, gate.path)

    async def reported() -> ProgressView | None:
        return (await worked.jobs.get(handle.id)).progress

    progress = await eventually(reported)
    assert progress is not None
    assert progress.fraction == 0.5
    assert progress.note in {"halfway", "half\ufffdway"}
    gate.open()
    await handle.result(PATIENCE)


def test_a_context_is_given_by_workers_only() -> None:
    assert Context.__dataclass_fields__["line"].repr is False
