"""The one loop: a duty, again and again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

import structlog

from perdure.domain.errors import DatabaseUnavailable, Locked, Unavailable
from perdure.runtime.outage import OF_PROCESS

JITTER = 0.1
LONGEST_PAUSE_S = 5.0
LONGEST_REST_S = 180.0
"""However long rounds take, the next one comes so soon: less than what an alert may be unseen before it begins anew."""

log = structlog.get_logger("perdure.loop")


async def every(
    interval_s: float,
    duty: Callable[[], Awaitable[object]],
    *,
    name: str,
    asks: bool = False,
    rest: float = 0.0,
) -> None:
    """Run `duty` about every `interval_s` seconds, for ever.

    With `rest` it rests so many times as long as each of the last two rounds took, but no longer than `LONGEST_REST_S`.
    An error is logged and the loop goes on: at once with the next round, or, while a server is away, after pauses that
    grow up to five seconds and are logged once; those for the database once for all loops of the process. A lock is no outage.
    `asks`: each round asks the database, so that one that comes through is the end of its outage.
    """
    away, took = 0, 0.0
    while True:
        began, before = monotonic(), took
        try:
            await duty()
            if away:
                log.debug("works again", loop=name)
            away = 0
            OF_PROCESS.works(asked=asks)
        except Locked as error:
            log.debug("a round met a lock", loop=name, why=error.message)
        except Unavailable as error:
            if not away:
                _tell(name, error)
            away += 1
        except Exception:
            log.exception("a round failed", loop=name)
        _pass_cancellation_on()
        took = monotonic() - began
        await asyncio.sleep(_pause_s(interval_s, rest * min(before, took), away))


def _pass_cancellation_on() -> None:
    """What a round cleans up when it is cancelled may fail, as a rollback does on a lost connection, and hide that it was."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _pause_s(interval_s: float, rest_s: float, away: int) -> float:
    outage_s = min(LONGEST_PAUSE_S, 0.05 * 2**away) if away else 0.0
    return max(interval_s, min(LONGEST_REST_S, rest_s), outage_s) * random.uniform(1 - JITTER, 1 + JITTER)


def _tell(name: str, error: Unavailable) -> None:
    if isinstance(error, DatabaseUnavailable):
        log.debug("must wait", loop=name, why=error.message)
        OF_PROCESS.fails(name, error)
    else:
        log.warning("must wait", loop=name, why=error.message)


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set before the time is up."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
