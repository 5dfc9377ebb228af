"""Redis that is flushed, killed, taken back in time, filled up or cut off: it is a hint, and nothing is lost with it."""

import asyncio

from perdure.torture.place import Place
from perdure.torture.scenario import Scenario, fault

AWAY_S = 4.0


@fault(
    Scenario(
        name="redis-flush",
        numbers=(26,),
        produced="FLUSHALL",
        holds="what is lost with it is found in PostgreSQL",
    )
)
async def redis_flush(place: Place) -> None:
    await place.redis("FLUSHALL")


@fault(
    Scenario(
        name="redis-kill",
        numbers=(9, 27),
        produced="SIGKILL for Redis, which is back after 4 s without the last second of its writes",
        holds="work goes on through PostgreSQL meanwhile; announcements that were lost are found",
    )
)
async def redis_kill(place: Place) -> None:
    await asyncio.to_thread(place.servers.crash_redis)
    done = sum((await place.evidence.outcomes()).values())
    await place.pause(AWAY_S)
    await place.done_with(done + 1)
    await asyncio.to_thread(place.servers.redis.start)


@fault(
    Scenario(
        name="cut-from-redis",
        numbers=(9,),
        produced="a host's connections to Redis are reset and refused for 4 s",
        holds="it works on through PostgreSQL, and comes back by itself",
    )
)
async def cut_from_redis(place: Place) -> None:
    host = place.any_host()
    host.redis.cut()
    await place.pause(AWAY_S)
    host.redis.mend()


@fault(
    Scenario(
        name="held-from-redis",
        numbers=(9,),
        produced="for 4 s nothing passes between a host and Redis, and nobody is told",
        holds="as for a cut",
    )
)
async def held_from_redis(place: Place) -> None:
    host = place.any_host()
    host.redis.hold()
    await place.pause(AWAY_S)
    host.redis.mend()


@fault(
    Scenario(
        name="redis-scripts",
        numbers=(30,),
        produced="SCRIPT FLUSH, five times",
        holds="scripts are loaded again",
    )
)
async def redis_scripts(place: Place) -> None:
    for _ in range(5):
        await place.redis("SCRIPT", "FLUSH")
        await asyncio.sleep(0.2)


@fault(
    Scenario(
        name="redis-full",
        numbers=(29,),
        produced="`maxmemory` of 1 byte for 4 s: every write is refused",
        holds="it is noticed at run time, and work goes on through PostgreSQL",
    )
)
async def redis_full(place: Place) -> None:
    await place.redis("CONFIG", "SET", "maxmemory", "1")
    await place.pause(AWAY_S)
    await place.goes_on(within_s=15)
    await place.redis("CONFIG", "SET", "maxmemory", "0")


@fault(
    Scenario(
        name="redis-old-dump",
        numbers=(28,),
        produced="Redis is killed and comes back with its files of some seconds ago",
        holds="ids that have long been done are dropped when PostgreSQL is asked; none runs again",
    )
)
async def redis_old_dump(place: Place) -> None:
    with place.servers.redis_remembered() as go_back:
        await place.pause(AWAY_S)
        await asyncio.to_thread(go_back)
