"""Tells the log of a worker which attempts failed, and why: whoever watches it need not ask the database."""

from time import monotonic

import structlog

from perdure.domain.durations import brief_duration
from perdure.domain.lease import Lease
from perdure.domain.redaction import without_passwords
from perdure.domain.settlement import Failed
from perdure.runtime.sealing import OpenedLease

ENTRIES_PER_S = 20
"""Where jobs fail by the thousand, the first of each second tell it; the others are counted."""
LINE_MAX = 300
DECIDED = frozenset({"perdure.GiveUp", "perdure.RetryAfter"})
"""What a handler raised on purpose and for no other error: where it did tells nobody anything."""

log = structlog.get_logger("perdure.worker")


class FailureLog:
    """Writes an entry for each failed attempt, up to so many a second; `unlogged` in the next says how many had none.

    Passwords are hidden in what is told. Of kinds that are encrypted it is only the type of the error, since its text may hold what
    their arguments do.
    """

    def __init__(self) -> None:
        self._second = 0
        self._entries = 0
        self._unlogged = 0

    def note(self, lease: Lease, failed: Failed) -> None:
        """Tell of one attempt, or count it."""
        second = int(monotonic())
        if second != self._second:
            self._second, self._entries = second, 0
        if self._entries >= ENTRIES_PER_S:
            self._unlogged += 1
            return
        self._entries += 1
        log.warning(
            "attempt timed out" if failed.timed_out else "attempt failed",
            kind=lease.kind,
            job_id=str(lease.job_id),
            attempt=f"{lease.attempt} of {lease.max_attempts}",
            next=_next(lease, failed),
            **_error(lease, failed),
            **self._left_out(),
        )

    def _left_out(self) -> dict[str, int]:
        unlogged, self._unlogged = self._unlogged, 0
        return {"unlogged": unlogged} if unlogged else {}


def _next(lease: Lease, failed: Failed) -> str:
    if failed.give_up or lease.attempt >= lease.max_attempts:
        return "dead letter queue"
    return f"again in {brief_duration(failed.retry_in)}"


def _error(lease: Lease, failed: Failed) -> dict[str, str]:
    error = failed.error
    if isinstance(lease, OpenedLease):
        return {"error": error.type}
    line = without_passwords(f"{error.type}: {error.message}".splitlines()[0])[:LINE_MAX]
    if not error.traceback or error.type in DECIDED:
        return {"error": line}
    return {"error": line, "exception": without_passwords(error.traceback)}
