"""Bare statements on the same servers in the same run: what no job system can be faster than for long."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import asyncpg
import redis.asyncio

from benchmarks.peers.catalogue import FLOORS
from benchmarks.peers.measurements import Effort
from benchmarks.peers.servers import Servers
from perdure.bench.enqueueing import rows
from perdure.runtime.event_loop import quick_loop
from perdure.stores.postgres.floors import PostgresFloors

SCHEMA = "floors"
KEY = "floor"
BATCH = 100
PIPELINED = 1_000
DRAIN = """
local taken = redis.call('LPOP', KEYS[1], ARGV[1])
if not taken then return 0 end
return redis.call('LPUSH', KEYS[2], unpack(taken)) and #taken
"""
"""Takes a batch and puts it on another list, as a worker that may die must; the next call forgets it."""

Figures = Mapping[str, float]
POSTGRES, REDIS = FLOORS


def measure(name: str, figure: str, servers: Servers, effort: Effort) -> Figures:
    """One floor; empty where bare statements have no such figure."""
    way = {POSTGRES: _postgres, REDIS: _redis}[name].get(figure)
    if way is None:
        return {}
    servers.empty()
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        return {figure: runner.run(way(servers, effort))}


async def _in_postgres(servers: Servers) -> PostgresFloors:
    connection = await asyncpg.connect(servers.database_url)
    await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    await connection.close()
    return PostgresFloors(servers.database_url, schema=SCHEMA)


async def _insert_one(servers: Servers, effort: Effort) -> float:
    return await (await _in_postgres(servers)).one_by_one(rows(effort.single_enqueues))


async def _insert_from_many(servers: Servers, effort: Effort) -> float:
    floors = await _in_postgres(servers)
    return await floors.from_many(rows(effort.single_enqueues), connections=effort.callers)


async def _copy(servers: Servers, effort: Effort) -> float:
    return await (await _in_postgres(servers)).in_bulk(rows(effort.bulk_jobs))


async def _claim_and_settle(servers: Servers, effort: Effort) -> float:
    return await (await _in_postgres(servers)).drain(rows(effort.drained_jobs), claimers=1)


async def _claim_and_settle_twice(servers: Servers, effort: Effort) -> float:
    return await (await _in_postgres(servers)).drain(rows(effort.drained_jobs), claimers=2)


def _message(n: int) -> str:
    return json.dumps({"job": "noop", "args": {"n": n}})


async def _push_one(servers: Servers, effort: Effort) -> float:
    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await client.ping()
        began = time.perf_counter()
        for n in range(effort.single_enqueues):
            await _awaited(client.lpush(KEY, _message(n)))
        return effort.single_enqueues / (time.perf_counter() - began)


async def _push_concurrently(servers: Servers, effort: Effort) -> float:
    numbers = iter(range(effort.single_enqueues))

    async def call() -> None:
        for n in numbers:
            await _awaited(client.lpush(KEY, _message(n)))

    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await asyncio.gather(*(_awaited(client.ping()) for _ in range(effort.callers)))
        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(effort.callers)))
        return effort.single_enqueues / (time.perf_counter() - began)


async def _push_pipelined(servers: Servers, effort: Effort) -> float:
    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await _awaited(client.ping())
        began = time.perf_counter()
        await _fill(client, effort.bulk_jobs)
        return effort.bulk_jobs / (time.perf_counter() - began)


async def _pop_in_batches(servers: Servers, effort: Effort) -> float:
    async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
        await _fill(client, effort.drained_jobs)
        script = client.register_script(DRAIN)
        began = time.perf_counter()
        while await script(keys=[KEY, f"{KEY}:taken"], args=[BATCH]):
            await client.delete(f"{KEY}:taken")
        return effort.drained_jobs / (time.perf_counter() - began)


async def _fill(client: "redis.asyncio.Redis", count: int) -> None:
    for start in range(0, count, PIPELINED):
        async with client.pipeline(transaction=False) as pipeline:
            for n in range(start, min(start + PIPELINED, count)):
                pipeline.lpush(KEY, _message(n))
            await pipeline.execute()


async def _awaited(answer: "Awaitable[object] | object") -> None:
    """The client's types say that a command may answer at once; it never does on an event loop."""
    if isinstance(answer, Awaitable):
        await answer


Way = Callable[[Servers, Effort], Coroutine[Any, Any, float]]
_postgres: Mapping[str, Way] = {
    "enqueue_one": _insert_one,
    "enqueue_concurrent": _insert_from_many,
    "enqueue_bulk": _copy,
    "drain_one_process": _claim_and_settle,
    "drain_two_processes": _claim_and_settle_twice,
}
_redis: Mapping[str, Way] = {
    "enqueue_one": _push_one,
    "enqueue_concurrent": _push_concurrently,
    "enqueue_bulk": _push_pipelined,
    "drain_one_process": _pop_in_batches,
}
