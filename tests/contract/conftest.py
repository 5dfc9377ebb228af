"""Both dispatches, on real servers and on the model of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

import pytest

from perdure.domain.job import NewJob
from perdure.ports import Dispatch, Place
from perdure.stores.postgres.dispatch import PostgresDispatch, listening_dispatch
from perdure.stores.redis import dispatch as redis_dispatch
from perdure.stores.redis import link
from perdure.stores.redis.dispatch import RedisDispatch
from tests.support.database import SCOPE, Store, claimer, new_job, store_on
from tests.support.model_bench import ModelBench
from tests.support.model_redis import ModelRedis

AnyStore: TypeAlias = Store | ModelBench


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A store, one dispatch on it, and more of the same kind, each as another process would have it."""

    store: AnyStore
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


async def deciding_on(stack: AsyncExitStack, store: AnyStore) -> PostgresDispatch:
    """PostgreSQL's own dispatch, or the same on the model."""
    if isinstance(store, ModelBench):
        return await store.listening()
    deciding = listening_dispatch(store.url, application_name="tests claim", schema=store.schema)
    stack.push_async_callback(deciding._database.close)  # type: ignore[attr-defined]
    return deciding


async def open_dispatch(stack: AsyncExitStack, store: AnyStore, redis_url: str | None) -> Dispatch:
    """A dispatch that has just looked at an empty database, so that Redis is asked next."""
    deciding = await deciding_on(stack, store)
    if redis_url is None:
        await deciding.claim(claimer(), SCOPE, limit=0)
        return deciding
    dispatch = await RedisDispatch.open(redis_url, deciding, schema=store.schema)
    stack.push_async_callback(dispatch.close)
    dispatch._passed[SCOPE] = monotonic()
    return dispatch


@pytest.fixture(params=["postgres", "redis", "model", "model of redis"])
async def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """Redis is asked whenever it may have something, so that it is Redis that is tested; its lanes exist."""
    redis_url: str | None = None
    if request.param == "redis":
        redis_url = request.getfixturevalue("redis_url")
    elif request.param == "model of redis":
        redis_url, redis = "redis://model", ModelRedis()
        monkeypatch.setattr(link, "_client", lambda url, *, timeout: redis.client())
    monkeypatch.setattr(redis_dispatch, "FULL_PASS_S", 3600.0)
    async with AsyncExitStack() as stack:
        store: AnyStore = ModelBench()
        if not request.param.startswith("model"):
            url = request.getfixturevalue("database_url")
            store = await stack.enter_async_context(store_on(url))
        await store.add(new_job())
        await store.drain()
        yield Bench(
            store=store,
            dispatch=await open_dispatch(stack, store, redis_url),
            another=lambda: open_dispatch(stack, store, redis_url),
        )
