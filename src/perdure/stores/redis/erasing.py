"""Removes what a schema has left in Redis."""

from redis.asyncio import Redis

from perdure.stores.redis.keys import Keys
from perdure.stores.redis.link import LOST

AT_ONCE = 1000


async def erase(redis_url: str, *, schema: str) -> None:
    """Delete all keys of a schema; a server that is away keeps them until they expire."""
    async with Redis.from_url(redis_url) as redis:
        try:
            async for key in redis.scan_iter(match=f"{Keys(schema).prefix}*", count=AT_ONCE):
                await redis.delete(key)
        except LOST:
            return
