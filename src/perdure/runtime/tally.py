"""Counts how attempts end in one process, and has failures logged, on their way to be settled."""

import math
from time import monotonic
from uuid import UUID

from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Ending, Failed
from perdure.runtime.failure_log import FailureLog
from perdure.services.completion import Completion

EVERY = 8
SELDOM_S = 0.1
"""Of so many attempts that end within such a time one is timed: the counts are exact, the times a sample, and a small job is not slowed
down. Where fewer end each one is timed, or a slow decay of few jobs would be taken for what is usual before it shows."""

SHORT_S = 0.01
"""What is shorter counts as so long: a starved machine makes of microseconds milliseconds, and nothing is slow for that."""

NEW, SLOW = 0.05, 0.0002
LEARNT = 50


class Tally:
    """A settler that counts what it hands on.

    `slowness` is how long attempts take beside what is usual for their kind in this process: 1 as always, 2 twice as
    long; `queue_wait_ms` how long jobs lay available before they were claimed. Both are moving averages over attempts timed: what is usual is
    the mean of the first fifty, and follows slowly later, so that a slow decay shows.
    """

    def __init__(self, completion: Completion) -> None:
        self._completion = completion
        self._failures = FailureLog()
        self._usual: dict[str, tuple[float, int]] = {}
        self._ended = 0
        self._timed_at = -math.inf
        self._log_slowness = 0.0
        self._lag_ms = 0.0
        self.failed = 0
        self.timed_out = 0
        self.retried = 0
        self.queue_wait_ms = 0.0

    def add(self, lease: Lease, ending: Ending, started: float | None, finished: float) -> None:
        self._completion.add(lease, ending, started, finished)
        self._ended += 1
        if isinstance(ending, Failed):
            self.failed += 1
            self._failures.note(lease, ending)
            self.timed_out += ending.timed_out
            self.retried += lease.attempt < lease.max_attempts and not ending.give_up
        elif (
            started is not None
            and (self._ended % EVERY == 0 or finished - self._timed_at > SELDOM_S)
            and isinstance(ending, Completed)
        ):
            self._timed_at = finished
            self._time(lease, finished - started)

    async def room(self) -> None:
        await self._completion.room()

    async def emptied(self) -> None:
        await self._completion.emptied()

    @property
    def tokens(self) -> set[UUID]:
        return self._completion.tokens

    def heard_late(self, planned: float) -> None:
        """The loop came back later than `planned`, a moment of the monotonic clock."""
        self._lag_ms = max(self._lag_ms, 1000 * (monotonic() - planned))

    def figures(self) -> dict[str, float]:
        """What the supervisor is told; the loop's lag is the longest since it was told last."""
        lag, self._lag_ms = self._lag_ms, 0.0
        return {
            "failed": self.failed,
            "timed_out": self.timed_out,
            "retried": self.retried,
            "slowness": math.exp(self._log_slowness),
            "queue_wait_ms": self.queue_wait_ms,
            "loop_lag_ms": lag,
        }

    def _time(self, lease: Lease, took: float) -> None:
        log = math.log(max(took, SHORT_S))
        usual, timed = self._usual.get(lease.kind, (log, 0))
        self._log_slowness += NEW * (log - usual - self._log_slowness)
        weight = 1 / (timed + 1) if timed < LEARNT else SLOW
        self._usual[lease.kind] = usual + weight * (log - usual), timed + 1
        wait_ms = (lease.claimed_us - lease.available_us) / 1000
        self.queue_wait_ms += NEW * (max(wait_ms, 0.0) - self.queue_wait_ms)
