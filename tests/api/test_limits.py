"""What is too large, at both ends."""

from typing import Any
from uuid import UUID

import pytest

from perdure import JobFailed, Perdure
from perdure.domain.errors import InvalidArguments, PayloadTooLarge
from perdure.domain.kind import Kind
from tests.support import jobs

PATIENCE = "20s"
TOO_LARGE = 2 * 1024 * 1024
BY_SQL = """
    SELECT job_id FROM perdure.enqueue_jobs(jsonb_build_array(jsonb_build_object(
        'kind', $1::text, 'args', jsonb_build_object($2::text, repeat('x', $3)))))
"""


async def test_arguments_over_the_limit_are_refused_by_name_and_nothing_is_stored(
    app: Perdure, sql: Any
) -> None:
    with pytest.raises(PayloadTooLarge, match="limit is 1048576") as refused:
        await app.enqueue(jobs.always_fails, "x" * TOO_LARGE)
    assert refused.value.field == "arguments"
    with pytest.raises(PayloadTooLarge):
        await app.enqueue_many([app.prepare(jobs.always_fails, text) for text in ("fits", "x" * TOO_LARGE)])
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 0


async def test_arguments_that_do_not_fit_are_refused_by_name_and_nothing_is_stored(
    app: Perdure, sql: Any
) -> None:
    wrong: Any = jobs.add
    for args, field in ((("many",), "a"), ((1, 2.5), "b"), (((object(),)), "a")):
        with pytest.raises(InvalidArguments) as refused:
            await app.enqueue(wrong, *args)
        assert refused.value.field == field
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 0


@pytest.mark.parametrize(
    ("kind", "parameter"),
    [(jobs.always_fails, "text"), (jobs.wait_thread, "gate"), (jobs.wait_process, "gate")],
)
async def test_arguments_over_the_limit_that_reach_a_worker_are_dead_lettered_with_the_reason(
    worked: Perdure, worked_sql: Any, kind: Kind[..., Any], parameter: str
) -> None:
    job_id: UUID = await worked_sql.fetchval(BY_SQL, kind.name, parameter, TOO_LARGE)
    with pytest.raises(JobFailed, match=r"its arguments are too large: 20971.. bytes of JSON"):
        await worked.handle(kind, job_id).result(PATIENCE)
    detail = await worked.jobs.get(job_id)
    assert detail.dead_letter is not None
    assert "its arguments are too large" in detail.dead_letter.cause
    assert len(detail.attempts) == 1


async def test_arguments_just_below_the_limit_are_run_however_postgresql_writes_them(worked: Perdure) -> None:
    items = [n % 10 for n in range(500_000)]
    assert await (await worked.enqueue(jobs.count_items, items)).result(PATIENCE) == 500_000
