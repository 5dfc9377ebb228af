"""Which dispatch a program uses: Redis in front where it is set, PostgreSQL alone otherwise."""

from contextlib import AsyncExitStack

from perdure.domain.errors import ExtraMissing
from perdure.ports import Dispatch
from perdure.runtime.settings import Settings
from perdure.stores.postgres.dispatch import PostgresDispatch


async def quickest_dispatch(
    settings: Settings, postgres: PostgresDispatch, stack: AsyncExitStack
) -> Dispatch:
    """The dispatch that the settings ask for; its connections are closed with the stack.

    Raises RedisUnavailable for a Redis that would drop work, and ExtraMissing without its client; one that is away is used
    once it answers.
    """
    redis_url = settings.redis_url.get_secret_value()
    if not redis_url:
        return postgres
    try:
        from perdure.stores.redis.dispatch import RedisDispatch
    except ModuleNotFoundError as error:
        raise ExtraMissing(error.name or "redis", extra="redis") from error
    redis = await RedisDispatch.open(redis_url, postgres, schema=settings.schema)
    stack.push_async_callback(redis.close)
    return redis
