"""Enqueueing: all or none, repeatable, unique where asked, refused with a clear word; and the days that hold the jobs."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from msgspec.structs import replace

from perdure.domain.errors import DuplicateJob, InvalidInput, InvalidOption
from perdure.domain.ids import JobIds
from perdure.domain.job import Dependency, Disposition, JobId, JobState, NewJob, OnParentFailure, UniqueRule
from perdure.stores.postgres.statements import statements
from tests.support.database import Store, after, failure, new_id, new_job

CREATED, EXISTS, DUPLICATE = Disposition.CREATED, Disposition.EXISTS, Disposition.DUPLICATE


async def dispositions(store: Store, *jobs: NewJob, on_duplicate: str = "return") -> list[Disposition]:
    return [enqueued.disposition for enqueued in await store.jobs.enqueue(jobs, on_duplicate=on_duplicate)]


async def test_jobs_go_where_their_time_and_parents_say(store: Store) -> None:
    now, later = new_job(), new_job(delay=timedelta(hours=1))
    past, future = (
        new_job(run_at=datetime(2020, 1, 1, tzinfo=UTC)),
        new_job(run_at=datetime(2120, 1, 1, tzinfo=UTC)),
    )
    child = after(now)
    await store.add(now, later, past, future, child)
    assert await store.states(now, later, past, future, child) == [
        "available",
        "scheduled",
        "available",
        "scheduled",
        "pending",
    ]


async def test_an_answer_is_in_the_order_of_the_call(store: Store) -> None:
    jobs = [new_job(priority=1 + n % 5) for n in range(50)]
    shuffled = [jobs[7 * n % 50] for n in range(50)]
    assert [enqueued.job_id for enqueued in await store.jobs.enqueue(shuffled)] == [
        job.id for job in shuffled
    ]


@pytest.mark.parametrize("linked", [False, True], ids=["plain", "linked"])
async def test_a_repeated_call_changes_nothing(store: Store, linked: bool) -> None:
    first = new_job(unique=UniqueRule(key="u"))
    second = after(first, concurrency_key="k") if linked else new_job(concurrency_key="k")
    third = after(first, second) if linked else new_job(delay=timedelta(hours=1))
    jobs = (first, second, third)
    assert await dispositions(store, *jobs) == [CREATED] * 3
    before = await store.counts()
    assert await dispositions(store, *jobs, on_duplicate="raise") == [EXISTS] * 3
    assert await store.counts() == before


@pytest.mark.parametrize("linked", [False, True], ids=["plain", "linked"])
async def test_a_call_repeated_after_its_jobs_have_ended_still_says_that_they_exist(
    store: Store, linked: bool
) -> None:
    """Although another holds the unique key by now."""
    job = new_job(unique=UniqueRule(key="u"))
    jobs = (job, after(job)) if linked else (job,)
    await dispositions(store, *jobs)
    await store.drain()
    successor = new_job(unique=UniqueRule(key="u"))
    await store.add(successor)
    before = await store.counts()
    assert await dispositions(store, *jobs, on_duplicate="raise") == [EXISTS] * len(jobs)
    assert await store.counts() == before


async def test_a_repeated_call_with_new_jobs_adds_only_those(store: Store) -> None:
    parent, child = new_job(), new_job()
    await store.add(parent)
    child = after(parent)
    assert await dispositions(store, parent, child) == [EXISTS, CREATED]
    assert await store.state(child.id) == "pending"


@pytest.mark.parametrize("linked", [False, True], ids=["plain", "linked"])
async def test_the_same_call_twice_at_once_stores_its_jobs_once(store: Store, linked: bool) -> None:
    for _ in range(10):
        parent = new_job()
        jobs = [parent, *(after(parent) if linked else new_job() for _ in range(20))]
        answers = await asyncio.gather(*(dispositions(store, *jobs) for _ in range(3)))
        assert sorted(answers) == [[CREATED] * 21, [EXISTS] * 21, [EXISTS] * 21]
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 210


async def test_a_held_key_refuses_the_whole_call(store: Store) -> None:
    holder = new_job(unique=UniqueRule(key="u"))
    await store.add(holder)
    before = await store.counts()
    with pytest.raises(DuplicateJob) as refusal:
        await store.jobs.enqueue([new_job(), new_job(unique=UniqueRule(key="u"))])
    assert (refusal.value.key, refusal.value.holder) == ("u", holder.id)
    assert await store.counts() == before


async def test_a_held_key_can_be_answered_with_its_holder(store: Store) -> None:
    holder, other = (new_job(unique=UniqueRule(key="u")) for _ in range(2))
    answers = await store.jobs.enqueue([holder, new_job(), other], on_duplicate="return")
    assert [answer.disposition for answer in answers] == [CREATED, CREATED, DUPLICATE]
    assert answers[2].holder == holder.id
    assert await store.state(other.id) is None


async def test_many_calls_at_once_for_one_key_create_one_job(store: Store) -> None:
    jobs = [new_job(unique=UniqueRule(key="u")) for _ in range(20)]
    answers = await asyncio.gather(*(store.jobs.enqueue([job], on_duplicate="return") for job in jobs))
    assert sorted(answer.disposition for (answer,) in answers) == [CREATED] + [DUPLICATE] * 19
    assert len({answer.holder or answer.job_id for (answer,) in answers}) == 1


async def test_keys_in_opposite_order_do_not_block_each_other_for_good(store: Store) -> None:
    async def both(*keys: str) -> None:
        for _ in range(20):
            jobs = [new_job(unique=UniqueRule(key=key)) for key in keys]
            await store.jobs.enqueue(jobs, on_duplicate="return")

    await asyncio.wait_for(asyncio.gather(both("a", "b"), both("b", "a")), 20)


@pytest.mark.parametrize("ending", ["completed", "discarded", "cancelled by a parent"])
async def test_a_key_is_free_when_its_job_has_ended(store: Store, ending: str) -> None:
    parent = new_job()
    job = new_job(unique=UniqueRule(key="u"))
    if ending == "cancelled by a parent":
        job = replace(job, depends_on=(Dependency(parent_id=parent.id, on_failure=OnParentFailure.CANCEL),))
        await store.add(parent, job)
        await store.finish(parent, failure(give_up=True))
    else:
        await store.add(job)
        await store.finish(job, failure(give_up=True) if ending == "discarded" else None)
    assert await dispositions(store, new_job(unique=UniqueRule(key="u"))) == [CREATED]


@pytest.mark.parametrize("state", ["pending", "scheduled", "available", "running", "retryable"])
async def test_a_key_is_held_through_all_states_that_live(store: Store, state: str) -> None:
    parent = new_job("app.other")
    await store.add(parent)
    rule = UniqueRule(key="u")
    job = {
        "pending": after(parent, unique=rule),
        "scheduled": new_job(delay=timedelta(hours=1), unique=rule),
    }.get(state, new_job(unique=rule))
    await store.add(job)
    if state in ("running", "retryable"):
        leases = await store.claim()
        if state == "retryable":
            await store.end(leases, failure(retry_in=timedelta(hours=1)))
    assert await store.state(job.id) == state
    assert await dispositions(store, new_job(unique=rule)) == [DUPLICATE]


async def test_a_key_is_free_when_its_period_is_over(store: Store) -> None:
    first = new_job(unique=UniqueRule(key="u", period=timedelta(hours=1)), delay=timedelta(days=1))
    second, third = (new_job(unique=UniqueRule(key="u", period=timedelta(hours=1))) for _ in range(2))
    assert await dispositions(store, first) == [CREATED]
    await store.sql("UPDATE perdure.unique_keys SET expires_at = now()")
    assert await dispositions(store, second) == [CREATED]
    assert await dispositions(store, third) == [DUPLICATE]
    assert await store.value("SELECT job_id FROM perdure.unique_keys") == second.id


async def test_a_job_whose_key_passed_on_leaves_it_alone_when_it_ends(store: Store) -> None:
    first, second = (new_job(unique=UniqueRule(key="u", period=timedelta(hours=1))) for _ in range(2))
    await store.add(first)
    await store.sql("UPDATE perdure.unique_keys SET expires_at = now()")
    await store.add(second)
    await store.finish(first)
    assert await store.value("SELECT job_id FROM perdure.unique_keys") == second.id


def at(moment: datetime) -> JobId:
    return JobIds(lambda: int(moment.timestamp() * 1000) * 1_000_000, bytes)()


WRONG: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "an id older than a day": ("id", {"id": at(datetime.now(UTC) - timedelta(hours=25))}),
    "an id of the day after tomorrow": ("id", {"id": at(datetime.now(UTC) + timedelta(hours=25))}),
    "an id of another version": ("id", {"id": uuid4()}),
    "no kind": ("kind", {"kind": ""}),
    "a long kind": ("kind", {"kind": "k" * 201}),
    "no queue": ("queue", {"queue": ""}),
    "arguments that are no object": ("args", {"args": "[1]"}),
    "a priority too high": ("priority", {"priority": 6}),
    "no attempt": ("max_attempts", {"max_attempts": 0}),
    "a time-out that no deadline can hold": ("timeout_ms", {"timeout": timedelta(milliseconds=2**31 - 1)}),
    "no label": ("labels", {"labels": [None]}),
    "no slot": ("concurrency_limit", {"concurrency_key": "k", "concurrency_limit": 0}),
    "no crash": ("crash_limit", {"crash_limit": 0}),
    "an empty key": ("unique_key", {"unique": UniqueRule(key="")}),
    "a long key": ("concurrency_key", {"concurrency_key": "k" * 501}),
    "a key that does not count waiting jobs": (
        "unique_states",
        {"unique": UniqueRule(key="u", states=frozenset({JobState.RUNNING}))},
    ),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_wrong_value_is_refused_by_name_and_nothing_is_stored(store: Store, what: str) -> None:
    field, options = WRONG[what]
    before = await store.counts()
    with pytest.raises(InvalidOption) as refusal:
        await store.jobs.enqueue([new_job(), new_job(**options)])
    assert refusal.value.field == field
    assert await store.counts() == before
    assert await store.value("SELECT count(*) FROM perdure.lanes") == 0


@pytest.mark.parametrize(
    "options",
    [{"args": '{"a": "\\u0000"}'}, {"priority": 10**6}, {"max_attempts": 10**6}, {"args": '{"n": 1e999999}'}],
)
async def test_what_the_columns_cannot_hold_is_the_callers_mistake(
    store: Store, options: Mapping[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        await store.jobs.enqueue([new_job(**options)])


async def test_one_id_for_two_jobs_is_refused(store: Store) -> None:
    job = new_job()
    with pytest.raises(InvalidOption, match="two jobs"):
        await store.jobs.enqueue([job, replace(job, args='{"other": 1}')])


async def test_ids_within_a_day_are_taken(store: Store) -> None:
    now = datetime.now(UTC)
    jobs = [new_job(id=at(now + timedelta(hours=hours))) for hours in (-23, 0, 23)]
    assert await dispositions(store, *jobs) == [CREATED] * 3


async def test_plain_sql_can_enqueue_with_as_little_as_a_kind(store: Store) -> None:
    rows = await store.sql(
        """SELECT * FROM perdure.enqueue_jobs('[{"kind": "app.work"}, {"kind": "app.work"}]')"""
    )
    assert [row["disposition"] for row in rows] == ["created", "created"]
    assert all(UUID(str(row["job_id"])).version == 7 for row in rows)
    assert {lease.job_id for lease in await store.claim(5)} == {row["job_id"] for row in rows}


@pytest.mark.parametrize(
    "job", ['{"run_at": "infinity"}', '{"labels": [null]}', '{"timeout_ms": 2073600001}']
)
async def test_plain_sql_is_refused_what_no_worker_could_do(store: Store, job: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as refusal:
        await store.sql(
            "SELECT perdure.enqueue_jobs(jsonb_build_array($1::jsonb || $2::jsonb))", '{"kind": "k"}', job
        )
    assert refusal.value.sqlstate == "PD004"
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 0


@pytest.mark.parametrize("key", [None, "gated"])
async def test_a_time_out_that_no_integer_can_hold_with_its_grace_stops_no_claim(
    store: Store, key: str | None
) -> None:
    """Such a row may have been stored by an older version."""
    jobs = [new_job(concurrency_key=key), new_job(concurrency_key=key and "other")]
    await store.add(*jobs)
    await store.sql("UPDATE perdure.jobs SET timeout_ms = 2147483647 WHERE id = $1", jobs[0].id)
    assert {lease.job_id for lease in await store.claim(5)} == {job.id for job in jobs}


async def test_many_first_jobs_of_a_lane_at_once_make_one_lane(store: Store) -> None:
    await asyncio.gather(*(store.jobs.enqueue([new_job("app.new", queue="new")]) for _ in range(20)))
    assert await store.value("SELECT count(*) FROM perdure.lanes WHERE kind = 'app.new'") == 1


async def test_a_producer_needs_no_right_to_make_tables(store: Store) -> None:
    """Nor does a linked call make any: what enqueueing reads and writes are Perdure's own tables."""
    parent = new_job()
    jobs = [{"id": str(job.id), "kind": job.shape.kind} for job in (parent, new_job())]
    jobs.append({"id": str(new_id()), "kind": "app.work", "parents": [{"parent_id": str(parent.id)}]})  # type: ignore[dict-item]
    producer = f"producer_{uuid4().hex}"
    await store.sql(f"CREATE ROLE {producer}")
    async with store.pool.acquire() as connection:
        await connection.execute(
            f"REVOKE TEMPORARY ON DATABASE {await store.value('SELECT quote_ident(current_database())')} FROM PUBLIC;"
            f"GRANT USAGE ON SCHEMA perdure TO {producer};"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA perdure TO {producer};"
            f"SET ROLE {producer}"
        )
        answers = await connection.fetch(statements("jobs")["enqueue"].numbered(), json.dumps(jobs), "raise")
        await connection.execute("RESET ROLE")
        await connection.execute(f"DROP OWNED BY {producer}; DROP ROLE {producer}")
    assert [answer["disposition"] for answer in answers] == ["created"] * 3


