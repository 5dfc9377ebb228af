"""A producer's guard: looks at the database now and then while jobs are enqueued, never on their way."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from uuid import UUID, uuid4

import structlog

from perdure.domain.errors import RollbackDetected, Unavailable
from perdure.ports import Lineage
from perdure.services.guard import Guard

BETWEEN_LOOKS_S = 2.0
HEAP = 1_000
"""So many stored jobs are handed to the guard without waiting for the next look."""

log = structlog.get_logger("perdure.guard")


class Lookout:
    """Remembers what was enqueued, and looks at most every two seconds, beside the work."""

    def __init__(self, lineage: Lineage) -> None:
        self._guard = Guard(lineage, who=f"producer {uuid4()}")
        self._next = 0.0
        self._stored: list[UUID] = []
        self._looking: asyncio.Task[None] | None = None

    @property
    def broken(self) -> RollbackDetected | None:
        """What the guard found, from the moment on in which it did, while the database is not what it was."""
        return self._guard.broken

    async def begin(self) -> None:
        """The first look, which remembers. Raises RollbackDetected where a break is known, and Unavailable."""
        self._next = monotonic() + BETWEEN_LOOKS_S
        await self._guard.look()

    def note(self, ids: Sequence[UUID]) -> None:
        """Remember what was stored, and look when it is time.

        It is handed to the guard in heaps; at once while the guard looks, which may be about to tell of what is missing.
        """
        if len(ids) < HEAP:
            self._stored += ids
        if self._looking is not None or max(len(ids), len(self._stored)) >= HEAP:
            self._hand_over()
        if len(ids) >= HEAP:
            self._guard.note(ids)  # as they are: they are many
        if self._looking is None and monotonic() >= self._next:
            self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """End the look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look(self) -> None:
        """One look, or, where the database is not what it was, one after the other until somebody adopts it.

        So that what is remembered is told even if the server goes away in between, and nobody need ask for it.
        """
        try:
            await self._look_once()
            while self._guard.broken is not None:
                await asyncio.sleep(BETWEEN_LOOKS_S)
                await self._look_once()
        finally:
            self._looking = None
            self._next = monotonic() + BETWEEN_LOOKS_S

    def _hand_over(self) -> None:
        stored, self._stored = self._stored, []
        self._guard.note(stored)

    async def _look_once(self) -> None:
        known = self._guard.broken is not None
        self._hand_over()
        try:
            with suppress(Unavailable):
                await self._guard.look()
        except Exception:
            log.exception("a look at the database failed")
        if self._guard.broken is not None and not known:
            log.error(self._guard.broken.message, next=RollbackDetected.next_step)
