"""Jobs whose time-out and retry delay follow advice, in each mode."""

import asyncio
import time

from perdure import FollowAdvice, job

following = job(
    timeout="5m", retries=0, follow_advice=FollowAdvice(timeout_at_least="100ms", retry_at_most="1h")
)


@following
async def linger(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "ended by itself"


@following(mode="process")
def linger_in_a_process(seconds: float) -> str:
    time.sleep(seconds)
    return "ended by itself"


@following(retries=1)
async def fail() -> None:
    raise ValueError("no")
