"""Facts about Redis, for `perdure doctor`."""

from perdure.domain.diagnosis import RedisFacts
from perdure.domain.errors import RedisUnavailable

TIMEOUT_S = 5.0


async def redis_facts(redis_url: str) -> RedisFacts:
    """What Redis says of itself. Raises RedisUnavailable."""
    try:
        from redis.asyncio import Redis  # the client is an extra
        from redis.exceptions import RedisError
    except ImportError as error:
        why = "the Redis client is not installed"
        raise RedisUnavailable(why, next_step="pip install 'perdure[redis]'") from error
    try:
        client = Redis.from_url(redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        try:
            info = await client.info()
        finally:
            await client.aclose()
    except (RedisError, OSError, ValueError) as error:
        why = f"Redis does not answer ({type(error).__name__}: {error})"
        raise RedisUnavailable(why, next_step="check redis_url; without Redis, leave it empty") from error
    valkey = info.get("valkey_version")
    return RedisFacts(
        product="Valkey" if valkey else "Redis",
        version=str(valkey or info["redis_version"]),
        policy=str(info.get("maxmemory_policy", "unknown")),
        persistence=bool(info.get("aof_enabled")),
    )
