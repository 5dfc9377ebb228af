"""The process that remembers executions, one for the whole system, started by the leader of the workers.

It is a process of its own, so that a model in it takes neither memory nor time of a worker. Its orders come on standard input.
"""

import asyncio
import os
import sys
from datetime import timedelta
from time import monotonic

import msgspec
import structlog

from perdure.runtime.loops import every
from perdure.runtime.memory import Memory
from perdure.runtime.orphans import die_with_parent
from perdure.runtime.settings import Settings
from perdure.runtime.telemetry import configure_logging
from perdure.stores.postgres.connections import DedicatedDatabase

LOOK_S = 1.0
FORGET_EVERY = timedelta(hours=1)
COMMAND_WITHIN_S = 300.0
POLITENESS = 10

log = structlog.get_logger("perdure.memory")


class Remembering:
    """Reads on as long as there is something, and forgets what is old every hour."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._forgot_at: float | None = None

    async def run_once(self) -> None:
        """All that is there to be read now."""
        service = await self._memory.service()
        while not (report := await service.remember_once()).caught_up:
            log.debug("remembered", attempts=report.read)
        now = monotonic()
        if self._forgot_at is None or now - self._forgot_at > FORGET_EVERY.total_seconds():
            await service.forget_old()
            self._forgot_at = now


async def remember(settings: Settings) -> None:
    """Remember for ever; Qdrant or PostgreSQL away: wait for them."""
    url = settings.database_url.get_secret_value()
    database = DedicatedDatabase(url, application_name="perdure memory", command_timeout=COMMAND_WITHIN_S)
    memory = Memory(settings, database)
    try:
        await every(LOOK_S, Remembering(memory).run_once, name="memory", asks=True)
    finally:
        await memory.close()
        await database.close()


def main() -> int:
    """Remember until the parent ends."""
    orders = msgspec.json.decode(sys.stdin.buffer.read())
    die_with_parent(orders["parent"])
    os.nice(POLITENESS)
    settings = Settings(**orders["settings"])
    configure_logging(settings)
    asyncio.run(remember(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
