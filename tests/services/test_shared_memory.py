"""The memory that workers and programs share: what is written is there for all, for its time, and one of many rivals wins."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from perdure.domain.errors import InvalidArguments, InvalidOption, PayloadTooLarge
from perdure.domain.shared_memory import DEFAULT_TTLS
from perdure.services.shared_memory import SharedMemory
from perdure.services.upkeep import Upkeep
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.shared_memory import PostgresSharedEntries
from tests.support.past import Past, past_of


@pytest.fixture
async def past(database_url: str) -> AsyncIterator[Past]:
    async with past_of(database_url) as past:
        yield past


@pytest.fixture
async def shared(database_url: str) -> AsyncIterator[SharedMemory]:
    database = await PooledDatabase.open(database_url, application_name="tests", most=8)
    yield SharedMemory(PostgresSharedEntries(database), max_bytes=1000)
    await database.close()


async def expire(past: Past, key: str) -> None:
    await past.sql(
        "UPDATE perdure.shared_memory SET expires_at = now() - interval '1 second' WHERE key = $1", key
    )


async def value(shared: SharedMemory, key: str, namespace: str = "mine") -> Any:
    entry = await shared.get(namespace, key)
    return None if entry is None else msgspec.json.decode(entry.value)


async def test_what_is_written_is_read_until_it_is_deleted(shared: SharedMemory) -> None:
    assert await shared.get("mine", "k") is None
    first = await shared.put("mine", "k", {"n": 12345678901234567890, "x": [1.5, None, "é"]})
    assert await value(shared, "k") == {"n": 12345678901234567890, "x": [1.5, None, "é"]}
    second = await shared.put("mine", "k", "other")
    assert (await value(shared, "k"), second.version == first.version) == ("other", False)
    assert await shared.get("yours", "k") is None
    assert await shared.delete("mine", "k")
    assert not await shared.delete("mine", "k")
    assert await value(shared, "k") is None


async def test_what_has_run_out_is_absent_for_every_call_and_then_swept(
    shared: SharedMemory, past: Past
) -> None:
    old = await shared.put("mine", "k", 1, ttl="1h")
    for key in ("swept", "kept"):
        await shared.put("mine", key, 1, ttl="1h")
    await expire(past, "k")
    await expire(past, "swept")
    assert await shared.get("mine", "k") is None
    assert [entry.key for entry in (await shared.list("mine")).entries] == ["kept"]
    assert [(each.namespace, each.entries) for each in await shared.namespaces()] == [("mine", 1)]
    assert await shared.compare_and_set("mine", "k", 2, expected=old.version) is None
    assert await shared.compare_and_set("mine", "k", 3, expected=None) is not None
    assert not await shared.delete("mine", "swept")
    await shared.put("mine", "swept", 1, ttl="1h")
    await expire(past, "swept")
    upkeep = Upkeep(past.keeping, ahead_days=1, retention=timedelta(days=7))
    assert (await upkeep.run_once()).shared_memory == 1
    assert await past.value("SELECT array_agg(key ORDER BY key) FROM perdure.shared_memory") == ["k", "kept"]


async def test_an_entry_stays_as_long_as_its_namespace_or_its_writer_says(shared: SharedMemory) -> None:
    for namespace, ttl in (*DEFAULT_TTLS.items(), ("mine", None)):
        entry = await shared.put(namespace, "k", 1)
        assert (entry.expires_at and entry.expires_at - entry.written_at) == ttl
    entry = await shared.put("jobs", "k", 1, ttl=None)
    assert entry.expires_at is None
    entry = await shared.put("jobs", "k", 1, ttl="90s")
    assert entry.expires_at == entry.written_at + timedelta(seconds=90)


async def test_of_many_who_expect_the_same_one_succeeds(shared: SharedMemory) -> None:
    async def add_one(_: int) -> None:
        while True:
            now = await shared.get("mine", "count")
            count = 0 if now is None else msgspec.json.decode(now.value)
            if await shared.compare_and_set(
                "mine", "count", count + 1, expected=now.version if now else None
            ):
                return

    await asyncio.gather(*map(add_one, range(20)))
    assert await value(shared, "count") == 20


async def test_a_version_is_never_given_again(shared: SharedMemory) -> None:
    """The entry was deleted and written anew with the same value: who expects the old one learns that."""
    old = await shared.put("mine", "k", "same")
    await shared.delete("mine", "k")
    new = await shared.put("mine", "k", "same")
    assert await shared.compare_and_set("mine", "k", 2, expected=old.version) is None
    assert not await shared.delete("mine", "k", expected=old.version)
    assert await shared.compare_and_set("mine", "k", 2, expected=None) is None
    assert await shared.delete("mine", "k", expected=new.version)
    assert await shared.compare_and_set("mine", "k", 2, expected=new.version) is None


async def test_entries_are_listed_by_prefix_page_by_page(shared: SharedMemory) -> None:
    keys = ["a", "a%", "a/1", "a/10", "a/2", "a_", "b", "ä/1"]
    for key in keys:
        await shared.put("mine", key, key)
    found: list[str] = []
    cursor = None
    while True:
        page = await shared.list("mine", "a", limit=2, cursor=cursor)
        found += [entry.key for entry in page.entries]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == ["a", "a%", "a/1", "a/10", "a/2", "a_"]
    for prefix, expected in (
        ("a/", ["a/1", "a/10", "a/2"]),
        ("a%", ["a%"]),
        ("a_", ["a_"]),
        ("ä", ["ä/1"]),
        ("z", []),
    ):
        assert [entry.key for entry in (await shared.list("mine", prefix)).entries] == expected


async def test_what_cannot_be_kept_is_refused(shared: SharedMemory) -> None:
    for namespace, key in (("", "k"), ("mine", ""), ("m" * 201, "k"), ("mine", "k\x00")):
        with pytest.raises(InvalidOption):
            await shared.put(namespace, key, 1)
    for ttl in ("soon", "0s", -1):
        with pytest.raises(InvalidOption, match="ttl"):
            await shared.put("mine", "k", 1, ttl=ttl)
    for unfit in (float("nan"), "\x00", object()):
        with pytest.raises(InvalidArguments):
            await shared.put("mine", "k", unfit)
    with pytest.raises(PayloadTooLarge):
        await shared.put("mine", "k", "x" * 1001)
    with pytest.raises(InvalidOption):
        await shared.list("mine", limit=0)
    with pytest.raises(InvalidOption):
        await shared.list("mine", "\x00")
    assert not await shared.delete("mine", "k", expected=uuid4())
