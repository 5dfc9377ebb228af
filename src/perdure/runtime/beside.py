"""Whether the stores beside PostgreSQL answer: Redis and Qdrant, where they are set up."""

import asyncio
from collections.abc import Awaitable, Mapping
from importlib.util import find_spec

from perdure.runtime.memory import place_of
from perdure.runtime.settings import Settings
from perdure.stores.qdrant.answering import answers as qdrant_answers

WITHIN_S = 1.0


async def stores_beside(settings: Settings) -> Mapping[str, bool]:
    """The stores that are set up, and whether each answers within a second. Redis is not told of without its client.

    Qdrant's engine of the data folder is told of while its process runs.
    """
    asked: dict[str, Awaitable[bool]] = {}
    redis_url = settings.redis_url.get_secret_value()
    if redis_url and find_spec("redis") is not None:
        from perdure.stores.redis.link import answers as redis_answers

        asked["redis"] = redis_answers(redis_url)
    if place := place_of(settings):
        asked["qdrant"] = qdrant_answers(place.url, api_key=place.api_key)
    answers = await asyncio.gather(*map(_in_time, asked.values()))
    return dict(zip(asked, answers, strict=True))


async def _in_time(answer: Awaitable[bool]) -> bool:
    try:
        async with asyncio.timeout(WITHIN_S):
            return await answer
    except TimeoutError:
        return False
