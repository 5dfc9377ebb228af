"""Upkeep in PostgreSQL: partitions come and go, sweeps take what nobody needs, and nobody is held up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from uuid import UUID, uuid4

import asyncpg
import pytest

from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.keeping import PostgresKeeping
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.statements import statements
from tests.support.past import TABLES, Connection, Past, midnight, names, past_of

WEEK = timedelta(days=7)
OLD = 20

REFERENCES = {
    "a job runs": """
        INSERT INTO perdure.leases (job_id, worker_id, rank, available_at, deadline, available_xid, process, lane, band, run,
            attempt, crashes, interruptions, suspicion)
        VALUES ($1, gen_random_uuid(), 1, now(), now(), pg_current_xact_id(), 0, 1, 1, 1, 1, 0, 0, 0)""",
    "a job is available": "INSERT INTO perdure.available_jobs (job_id, rank, lane, band) VALUES ($1, 1, 1, 1)",
    "a job waits for a slot of its key": """
        INSERT INTO perdure.parked_jobs (job_id, rank, available_at, lane, band, run, attempt, crashes, interruptions, suspicion,
            concurrency_key)
        VALUES ($1, 1, now(), 1, 1, 1, 0, 0, 0, 0, 'key')""",
    "a job is scheduled": """
        INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority) VALUES ($1, now() + interval '1 year', 1, 3)""",
    "a job waits for its parents": """
        INSERT INTO perdure.blocked_jobs (job_id, waiting, lane, priority) VALUES ($1, 1, 1, 3)""",
    "a dead letter": """
        INSERT INTO perdure.dead_letter_queue (job_id, lane, run, attempt, crashes, interruptions, outcome, fingerprint, cause)
        VALUES ($1, 1, 1, 1, 0, 0, 'failed', 'f', 'c')""",
    "a job holds a unique key": "INSERT INTO perdure.unique_keys (key, job_id, states) VALUES ('k', $1, 31)",
    "a job ended within the retention": """
        INSERT INTO perdure.job_executions (job_id, outcome, state, lane, run, attempt, crashes, interruptions)
        VALUES ($1, 'completed', 'completed', 1, 1, 1, 0, 0)""",
    "an event of a job lies within the retention": """
        INSERT INTO perdure.job_events (event, job_id, actor) VALUES ('cancelled', $1, 'ann')""",
    "a request to cancel": """
        INSERT INTO perdure.cancel_requests (job_id, token, worker_id, reason)
        VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'r')""",
    "a report of progress": "INSERT INTO perdure.job_progress (job_id, token) VALUES ($1, gen_random_uuid())",
}


@pytest.fixture
async def past(database_url: str) -> AsyncIterator[Past]:
    async with past_of(database_url) as past:
        yield past


@asynccontextmanager
async def connected(past: Past) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(past.url)
    try:
        yield connection
    finally:
        await connection.close()


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    end = monotonic() + 60
    while not await holds():
        assert monotonic() < end, "did not come true in time"
        await asyncio.sleep(0.01)


async def someone_waits(past: Past) -> object:
    return await past.value("SELECT count(*) FROM pg_locks WHERE NOT granted")


async def lease(past: Past, job_id: UUID) -> None:
    await past.sql(REFERENCES["a job runs"], job_id)


# ------------------------------------------------------------------------------------------ partitions


async def test_partitions_are_made_ahead_and_only_once(past: Past) -> None:
    made = await past.keeping.make_partitions(ahead_days=5)
    assert sorted(made.done) == sorted(names(-4) + names(-5))
    assert not made.postponed
    assert (await past.keeping.make_partitions(ahead_days=5)).done == []


async def test_rows_that_had_to_go_to_the_default_partition_move_to_their_day(past: Past) -> None:
    job = await past.body(OLD)
    await past.ended(job, OLD)
    await past.sql("INSERT INTO perdure.job_events (at, event, actor) VALUES ($1, 'e', 'ann')", midnight(OLD))
    await past.sql(
        "INSERT INTO perdure.worker_samples (at, worker_id, running, finished, failed, timed_out, retried, crashed) "
        "VALUES ($1, gen_random_uuid(), 0, 0, 0, 0, 0, 0)",
        midnight(OLD),
    )
    before = await past.sql("SELECT * FROM perdure.jobs")
    assert await past.value("SELECT count(*) FROM perdure.jobs_default") == 1
    made = await past.keeping.make_partitions(ahead_days=3)
    assert sorted(made.done) == names(OLD)
    for table in TABLES:
        assert await past.value(f"SELECT count(*) FROM perdure.{table}_default") == 0
        assert await past.value(f"SELECT count(*) FROM perdure.{table}_{midnight(OLD):%Y%m%d}") == 1
    assert await past.sql("SELECT * FROM perdure.jobs") == before


async def test_a_new_partition_has_the_indexes_and_rules_of_its_table(past: Past) -> None:
    await past.day(OLD)
    job = await past.body(OLD)
    with pytest.raises(asyncpg.UniqueViolationError):
        await past.sql("INSERT INTO perdure.jobs SELECT * FROM perdure.jobs WHERE id = $1", job)
    with pytest.raises(asyncpg.NotNullViolationError):
        await past.sql("UPDATE perdure.jobs SET args = NULL WHERE id = $1", job)
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = to_regclass($1)"
    for table in TABLES:
        made, first = names(OLD, table)[0], names(0, table)[0]
        assert await past.value(indexes, f"perdure.{made}") == await past.value(indexes, f"perdure.{first}")


async def test_an_old_day_is_dropped_when_nothing_refers_to_it_and_a_young_one_is_not(past: Past) -> None:
    await past.day(OLD)
    await past.day(6)
    for day in (OLD, 6):
        await past.ended(await past.body(day), day)
    before = await past.partitions()
    dropped = await past.keeping.drop_partitions(older_than=WEEK)
    assert sorted(dropped.done) == names(OLD)
    assert before - await past.partitions() == set(names(OLD))
    assert await past.value("SELECT count(*) FROM perdure.jobs") == 1


async def test_a_day_is_kept_until_its_last_moment_is_older_than_the_retention(past: Past) -> None:
    await past.day(7)
    await past.day(8)
    assert sorted((await past.keeping.drop_partitions(older_than=WEEK)).done) == names(8)
    with pytest.raises(asyncpg.RaiseError):
        await past.sql(
            "SELECT perdure.drop_partition('jobs', $1, $2)", midnight(7), midnight(6) - timedelta(seconds=1)
        )


@pytest.mark.parametrize("why", REFERENCES)
async def test_bodies_stay_while_something_refers_to_one_of_them(past: Past, why: str) -> None:
    await past.day(OLD)
    job = await past.body(OLD)
    await past.body(OLD)
    await past.sql(REFERENCES[why], job)
    kept = await past.keeping.drop_partitions(older_than=WEEK)
    assert kept.kept == {names(OLD, "jobs")[0]: why}
    table = REFERENCES[why].split("perdure.")[1].split(" ")[0]
    await past.sql(f"DELETE FROM perdure.{table}")
    assert (await past.keeping.drop_partitions(older_than=WEEK)).done == names(OLD, "jobs")


async def test_a_child_that_waits_keeps_its_parent_and_one_that_has_ended_does_not(past: Past) -> None:
    await past.day(OLD)
    parent, child = await past.body(OLD), await past.body(0)
    await past.edge(parent, child, "waiting")
    await past.sql(REFERENCES["a job waits for its parents"], child)
    kept = await past.keeping.drop_partitions(older_than=WEEK)
    assert kept.kept == {names(OLD, "jobs")[0]: "a child waits for a job"}
    await past.sql("DELETE FROM perdure.blocked_jobs")
    await past.ended(child, 0, "cancelled")
    assert names(OLD, "jobs")[0] in (await past.keeping.drop_partitions(older_than=WEEK)).done


async def test_history_stays_as_long_as_the_body_of_a_job_that_it_tells_of(past: Past) -> None:
    for day in (OLD, OLD - 1, OLD - 2):
        await past.day(day)
    job, letter, other = await past.body(OLD), await past.body(OLD), await past.body(OLD - 2)
    await past.ended(job, OLD - 1)
    await past.ended(other, OLD - 2)
    await past.sql(
        "INSERT INTO perdure.job_events (at, event, job_id, actor) VALUES ($1, 'e', $2, 'a')",
        midnight(OLD),
        job,
    )
    await past.sql(REFERENCES["a dead letter"], letter)
    first = await past.keeping.drop_partitions(older_than=WEEK)
    body = names(OLD, "jobs")[0]
    assert first.kept == {
        body: "a dead letter",
        names(OLD - 1, "job_executions")[0]: f"it tells of jobs in {body}",
        names(OLD, "job_events")[0]: f"it tells of jobs in {body}",
    }
    child = await past.sql(
        "SELECT * FROM perdure.enqueue_jobs(jsonb_build_array(jsonb_build_object('kind', 'k', 'parents',"
        " jsonb_build_array(jsonb_build_object('parent_id', $1::text)))))",
        str(job),
    )
    assert (
        await past.value("SELECT count(*) FROM perdure.available_jobs WHERE job_id = $1", child[0]["job_id"])
        == 1
    )
    await past.sql("DELETE FROM perdure.dead_letter_queue")
    assert set(first.kept) == set((await past.keeping.drop_partitions(older_than=WEEK)).done)


async def test_history_stays_while_the_body_lies_in_the_default_partition(past: Past) -> None:
    job = await past.body(OLD)
    for table in ("job_executions", "job_events"):
        await past.sql("SELECT perdure.make_partition($1, $2)", table, midnight(OLD))
    await past.ended(job, OLD)
    kept = await past.keeping.drop_partitions(older_than=WEEK)
    assert kept.kept == {names(OLD, "job_executions")[0]: "it tells of jobs in jobs_default"}


# ----------------------------------------------------------------------------------------------- locks


async def test_a_long_transaction_only_postpones_and_nobody_waits(past: Past) -> None:
    await past.day(OLD)
    async with connected(past) as other:
        async with other.transaction():
            for table in TABLES:
                await other.fetch(f"SELECT FROM perdure.{table}")
            await asyncio.sleep(1.1)
            begun = monotonic()
            dropped = await past.keeping.drop_partitions(older_than=WEEK)
            made = await past.keeping.make_partitions(ahead_days=4)
            assert monotonic() - begun < 1
            assert not dropped.done
            assert sorted(dropped.postponed) == names(OLD)
            assert sorted(made.postponed) == names(-4)
            assert all(
                "for more than a second" in why
                for why in (*dropped.postponed.values(), *made.postponed.values())
            )
            await past.body(0)
        assert sorted((await past.keeping.drop_partitions(older_than=WEEK)).done) == names(OLD)
        assert sorted((await past.keeping.make_partitions(ahead_days=4)).done) == names(-4)


async def test_a_lock_that_is_not_granted_in_two_seconds_is_given_up(past: Past) -> None:
    await past.day(OLD)
    async with connected(past) as other, other.transaction():
        await other.fetch("SELECT FROM perdure.jobs")
        dropped = await past.keeping.drop_partitions(older_than=WEEK)
        assert dropped.postponed == {names(OLD, "jobs")[0]: "others held locks for 2 seconds"}
        assert not await someone_waits(past)
        await past.body(0)


async def test_a_reference_made_while_the_drop_waits_for_its_lock_keeps_the_day(past: Past) -> None:
    await past.day(OLD)
    job = await past.body(OLD)
    async with connected(past) as other:
        async with other.transaction():
            await other.fetch("SELECT FROM perdure.jobs WHERE id = $1", job)
            drop = asyncio.create_task(past.keeping.drop_partitions(older_than=WEEK))
            await until(lambda: someone_waits(past))
            await other.execute(REFERENCES["a job is available"].replace("$1", f"'{job}'"))
        assert (await drop).kept == {names(OLD, "jobs")[0]: "a job is available"}


async def test_a_row_that_enters_the_default_partition_while_its_day_is_made_moves_too(past: Past) -> None:
    await past.sql(f"DROP TABLE perdure.{names(-3, 'job_events')[0]}")
    insert = "INSERT INTO perdure.job_events (at, event, actor) VALUES ($1, 'e', 'ann')"
    async with connected(past) as other:
        async with other.transaction():
            await other.execute(insert, midnight(-3))
            make = asyncio.create_task(past.keeping.make_partitions(ahead_days=3))
            await until(lambda: someone_waits(past))
        assert (await make).done == names(-3, "job_events")
    assert await past.value(f"SELECT count(*) FROM perdure.{names(-3, 'job_events')[0]}") == 1


async def test_two_at_once_do_no_harm(past: Past) -> None:
    for day in range(OLD, OLD + 5):
        await past.day(day)
        await past.ended(await past.body(day), day)
    async with past_of(past.url) as second:
        for ahead in (6, 7):
            await asyncio.gather(
                *(keeper.keeping.make_partitions(ahead_days=ahead) for keeper in (past, second)),
                *(keeper.keeping.drop_partitions(older_than=WEEK) for keeper in (second, past)),
            )
    await past.keeping.make_partitions(ahead_days=7)
    await past.keeping.drop_partitions(older_than=WEEK)
    assert await past.partitions() == {name for day in range(-7, 2) for name in names(day)}


async def test_who_may_not_change_the_tables_is_told_so(past: Past) -> None:
    await past.day(OLD)
    role = f"guest_{uuid4().hex}"
    await past.connection.execute(
        f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA perdure TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA perdure TO {role}"
    )
    database = DedicatedDatabase(past.url, application_name="guest", settings={"role": role})
    guest = PostgresKeeping(database)
    try:
        made, dropped = (
            await guest.make_partitions(ahead_days=4),
            await guest.drop_partitions(older_than=WEEK),
        )
        assert sorted(made.postponed) == names(-4)
        assert sorted(dropped.postponed) == names(OLD)
        assert all("permission denied" in why or "must be owner" in why for why in dropped.postponed.values())
    finally:
        await database.close()
        await past.connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_all_of_it_works_in_a_schema_of_another_name(empty_database_url: str) -> None:
    await migrate(empty_database_url, schema="other")
    async with past_of(empty_database_url, schema="other") as past:
        job = await past.body(OLD)
        assert sorted((await past.keeping.make_partitions(ahead_days=4)).done) == sorted(
            [*names(OLD, "jobs"), *names(-4)]
        )
        await past.sql(REFERENCES["a dead letter"], job)
        assert (await past.keeping.drop_partitions(older_than=WEEK)).kept == {
            names(OLD, "jobs")[0]: "a dead letter"
        }
        await past.sql("DELETE FROM perdure.dead_letter_queue")
        assert (await past.keeping.drop_partitions(older_than=WEEK)).done == names(OLD, "jobs")
        await past.sql("INSERT INTO perdure.unique_keys VALUES ('k', $1, 31, now())", job)
        assert await past.keeping.sweep_unique_keys(limit=10) == 1
        assert await past.keeping.sweep_edges(limit=10) == 0
        assert await past.keeping.sweep_cancel_requests(limit=10) == 0
        assert await past.keeping.sweep_progress(limit=10) == 0
        assert await past.keeping.forget_workers(older_than=WEEK) == 0
        assert await past.keeping.vacuum() == []


# ---------------------------------------------------------------------------------------------- sweeps


async def test_edges_go_with_the_body_of_either_end_and_others_stay(past: Past) -> None:
    for day in (OLD, OLD - 1):
        await past.day(day)
    gone, stays, today = await past.body(OLD), await past.body(OLD - 1), await past.body(0)
    unplaced = await past.body(OLD - 2)
    await past.sql(REFERENCES["a dead letter"], stays)
    await past.edge(stays, gone, "waiting")
    await past.edge(stays, today, "waiting")
    await past.edge(gone, today, "satisfied")
    await past.edge(stays, unplaced, "waiting")
    assert await past.keeping.sweep_edges(limit=10) == 0
    assert (await past.keeping.drop_partitions(older_than=WEEK)).kept[
        names(OLD - 1, "jobs")[0]
    ] == "a dead letter"
    assert await past.keeping.sweep_edges(limit=1) == 1
    assert await past.keeping.sweep_edges(limit=10) == 1
    left = await past.sql("SELECT parent_id, child_id FROM perdure.job_dependencies")
    assert {tuple(row) for row in left} == {(stays, today), (stays, unplaced)}


async def test_unique_keys_go_when_they_have_run_out_or_their_job_does_not_count(past: Past) -> None:
    live, running, completed, nowhere, ended = [await past.body(0) for _ in range(5)]
    await past.sql(REFERENCES["a job is scheduled"], live)
    await lease(past, running)
    await past.ended(completed, 0)
    await past.ended(ended, 0)
    insert = "INSERT INTO perdure.unique_keys SELECT $1, $2, $3, now() + $4::interval"
    for key, job, states, left in (
        ("expired", live, 23, timedelta(seconds=-1)),
        ("valid", live, 23, timedelta(hours=1)),
        ("for ever", live, 23, None),
        ("counts running", running, 31, None),
        ("does not count running", running, 23, None),
        ("counts completed", completed, 63, None),
        ("does not count completed", ended, 31, timedelta(hours=1)),
        ("of no job", nowhere, 255, None),
    ):
        await past.sql(insert, key, job, states, left)
    swept = [await past.keeping.sweep_unique_keys(limit=2) for _ in range(6)]
    assert sum(swept) == 4
    left_over = await past.sql("SELECT key FROM perdure.unique_keys ORDER BY key")
    assert [row["key"] for row in left_over] == ["counts completed", "counts running", "for ever", "valid"]


async def test_a_unique_key_that_is_taken_anew_during_the_sweep_stays(past: Past) -> None:
    old, new = await past.body(0), await past.body(0)
    await past.sql(
        "INSERT INTO perdure.unique_keys VALUES ('expired', $1, 31, now()), ('stray', $1, 31, NULL)", old
    )
    async with connected(past) as other:
        async with other.transaction():
            await other.execute(
                "UPDATE perdure.unique_keys SET job_id = $1, expires_at = now() + interval '1 hour'", new
            )
            await other.execute(REFERENCES["a job is scheduled"].replace("$1", f"'{new}'"))
            sweep = asyncio.create_task(past.keeping.sweep_unique_keys(limit=10))
            await until(lambda: someone_waits(past))
        assert await sweep == 0
    left = await past.sql("SELECT key, job_id FROM perdure.unique_keys ORDER BY key")
    assert [tuple(row) for row in left] == [("expired", new), ("stray", new)]


async def test_requests_to_cancel_go_when_their_job_has_ended(past: Past) -> None:
    running, waiting, ended = [await past.body(0) for _ in range(3)]
    await lease(past, running)
    await past.sql(REFERENCES["a job is scheduled"], waiting)
    await past.ended(ended, 0)
    for job in (running, waiting, ended):
        await past.sql(REFERENCES["a request to cancel"], job)
    assert await past.keeping.sweep_cancel_requests(limit=10) == 1
    left = await past.sql("SELECT job_id FROM perdure.cancel_requests")
    assert {row["job_id"] for row in left} == {running, waiting}


async def test_progress_goes_when_the_job_has_not_run_for_a_minute(past: Past) -> None:
    running, ended, just_ended = [await past.body(0) for _ in range(3)]
    await lease(past, running)
    for job, age in ((running, 60), (ended, 2), (just_ended, 0)):
        await past.sql(
            "INSERT INTO perdure.job_progress (job_id, token, updated_at)"
            " VALUES ($1, gen_random_uuid(), now() - $2 * interval '1 minute')",
            job,
            age,
        )
    assert await past.keeping.sweep_progress(limit=10) == 1
    left = await past.sql("SELECT job_id FROM perdure.job_progress")
    assert {row["job_id"] for row in left} == {running, just_ended}


async def test_workers_go_when_they_ended_long_ago_and_hold_nothing(past: Past) -> None:
    held = await past.body(0)
    await lease(past, held)
    holder = await past.value("SELECT worker_id FROM perdure.leases")
    for worker_id, name, state, days in (
        (uuid4(), "alive", "active", None),
        (uuid4(), "young", "stopped", 1),
        (uuid4(), "old", "dead", 8),
        (holder, "holds", "dead", 8),
    ):
        await past.sql(
            "INSERT INTO perdure.workers (id, name, host, pid, type, state, queues, kinds, labels, capacity, processes, version,"
            " stopped_at) VALUES ($1, $2, 'h', 1, 't', $3::perdure.worker_state, '{}', '{}', '{}', 1, 1, '1',"
            " now() - $4::int * interval '1 day')",
            worker_id,
            name,
            state,
            days,
        )
    assert await past.keeping.forget_workers(older_than=WEEK) == 1
    left = await past.sql("SELECT name FROM perdure.workers ORDER BY name")
    assert [row["name"] for row in left] == ["alive", "holds", "young"]


# ------------------------------------------------------------------------------------------- dead rows


async def test_hot_tables_are_vacuumed_when_dead_rows_prevail_and_not_again_at_once(past: Past) -> None:
    rows = "INSERT INTO perdure.available_jobs (job_id, rank, lane, band) SELECT gen_random_uuid(), n, 1, 1 FROM generate_series(1, 11000) n"
    dead = (
        "SELECT coalesce(sum(n_dead_tup), 0) >= $1 FROM pg_stat_user_tables WHERE relname = 'available_jobs'"
    )
    async with connected(past) as other:
        await other.execute(rows)
        await other.execute("DELETE FROM perdure.available_jobs WHERE rank <= 9000")
    await until(lambda: past.value(dead, 9000))
    assert await past.keeping.vacuum() == []
    async with connected(past) as other:
        await other.execute("DELETE FROM perdure.available_jobs")
    await until(lambda: past.value(dead, 11000))
    assert await past.keeping.vacuum() == ["available_jobs"]
    await until(
        lambda: past.value("SELECT n_dead_tup = 0 FROM pg_stat_user_tables WHERE relname = 'available_jobs'")
    )
    async with connected(past) as other:
        await other.execute(rows)
        await other.execute("DELETE FROM perdure.available_jobs")
    await until(lambda: past.value(dead, 11000))
    assert await past.keeping.vacuum() == []


async def test_each_hot_table_can_be_vacuumed(past: Past) -> None:
    vacuums = [sql for name, sql in statements("keeping").items() if name.startswith("vacuum_")]
    assert len(vacuums) == 6
    for statement in vacuums:
        await past.sql(statement.text)
    cleaned = "SELECT count(*) FROM pg_stat_user_tables WHERE last_vacuum IS NOT NULL"
    await until(lambda: past.value(f"SELECT ({cleaned}) = 6"))
