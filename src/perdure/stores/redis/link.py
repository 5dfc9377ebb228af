"""The connection to Redis: opened with a check of the server, given up while it is away, taken up again by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from perdure.domain.errors import RedisUnavailable
from perdure.stores.redis.keys import LOOK

Answer = TypeVar("Answer")

LOST = (RedisError, OSError, TimeoutError)
"""What the client raises while the server is away, loading, read-only or full."""

TIMEOUT_S = 1.0
FIRST_REST_S = 0.5
LONGEST_REST_S = 5.0
OLDEST_VERSION = (7, 0)

log = structlog.get_logger()


class Link:
    """One Redis server as a hint-giver that may be gone at any time.

    After a failure nothing is sent for 0.5 s, then twice as long after each further one, up to 5 s; then a check in the
    background decides, so that nobody waits for a server that hangs. `failures` counts them.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis = _client(redis_url, timeout=TIMEOUT_S)
        self._blocking = _client(redis_url, timeout=None)
        self._away = False
        self._rest = FIRST_REST_S
        self._again_at = 0.0
        self._return: asyncio.Task[None] | None = None
        self.failures = 0

    async def open(self) -> None:
        """Check the server; one that does not answer counts as away. Raises RedisUnavailable for one not to be used."""
        try:
            await require_usable(self._redis)
        except RedisUnavailable:
            await self.close()
            raise
        except LOST as error:
            self._failed(error)

    @property
    def usable(self) -> bool:
        """Whether to try; while the server is away, an occasional look is taken in the background."""
        if self._away and monotonic() >= self._again_at and (self._return is None or self._return.done()):
            self._return = asyncio.create_task(self._look())
        return not self._away

    async def ask(self, question: Callable[[Redis], Awaitable[Answer]]) -> Answer | None:
        """The answer, or None when the server failed and is away from now on."""
        try:
            return await question(self._redis)
        except LOST as error:
            self._failed(error)
            return None

    async def ring_of(self, doorbells: list[str], timeout_s: float) -> bool | None:
        """Block until a doorbell rings or the time is up, on a connection of its own; None when the server failed."""
        try:
            async with asyncio.timeout(timeout_s + TIMEOUT_S):
                return await self._blocking.blpop(doorbells, timeout=timeout_s) is not None
        except LOST as error:
            self._failed(error)
            return None

    async def close(self) -> None:
        if self._return is not None:
            self._return.cancel()
            await asyncio.gather(self._return, return_exceptions=True)
        await self._redis.aclose()
        await self._blocking.aclose()

    async def _look(self) -> None:
        try:
            await require_usable(self._redis)
            # A server that is full, or follows another, answers questions all the same.
            await self._redis.set(LOOK, "", px=1_000)
        except (RedisUnavailable, *LOST) as error:
            self._failed(error)
            return
        self._away, self._rest = False, FIRST_REST_S
        log.info("Redis is back", failures=self.failures)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if not self._away:
            self._rest = FIRST_REST_S
            log.warning(
                "Redis is away, PostgreSQL dispatches alone", error=f"{type(error).__name__}: {error}"
            )
        else:
            self._rest = min(self._rest * 2, LONGEST_REST_S)
        self._away = True
        self._again_at = monotonic() + self._rest


async def answers(redis_url: str) -> bool:
    """Whether the server answers."""
    try:
        redis = _client(redis_url, timeout=TIMEOUT_S)
        try:
            return bool(await redis.ping())
        finally:
            await redis.aclose()
    except (*LOST, RedisUnavailable):
        return False


def _client(redis_url: str, *, timeout: float | None) -> Redis:
    try:
        return Redis.from_url(
            redis_url,
            decode_responses=True,
            encoding_errors="replace",
            socket_timeout=timeout,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
    except ValueError as error:
        raise RedisUnavailable(
            f"the address of Redis cannot be used: {error}", next_step="mend redis_url"
        ) from error


async def require_usable(redis: Redis) -> None:
    """Raise RedisUnavailable for a server that is too old, or set up to drop work when its memory is full."""
    try:
        info = await redis.info("server")
    except ResponseError:
        info = {}
    version = str(info.get("redis_version", ""))
    if version and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise RedisUnavailable(
            f"Redis {version} is too old", next_step="use Redis 7.0 or newer, or Valkey 8 or newer"
        )
    policy = await _eviction_policy(redis)
    if policy is None:
        log.warning("Redis does not tell its maxmemory-policy; make sure that it is noeviction")
    elif policy != "noeviction":
        # The lists have a time to live, so that the volatile policies drop them too.
        raise RedisUnavailable(
            f"Redis has the maxmemory-policy {policy}, which drops queued work when memory runs out",
            next_step="set `maxmemory-policy noeviction` in redis.conf, or give Perdure a Redis of its own",
        )


async def _eviction_policy(redis: Redis) -> str | None:
    try:
        return str((await redis.config_get("maxmemory-policy"))["maxmemory-policy"])
    except (ResponseError, KeyError):
        pass
    try:
        policy = (await redis.info("memory")).get("maxmemory_policy")
    except ResponseError:
        return None
    return None if policy is None else str(policy)
