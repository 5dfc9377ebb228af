"""Both dispatches, on real servers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic

import pytest

from perdure.domain.job import NewJob
from perdure.ports import Dispatch, Place
from perdure.stores.postgres.dispatch import listening_dispatch
from perdure.stores.redis import dispatch as redis_dispatch
from perdure.stores.redis.dispatch import RedisDispatch
from tests.support.database import SCOPE, Store, claimer, new_job, store_on


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A store, one dispatch on it, and more of the same kind, each as another process would have it."""

    store: Store
    dispatch: Dispatch
    another: Callable[[], Awaitable[Dispatch]]

    async def add(self, *jobs: NewJob) -> list[Place]:
        """Enqueue and announce."""
        places = await self.store.add(*jobs)
        await self.dispatch.announce(places)
        return places


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with store_on(database_url) as opened:
        yield opened


async def open_dispatch(stack: AsyncExitStack, store: Store, redis_url: str | None) -> Dispatch:
    """A dispatch that has just looked at an empty database, so that Redis is asked next."""
    deciding = listening_dispatch(store.url, application_name="tests claim", schema=store.schema)
    stack.push_async_callback(deciding._database.close)  # type: ignore[attr-defined]
    if redis_url is None:
        await deciding.claim(claimer(), SCOPE, limit=0)
        return deciding
    dispatch = await RedisDispatch.open(redis_url, deciding, schema=store.schema)
    stack.push_async_callback(dispatch.close)
    dispatch._passed[SCOPE] = monotonic()
    return dispatch


@pytest.fixture(params=["postgres", "redis"])
async def bench(
    request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """Redis is asked whenever it may have something, so that it is Redis that is tested; its lanes exist."""
    redis_url: str | None = None
    if request.param == "redis":
        redis_url = request.getfixturevalue("redis_url")
        monkeypatch.setattr(redis_dispatch, "FULL_PASS_S", 3600.0)
    await store.add(new_job())
    await store.drain()
    async with AsyncExitStack() as stack:
        yield Bench(
            store=store,
            dispatch=await open_dispatch(stack, store, redis_url),
            another=lambda: open_dispatch(stack, store, redis_url),
        )
