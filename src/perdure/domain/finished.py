"""Attempts that have ended and wait to be settled, and those of them whose turn comes again later."""

from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Ending

BATCH = 500
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 30.0
LONGEST_PAUSE_AT_THE_END_S = 1.0


class Finished(msgspec.Struct, frozen=True):
    """An attempt that has ended and waits to be settled; `started` and `finished` are of the monotonic clock."""

    lease: Lease
    ending: Ending
    started: float | None
    finished: float


def take(waiting: deque[Finished], most: int) -> list[Finished]:
    """Take the first results that wait, up to `most`: successes or other endings, whichever the first one is, as the port has it."""
    first = [waiting.popleft() for _ in range(min(most, len(waiting)))]
    succeeded = isinstance(first[0].ending, Completed)
    others = [one for one in first if isinstance(one.ending, Completed) is not succeeded]
    if not others:
        return first
    waiting.extendleft(reversed(others))
    return [one for one in first if isinstance(one.ending, Completed) is succeeded]


class Aside:
    """Results that could not be stored though the database is there: they hold up no others, or half of the time at most.

    What waits for a transaction that somebody holds open can be stored once that has ended: it is tried for as long as
    its process may; times are of the monotonic clock. Pauses grow while nothing comes of it, and rounds shrink to what was not told apart yet.
    """

    def __init__(self) -> None:
        self._results: deque[Finished] = deque()
        self._until = 0.0
        self._pause_s = 0.0
        self._most = BATCH
        self._longest_s = LONGEST_PAUSE_S

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Finished]:
        return iter(self._results)

    @property
    def waits(self) -> bool:
        """Whether it has begun to wait, for results that are here or for those whose turn is now."""
        return self._pause_s > 0

    def due_in_s(self, now: float) -> float | None:
        """How long until it is the turn of what is here, 0 when it is now; None while nothing is."""
        return max(0.0, self._until - now) if self._results else None

    def hurry(self) -> None:
        """Make it the turn of what is here, and often from then on: its process is about to end."""
        self._until = 0.0
        self._longest_s = LONGEST_PAUSE_AT_THE_END_S

    def take(self) -> list[Finished]:
        """What is to be tried now."""
        return take(self._results, self._most)

    def learn(self, tried: int, *, lock_waits: int) -> None:
        """Have the next round take no more than this one, of `tried` results, has not told apart: each wait halves that."""
        self._most = max(1, tried >> lock_waits) if lock_waits else min(BATCH, self._most * 2)

    def put(self, left: Sequence[Finished], now: float, *, took: float, all_told_apart: bool) -> None:
        """Have what is left of a round wait from `now` on, twice as long as before, and as long as the round took.

        Where not all were told apart, some may be free to be stored: then their turn comes soon again.
        """
        if not left:
            self._pause_s = self._pause_s if self._results else 0.0
            return
        if now >= self._until:  # what comes now does not keep what waits from its turn
            longer = 2 if all_told_apart else 1
            self._pause_s = min(self._longest_s, max(self._pause_s * longer, took, SHORTEST_PAUSE_S))
            self._until = now + self._pause_s
        self._results += left
