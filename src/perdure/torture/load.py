"""A producer that goes on whatever happens, repeats what was not answered, and remembers what was."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID

from perdure import Perdure
from perdure.domain.errors import Unavailable
from perdure.runtime.prepared import Prepared
from perdure.torture import jobs

BEAT_S = 0.1
AGAIN_S = 0.1
KEYS = 3
UNIQUE = 40
SHORTEST_MS, LONGEST_MS = 5, 40


class Load:
    """Enqueues a mixture of jobs: plain ones, some that fail once, share a key, are unique, depend, wait or leave a mark."""

    def __init__(self, app: Perdure, rng: Random, *, database_url: str, rate: float) -> None:
        self._app = app
        self._rng = rng
        self._url = database_url
        self._rate = rate
        self._task: asyncio.Task[None] | None = None
        self._ends = asyncio.Event()
        self.acknowledged: list[UUID] = []
        self.repeated = 0

    def start(self) -> None:
        """Go on until `stop`."""
        self._ends.clear()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Returns when what was sent has been acknowledged."""
        self._ends.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def add(self, count: int) -> Sequence[UUID]:
        """Enqueue so many jobs of the mixture at once, and give the ids."""
        mixed: list[Prepared[Any]] = []
        while len(mixed) < count:
            mixed += self._some()
        return await self.store(mixed)

    async def store(self, prepared: Sequence[Prepared[Any]]) -> Sequence[UUID]:
        """Repeat these jobs, with the same ids, until they are acknowledged."""
        while True:
            with suppress(Unavailable, OSError, TimeoutError):
                ids = [handle.id for handle in await self._app.enqueue_many(prepared)]
                self.acknowledged += ids
                return ids
            self.repeated += 1
            await asyncio.sleep(AGAIN_S)

    async def _run(self) -> None:
        owed = 0.0
        while not self._ends.is_set():
            owed += self._rate * BEAT_S
            if owed >= 1:
                await self.add(int(owed))
                owed -= int(owed)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ends.wait(), BEAT_S)

    def _some(self) -> list[Prepared[Any]]:
        """One job, or two of which one waits for the other."""
        app, rng = self._app, self._rng
        ms = rng.randint(SHORTEST_MS, LONGEST_MS)
        draw = rng.random()
        if draw < 0.60:
            return [app.prepare(jobs.nap, ms)]
        if draw < 0.70:
            return [app.using(concurrency_key=f"key-{rng.randrange(KEYS)}").prepare(jobs.shares, ms)]
        if draw < 0.78:
            unique = app.using(unique_key=f"one-{rng.randrange(UNIQUE)}", on_duplicate="return")
            return [unique.prepare(jobs.nap, ms)]
        if draw < 0.86:
            return [app.prepare(jobs.flaky)]
        if draw < 0.92:
            parent = app.prepare(jobs.nap, ms)
            return [parent, app.using(depends_on=parent.id).prepare(jobs.nap, ms)]
        if draw < 0.96:
            return [app.using(delay=f"{rng.randint(100, 1500)}ms").prepare(jobs.nap, ms)]
        return [app.prepare(jobs.effect, self._url, ms)]
