"""Claimers that are not woken find work all the same, and know that they are deaf."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from perdure.stores.postgres import hearing
from perdure.stores.postgres.dispatch import PostgresDispatch, listening_dispatch
from tests.support.database import SCOPE, Store, claimer, new_job

BRIEFLY = timedelta(milliseconds=5)
LOOKS = 200


@pytest.fixture
async def listening(store: Store) -> AsyncIterator[PostgresDispatch]:
    dispatch = listening_dispatch(store.url, application_name="tests claim")
    yield dispatch
    await dispatch._database.close()  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "HEARD_WITHIN_S", 0.2)


async def poll(dispatch: PostgresDispatch, store: Store) -> None:
    """Find jobs that nobody announced, as often as it takes to doubt one's ears."""
    for _ in range(hearing.FINDS_IN_DOUBT):
        await store.add(new_job())
        assert not await dispatch.wait(BRIEFLY)
        assert len(await dispatch.claim(claimer(), SCOPE, limit=1)) == 1


async def deaf(dispatch: PostgresDispatch) -> bool:
    for _ in range(LOOKS):
        await dispatch.wait(BRIEFLY)
        if dispatch.deaf:
            return True
    return False


async def test_who_hears_nothing_finds_work_by_polling_and_learns_that_it_is_deaf(store: Store) -> None:
    assert not store.dispatch.deaf
    await poll(store.dispatch, store)
    assert await deaf(store.dispatch)


async def test_who_is_not_rung_for_but_hears_is_not_deaf(store: Store, listening: PostgresDispatch) -> None:
    await poll(listening, store)
    assert not await deaf(listening)


async def test_a_probe_wakes_nobody(store: Store, listening: PostgresDispatch) -> None:
    await listening.claim(claimer(), SCOPE, limit=1)
    await poll(store.dispatch, store)
    await store.dispatch.wait(BRIEFLY)
    assert not await listening.wait(timedelta(milliseconds=200))


async def test_a_new_connection_is_not_judged_by_the_old_one(store: Store) -> None:
    await poll(store.dispatch, store)
    assert await deaf(store.dispatch)
    store.dispatch._hearing.begin()
    assert not store.dispatch.deaf


async def test_one_who_hears_again_knows_it(store: Store) -> None:
    await poll(store.dispatch, store)
    assert await deaf(store.dispatch)
    store.dispatch.hear(hearing.PROBE)
    assert not store.dispatch.deaf