async def test_partitions_are_made_ahead_and_rows_that_came_early_move_into_them(store: Store) -> None:
    await store.sql("SELECT perdure.make_partitions(0)")
    last = await store.value("SELECT max(relname) FROM pg_class WHERE relname ~ '^jobs_\\d{8}$'")
    day = datetime.strptime(last.removeprefix("jobs_"), "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
    for job_id in (at(day), at(day + timedelta(hours=23)), at(day + timedelta(days=1))):
        await store.sql(
            "INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args) VALUES ($1, 1, 3, 4, '{}')",
            job_id,
        )
    await store.sql("INSERT INTO perdure.job_events (at, event, actor) VALUES ($1, 'e', 'a')", day)
    assert await store.value("SELECT count(*) FROM perdure.jobs_default") == 3
    ahead = (day - datetime.now(UTC)).days + 1
    assert await store.value("SELECT perdure.make_partitions($1)", ahead) == 3
    assert await store.value("SELECT count(*) FROM perdure.jobs_default") == 1
    assert await store.value("SELECT count(*) FROM perdure.job_events_default") == 0
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 3
    assert await store.value("SELECT perdure.make_partitions($1)", ahead) == 0


async def test_partitions_made_twice_at_once_are_made_once(store: Store) -> None:
    made = await asyncio.gather(*(store.value("SELECT perdure.make_partitions(9)") for _ in range(3)))
    assert sorted(made)[:2] == [0, 0]


async def test_jobs_of_a_day_without_a_partition_run_as_any_other(store: Store) -> None:
    for table in ("jobs", "job_executions", "job_events"):
        for row in await store.sql(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::regclass",
            f"perdure.{table}",
        ):
            if not row["name"].endswith("_default"):
                await store.sql(f"DROP TABLE {row['name']}")
    job = new_job()
    await store.add(job)
    await store.finish(job)
    assert await store.state(job.id) == "completed"
    await store.sql("SELECT perdure.make_partitions(1)")
    assert await store.state(job.id) == "completed"
