"""What handlers get and do, run by a real worker in its three modes."""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from perdure import JobFailed, JobState, Perdure
from perdure.domain.kind import Kind
from tests.support import jobs
from tests.support.arguments import Photo, Size, Unit

PATIENCE = "20s"


async def test_values_come_through_a_worker_as_what_they_were(worked: Perdure) -> None:
    at = datetime(2026, 3, 1, 12, 30, 1, 5, tzinfo=UTC)
    order = jobs.Order(
        uuid4(), Size(3, Unit.PIXEL), Decimal("1.10"), at, timedelta(minutes=3), frozenset({"a", "ß"})
    )
    photo = Photo(taken=at, price=Decimal("2.50"), Caption="Ω")
    handle = await worked.enqueue(jobs.ship, order, photo)
    assert await handle.result(PATIENCE) == (order, photo)


@pytest.mark.parametrize("kind", [jobs.about_async, jobs.about_thread, jobs.about_process])
async def test_a_context_tells_attempt_deadline_and_origin(
    worked: Perdure, kind: Kind[[], jobs.About]
) -> None:
    about = await (await worked.using(timeout="1m", retries=4).enqueue(kind)).result(PATIENCE)
    assert (about.attempt, about.max_attempts, about.kind, about.queue) == (1, 5, kind.name, "default")
    assert about.seconds_left is not None
    assert 40 < about.seconds_left <= 60
    assert not about.cancelled
    assert about.pid != os.getpid()
    endless = await (await worked.using(timeout=None).enqueue(kind)).result(PATIENCE)
    assert endless.seconds_left is None


async def test_the_modes_run_where_they_say(worked: Perdure) -> None:
    first, thread, process = [
        await (await worked.enqueue(kind)).result(PATIENCE)
        for kind in (jobs.about_async, jobs.about_thread, jobs.about_process)
    ]
    assert first.pid == thread.pid != process.pid


async def test_a_handler_enqueues_with_its_workers_settings(worked: Perdure) -> None:
    assert await (await worked.enqueue(jobs.enqueues_another, 3)).result(PATIENCE) == 5


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (jobs.exits_async, "SystemExit"),
        (jobs.exits_thread, "SystemExit"),
        (jobs.exits_process, "SystemExit"),
        (jobs.interrupts_async, "KeyboardInterrupt"),
        (jobs.interrupts_thread, "KeyboardInterrupt"),
        (jobs.interrupts_process, "KeyboardInterrupt"),
    ],
)
async def test_an_exit_fails_its_job_and_ends_no_process(
    worked: Perdure, kind: Kind[[], None], error: str
) -> None:
    before = await (await worked.enqueue(jobs.about_async)).result(PATIENCE)
    with pytest.raises(JobFailed, match=error):
        await (await worked.enqueue(kind)).result(PATIENCE)
    after = await (await worked.enqueue(jobs.about_async)).result(PATIENCE)
    assert before.pid == after.pid


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (jobs.huge, "limit is 1048576"),
        (jobs.huge_process, "limit is 1048576"),
        (jobs.unencodable, "object cannot be stored as JSON"),
        (jobs.not_a_number, "not numbers that JSON can hold"),
    ],
)
async def test_a_result_that_cannot_be_stored_ends_in_the_dead_letter_queue_at_once(
    worked: Perdure, kind: Kind[[], Any], why: str
) -> None:
    handle = await worked.enqueue(kind)
    with pytest.raises(JobFailed, match=why):
        await handle.result(PATIENCE)
    detail = await worked.jobs.get(handle.id)
    assert detail.dead_letter is not None
    assert [attempt.attempt for attempt in detail.attempts] == [1]


async def test_arguments_that_no_longer_fit_are_dead_lettered_with_the_reason(
    worked: Perdure, worked_sql: Any
) -> None:
    row = await worked_sql.fetchrow(
        "SELECT job_id FROM perdure.enqueue_jobs(jsonb_build_array(jsonb_build_object("
        "'kind', $1::text, 'args', '{\"a\": \"many\"}'::jsonb)))",
        jobs.add.name,
    )
    handle = worked.handle(jobs.add, row["job_id"])
    with pytest.raises(JobFailed, match="arguments do not fit the handler: a: int is wanted"):
        await handle.result(PATIENCE)
    detail = await worked.jobs.get(handle.id)
    assert detail.dead_letter is not None
    assert "a: int is wanted" in detail.dead_letter.cause
    assert len(detail.attempts) == 1


async def test_a_kind_that_no_worker_knows_stays_where_it_is(worked: Perdure, worked_sql: Any) -> None:
    row = await worked_sql.fetchrow(
        'SELECT job_id FROM perdure.enqueue_jobs(\'[{"kind": "nobody.knows"}]\'::jsonb)'
    )
    assert await (await worked.enqueue(jobs.add, 1)).result(PATIENCE) == 2
    page = await worked.jobs.list("kind:nobody.knows")
    assert [(one.id, one.state) for one in page.jobs] == [(row["job_id"], JobState.AVAILABLE)]


async def test_a_process_handler_that_dies_is_to_blame_alone(worked: Perdure) -> None:
    bystander = await worked.enqueue(jobs.about_async)
    handle = await worked.enqueue(jobs.dies)
    with pytest.raises(JobFailed, match="exited with code 9"):
        await handle.result(PATIENCE)
    assert (await bystander.result(PATIENCE)).attempt == 1
