"""Whether the stores beside PostgreSQL answer: Redis and Qdrant, where they are set up."""

import asyncio
from collections.abc import Mapping
from importlib.util import find_spec

from perdure.runtime.memory import CLIENT, place_of
from perdure.runtime.settings import Settings


async def stores_beside(settings: Settings) -> Mapping[str, bool]:
    """The stores that are set up, and whether each answers within a second. Without the extra that speaks to it none is told."""
    asked = {}
    if redis_url := settings.redis_url.get_secret_value():
        asked["redis"] = _redis(redis_url)
    if place := place_of(settings):
        asked["qdrant"] = _qdrant(place.url, place.api_key)
    answers = await asyncio.gather(*asked.values())
    return {name: answer for name, answer in zip(asked, answers, strict=True) if answer is not None}


async def _redis(url: str) -> bool | None:
    if find_spec("redis") is None:
        return None
    from perdure.stores.redis.link import answers

    return await answers(url)


async def _qdrant(url: str, api_key: str) -> bool | None:
    if find_spec(CLIENT) is None:
        return None
    from perdure.stores.qdrant.executions import answers

    return await answers(url, api_key=api_key)
