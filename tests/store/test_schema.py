"""The migrations: there and back, one at a time, under any name, and as the committed description says."""

import asyncio

import asyncpg
import psycopg
import pytest

from perdure.domain.errors import DatabaseUnavailable, SchemaMissing, SchemaOutdated, SchemaTooNew
from perdure.stores.postgres.connections import PooledDatabase, connect
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.jobs import PostgresJobs
from perdure.stores.postgres.migrations import migrate, migrations, plain_sql, require_current, rollback
from perdure.stores.postgres.schema_dump import committed, describe
from tests.support.database import SCOPE, claimer, new_job, register_workers

ODD_SCHEMA = 'other-name "of" ours'


async def test_the_committed_description_is_what_the_migrations_make(database_url: str) -> None:
    """To write it anew: python -m perdure.stores.postgres.schema_dump URL > src/perdure/stores/postgres/schema.sql."""
    assert await describe(database_url) == committed()


async def test_every_step_can_be_undone_and_done_again(empty_database_url: str) -> None:
    known = migrations()
    stages = [await described_at(empty_database_url, 0)]
    await migrate(empty_database_url)
    full = await describe(empty_database_url)
    for migration in reversed(known):
        assert await rollback(empty_database_url, to=migration.number - 1) == [migration.name]
        stages.append(await describe(empty_database_url))
    assert "CREATE FUNCTION" not in stages[-1]
    assert stages[-1].count("CREATE TABLE") == 1
    assert await migrate(empty_database_url) == [migration.name for migration in known]
    assert await describe(empty_database_url) == full


async def described_at(database_url: str, number: int) -> str:
    await migrate(database_url)
    await rollback(database_url, to=number)
    return await describe(database_url)


async def test_undoing_goes_through_with_rows_in_all_tables(database_url: str) -> None:
    database = await PooledDatabase.open(database_url, application_name="tests", most=1)
    await PostgresJobs(database).enqueue([new_job(), new_job(concurrency_key="k")])
    await register_workers(database)
    await PostgresDispatch(database).claim(claimer(), SCOPE, limit=1)
    await database.close()
    assert len(await rollback(database_url, to=0)) == len(migrations())


@pytest.mark.parametrize("schema", ["other-name", "with.dot", ODD_SCHEMA, "UPPER", "ünïcode"])
async def test_another_name_gives_the_same_schema(empty_database_url: str, schema: str) -> None:
    await migrate(empty_database_url, schema=schema)
    assert await describe(empty_database_url, schema=schema) == committed()
    connection = await connect(empty_database_url, application_name="tests")
    strays = await connection.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname NOT IN ($1, 'information_schema') AND n.nspname !~ '^pg_'",
        schema,
    )
    await connection.close()
    assert strays == 0
    await rollback(empty_database_url, to=0, schema=schema)


async def test_two_migrations_at_once_wait_for_each_other(empty_database_url: str) -> None:
    done = await asyncio.gather(*(migrate(empty_database_url) for _ in range(3)))
    assert sorted(map(len, done)) == [0, 0, len(migrations())]


async def test_migrations_wait_for_whoever_holds_the_lock(empty_database_url: str) -> None:
    holder = await connect(empty_database_url, application_name="tests")
    await holder.execute("SELECT pg_advisory_lock(hashtextextended('perdure migrate perdure', 0))")
    waiting = asyncio.create_task(migrate(empty_database_url))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await holder.close()
    assert len(await waiting) == len(migrations())


async def test_a_newer_schema_is_left_alone(database_url: str) -> None:
    connection = await connect(database_url, application_name="tests")
    await connection.execute(
        "INSERT INTO perdure.migrations (number, name) VALUES (9999, '9999_from_the_future')"
    )
    with pytest.raises(SchemaTooNew, match="9999"):
        await migrate(database_url)
    with pytest.raises(SchemaTooNew):
        await require_current(connection)
    await connection.close()


async def test_a_missing_and_an_old_schema_are_told_apart(empty_database_url: str) -> None:
    connection = await connect(empty_database_url, application_name="tests")
    with pytest.raises(SchemaMissing):
        await require_current(connection)
    await migrate(empty_database_url)
    await require_current(connection)
    await rollback(empty_database_url, to=1)
    with pytest.raises(SchemaOutdated, match="0002"):
        await require_current(connection)
    await connection.close()


def test_the_plain_script_makes_the_same_schema(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(plain_sql().encode())
    assert asyncio.run(describe(empty_database_url)) == committed()
    assert asyncio.run(migrate(empty_database_url)) == []


async def test_a_database_without_tables_says_so(empty_database_url: str) -> None:
    database = await PooledDatabase.open(empty_database_url, application_name="tests", most=1)
    with pytest.raises(SchemaMissing):
        await PostgresJobs(database).enqueue([new_job()])
    with pytest.raises(SchemaMissing):
        await PostgresDispatch(database).claim(claimer(), SCOPE, limit=1)
    await database.close()


async def test_an_address_that_leads_nowhere_says_so() -> None:
    with pytest.raises(DatabaseUnavailable):
        await connect("postgresql://nobody@127.0.0.1:1/nothing", application_name="tests")


async def test_a_value_that_does_not_fit_is_no_outage(database_url: str) -> None:
    database = await PooledDatabase.open(database_url, application_name="tests", most=1)
    with pytest.raises(asyncpg.DataError, match="out of"):
        await PostgresJobs(database).stage(limit=2**80)
    await database.close()
