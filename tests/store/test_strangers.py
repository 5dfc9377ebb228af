"""What strangers hand in: any JSON to the SQL function, anything at all in Redis, any file or variable of settings."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from perdure.domain.errors import InvalidFilter, InvalidSettings
from perdure.domain.filters import parse
from perdure.runtime.settings import Settings, origins
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.redis.dispatch import RedisDispatch
from perdure.stores.redis.keys import Keys
from tests.support.database import SCOPE, claimer, new_job, store_on

PER_FIXTURE = [HealthCheck.function_scoped_fixture]
FEW = settings(max_examples=60, suppress_health_check=PER_FIXTURE)
OURS = {"PD001", "PD002", "PD003", "PD004", "PD005", "23502", "23514"}
"""Our own codes, and those of a missing or impossible value; beside them data that is no JSON of jobs at all (class 22)."""

SECRET = "hunter2-very-secret"
FIELDS = (
    "id",
    "kind",
    "args",
    "queue",
    "priority",
    "max_attempts",
    "timeout_ms",
    "labels",
    "run_at",
    "delay_ms",
    "parents",
    "unique_key",
    "unique_states",
    "unique_for_ms",
    "concurrency_key",
    "concurrency_limit",
    "crash_limit",
    "metadata",
    "inherit_priority",
    "'; DROP TABLE perdure.jobs; --",
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(
        [
            "",
            "'; DROP TABLE perdure.jobs; --",
            "$1",
            "01900000-0000-7000-8000-000000000000",
            "infinity",
            "NaN",
        ]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
any_job = st.fixed_dictionaries(
    {"kind": st.just("app.work") | values},
    optional={name: values for name in FIELDS if name != "kind"},
)
one_odd_field = st.builds(
    lambda name, value: {"kind": "app.work", name: value}, st.sampled_from(FIELDS), values
)
handed_in = st.lists(one_odd_field, max_size=2) | st.lists(any_job | values, max_size=3) | values


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@given(
    jobs=handed_in,
    on_duplicate=st.sampled_from(["raise", "return"]) | texts.filter(lambda text: "\0" not in text),
)
@FEW
def test_any_json_is_stored_whole_or_refused_with_a_code_of_ours(
    connection: psycopg.Connection[Any], jobs: object, on_duplicate: str
) -> None:
    before = count(connection)
    created, refused, told = 0, False, ""
    try:
        rows = connection.execute(
            "SELECT disposition FROM perdure.enqueue_jobs(%s::text::jsonb, %s)",
            (json.dumps(jobs), on_duplicate),
        ).fetchall()
    except psycopg.Error as error:
        code = error.sqlstate or ""
        refused = code in OURS or code.startswith("22")
        told = f"{code}: {error}"
    else:
        created = [row[0] for row in rows].count("created")
    assert refused or not told, told
    assert count(connection) - before == created


def count(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM perdure.jobs").fetchone()
    assert row
    return int(row[0])


elements = st.binary(max_size=40) | st.builds(
    lambda rank, rest: f"{rank}:{rest}".encode(), st.integers(-(2**70), 2**70), texts | st.uuids()
)
kinds_of_key = st.sampled_from(["list", "string", "hash", "set"])


@given(kind=kinds_of_key, rubbish=st.lists(elements, min_size=1, max_size=20))
@settings(max_examples=15, suppress_health_check=PER_FIXTURE)
def test_whatever_lies_in_redis_each_job_is_handed_out_once_and_nothing_else(
    database_url: str, redis_url: str, kind: str, rubbish: list[bytes]
) -> None:
    """PostgreSQL decides: what Redis proposes is a hint, and keys of a wrong type are as if it were away."""
    asyncio.run(claimed_all(database_url, redis_url, kind, rubbish))


async def claimed_all(database_url: str, redis_url: str, kind: str, rubbish: list[bytes]) -> None:
    async with store_on(database_url) as store, Redis.from_url(redis_url) as stranger:
        await stranger.flushdb()
        jobs = [new_job() for _ in range(3)]
        places = await store.add(*jobs)
        dispatch = await RedisDispatch.open(redis_url, PostgresDispatch(store.database), schema="perdure")
        try:
            await dispatch.announce(places)
            for band in (0, 1, 2):
                key = Keys("perdure").waiting(places[0].lane, band)
                if kind == "list":
                    await stranger.lpush(key, *rubbish)
                    continue
                await stranger.delete(key)
                match kind:
                    case "string":
                        await stranger.set(key, rubbish[0])
                    case "hash":
                        await stranger.hset(key, rubbish[0], rubbish[0])
                    case _:
                        await stranger.sadd(key, *rubbish)
            found = [lease for _ in range(4) for lease in await dispatch.claim(claimer(), SCOPE, limit=10)]
            assert sorted(lease.job_id for lease in found) == sorted(job.id for job in jobs)
            await store.end(found)
        finally:
            await dispatch.close()


@given(
    text=texts
    | st.builds("{} = {}".format, st.sampled_from(sorted(Settings.model_fields)), texts | scalars.map(repr))
)
@settings(max_examples=100, suppress_health_check=PER_FIXTURE)
def test_any_file_of_settings_is_read_or_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "perdure.toml"
    file.write_text(text, "utf-8")
    with suppress(InvalidSettings):
        Settings.load(config_path=file)


@given(before=texts, after=texts, name=st.sampled_from(["database_url", "redis_url"]))
@settings(max_examples=100, suppress_health_check=PER_FIXTURE)
def test_no_password_is_told_however_the_address_is_malformed(before: str, after: str, name: str) -> None:
    """Neither by the error that refuses it, nor by what shows the settings."""
    scheme = "postgresql" if name == "database_url" else "redis"
    for address in (
        f"{scheme}://me:{SECRET}@{after}",
        f"{before}://me:{SECRET}@h/{after}",
        f"{scheme}://h/?password={SECRET}",
    ):
        told = ""
        try:
            loaded = Settings(**{name: address})  # type: ignore[arg-type]
            told = f"{loaded!r} {loaded} {origins(loaded)}"
        except InvalidSettings as error:
            told = f"{error.message} {error.next_step} {error!r}"
        assert SECRET not in told


@given(text=texts)
def test_a_filter_is_parsed_or_refused_by_name(text: str) -> None:
    """`InvalidFilter` and nothing else; what it means reaches SQL as values only."""
    with suppress(InvalidFilter):
        parse(text)
