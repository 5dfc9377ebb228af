"""What the database itself forbids, whatever a statement does; and what the specification names."""

from collections import Counter
from time import monotonic
from typing import Any

import asyncpg
import msgspec
import pytest

from tests.support.database import Store, new_id, new_job
from tests.support.new_jobs import job_of

LEASE = """
    INSERT INTO perdure.leases (job_id, worker_id, rank, available_at, deadline, available_xid, process, lane, band, run, attempt,
        crashes, interruptions, suspicion, concurrency_key, slot)
    VALUES (gen_random_uuid(), gen_random_uuid(), 0, now(), now(), pg_current_xact_id(), 0, 1, 1, 1, $1, 0, 0, 0, $2, $3)
"""
AVAILABLE = "INSERT INTO perdure.available_jobs (job_id, rank, lane, band) VALUES ($1, $2, $3, $4)"


async def test_a_slot_is_held_once_whatever_a_statement_does(store: Store) -> None:
    await store.sql(LEASE, 1, "k", 1)
    await store.sql(LEASE, 1, "k", 2)
    await store.sql(LEASE, 1, "other", 1)
    with pytest.raises(asyncpg.UniqueViolationError, match="leases_slot"):
        await store.sql(LEASE, 1, "k", 1)


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (LEASE, (0, None, None)),
        (LEASE, (1, "key without a slot", None)),
        ("INSERT INTO perdure.job_dependencies (child_id, parent_id) SELECT $1::uuid, $1", (new_id(),)),
    ],
)
async def test_no_row_can_say_what_the_domain_forbids(
    store: Store, statement: str, values: tuple[Any, ...]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await store.sql(statement, *values)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 0),
        ("priority", 6),
        ("max_attempts", 0),
        ("timeout_ms", -1),
        ("timeout_ms", 2_073_600_001),
        ("crash_limit", 0),
        ("concurrency_limit", 0),
        ("unique_key", ""),
        ("unique_key", "k" * 501),
        ("concurrency_key", ""),
        ("args", []),
    ],
)
async def test_enqueue_jobs_refuses_and_names_what_no_job_may_be(
    store: Store, field: str, value: object
) -> None:
    """The columns say nothing of it any more, for each single enqueue would pay for it."""
    given = {"kind": "app.work", "concurrency_key": "k", field: value}
    with pytest.raises(asyncpg.PostgresError) as refused:
        await store.sql("SELECT perdure.enqueue_jobs($1::jsonb)", msgspec.json.encode([given]).decode())
    assert refused.value.sqlstate == "PD004"
    assert field in str(refused.value)
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 0


async def test_a_key_stands_with_its_states_and_a_limit_with_its_key(store: Store) -> None:
    """What no CHECK says, for each single enqueue would pay for it: `enqueue_jobs` writes them, and nobody else writes keys."""
    jobs: list[dict[str, object]] = [
        {"unique_key": "a"},
        {"unique_key": "b", "unique_states": 23},
        {"unique_states": 31},
        {"concurrency_key": "c"},
        {"concurrency_key": "d", "concurrency_limit": 3},
        {"concurrency_limit": 3},
    ]
    given = msgspec.json.encode([{"kind": "app.work", **job} for job in jobs]).decode()
    await store.sql("SELECT perdure.enqueue_jobs($1::jsonb)", given)
    rows = await store.sql(
        "SELECT unique_key, unique_states, concurrency_key, concurrency_limit FROM perdure.jobs"
    )
    assert Counter(tuple(row) for row in rows) == {
        ("a", 31, None, None): 1,
        ("b", 23, None, None): 1,
        (None, None, "c", 1): 1,
        (None, None, "d", 3): 1,
        (None, None, None, None): 2,
    }


async def test_a_job_is_in_a_table_once(store: Store) -> None:
    job = new_id()
    await store.sql(AVAILABLE, job, 1, 1, 1)
    with pytest.raises(asyncpg.UniqueViolationError):
        await store.sql(AVAILABLE, job, 2, 1, 1)


async def test_the_tables_of_the_specification_are_there_under_their_names(store: Store) -> None:
    rows = await store.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'perdure'")
    assert {row["table_name"] for row in rows} >= {
        "jobs",
        "workers",
        "job_executions",
        "dead_letter_queue",
        "job_dependencies",
    }


async def test_the_defaults_are_those_of_the_specification(store: Store) -> None:
    """In plain SQL and in Python alike: priority 3, 3 retries, 300,000 ms."""
    await store.sql("""SELECT perdure.enqueue_jobs('[{"kind": "app.work"}]'::jsonb)""")
    (row,) = await store.sql("SELECT priority, max_attempts, timeout_ms FROM perdure.jobs")
    assert tuple(row) == (3, 4, 300_000)
    job = job_of(id=new_id(), queue="default", kind="app.work")
    assert job.shape.timeout is not None
    assert (job.shape.priority, job.shape.max_attempts, job.shape.timeout.total_seconds()) == (3, 4, 300)


async def test_what_lies_below_the_watermark_is_found_within_seconds_and_at_once_when_told(
    store: Store,
) -> None:
    """The watermark saves a look at dead rows and may hide no job: a full pass comes each second."""
    await store.add(*(new_job() for _ in range(3_000)))
    await store.claim(1)
    lane = await store.value("SELECT lane FROM perdure.lanes")
    untold, told = [await below(store, lane, rank) for rank in (-2, -1)]
    began, found = monotonic(), {lease.job_id for lease in await store.claim(1)}
    while untold not in found and monotonic() - began < 5:
        found |= {lease.job_id for lease in await store.claim(1)}
    assert untold in found
    assert monotonic() - began < 3
    if told not in found:
        store.dispatch.hear(f"{lane}:1:-1")
        assert [lease.job_id for lease in await store.claim(1)] == [told]


async def below(store: Store, lane: int, rank: int) -> Any:
    """A job that becomes available far below the last claim, and nobody says so."""
    job = await store.value(
        "SELECT job_id FROM perdure.enqueue_jobs($1::jsonb)",
        f'[{{"kind": "app.work", "args": {{"n": {rank}}}}}]',
    )
    await store.sql(
        "UPDATE perdure.available_jobs SET rank = $2 WHERE job_id = $1 AND lane = $3", job, rank, lane
    )
    return job
