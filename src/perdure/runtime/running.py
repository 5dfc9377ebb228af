"""Which attempts a process is running, in memory that outlives the process."""

import mmap
import os
import tempfile
from functools import partial
from uuid import UUID

from perdure.domain.settlement import Ending
from perdure.services.execution import Attempt, Done, Runner

TOKEN = 16
NOTHING, TOO_MANY = bytes(TOKEN), b"\xff" * TOKEN


class Running:
    """The tokens of the attempts whose handlers run, in a page that a process shares with its supervisor.

    A process writes a token before it starts the handler and wipes it when the handler has ended, so that whatever kills
    the process, its supervisor can tell what it was running from what it only held. `slots` is how many can be kept; when more
    run, nothing can be told any more.
    """

    def __init__(self, descriptor: int, slots: int) -> None:
        self._page = mmap.mmap(descriptor, TOKEN * (slots + 1))
        self._free = list(range(TOKEN * slots, 0, -TOKEN))
        self._places: dict[UUID, int] = {}

    def add(self, token: UUID) -> None:
        """Note that a handler is about to start."""
        if not self._free:
            self._page[:TOKEN] = TOO_MANY
            return
        place = self._places[token] = self._free.pop()
        self._page[place : place + TOKEN] = token.bytes

    def remove(self, token: UUID) -> None:
        """Note that a handler has ended."""
        place = self._places.pop(token, None)
        if place is not None:
            self._page[place : place + TOKEN] = NOTHING
            self._free.append(place)

    def tokens(self) -> frozenset[UUID] | None:
        """What runs, as the other side of the page sees it; None when more ran than it can tell."""
        page = self._page[:]
        if page[:TOKEN] == TOO_MANY:
            return None
        found = {page[place : place + TOKEN] for place in range(TOKEN, len(page), TOKEN)} - {NOTHING}
        return frozenset(UUID(bytes=token) for token in found)

    def close(self) -> None:
        self._page.close()


def shared_page(slots: int) -> int:
    """The descriptor of a page for that many tokens, without a name in any folder; its owner closes it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("perdure-running")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, TOKEN * (slots + 1))
    return descriptor


class NotedRunner:
    """A runner that notes what it runs."""

    def __init__(self, runner: Runner, running: Running) -> None:
        self._runner = runner
        self._running = running
        self._tell: Done | None = None
        self._noted: Done | None = None

    def start(self, attempt: Attempt, done: Done) -> None:
        self._running.add(attempt.lease.token)
        if self._noted is None or done is not self._tell:
            self._tell, self._noted = done, partial(self._ended, done)
        self._runner.start(attempt, self._noted)

    def _ended(self, done: Done, attempt: Attempt, ending: Ending | None) -> None:
        self._running.remove(attempt.lease.token)
        done(attempt, ending)

    def stop(self, attempt: Attempt) -> bool:
        return self._runner.stop(attempt)

    def timed_out(self, attempt: Attempt) -> Ending:
        return self._runner.timed_out(attempt)

    async def close(self) -> None:
        await self._runner.close()
