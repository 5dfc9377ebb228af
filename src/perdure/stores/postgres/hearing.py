"""Whether the doorbell is heard: work that is found by polling alone raises a doubt, a ring of one's own settles it."""

from time import monotonic

PROBE = "probe"
"""What is rung to hear oneself; others that hear it learn only that they hear."""

FINDS_IN_DOUBT = 5
HEARD_WITHIN_S = 2.0
BETWEEN_PROBES_S = 60.0


class Hearing:
    """What one process knows about its ears.

    Jobs that were enqueued in somebody's own transaction ring no bell, so finding some by polling proves nothing:
    only a probe that is not heard does. A connection through a pooler in transaction mode never hears any.
    """

    def __init__(self) -> None:
        self._woken = True
        self._finds = 0
        self._probed_at: float | None = None
        self._next_probe_at = 0.0

    @property
    def deaf(self) -> bool:
        """Whether a ring of one's own has not come back."""
        return self._probed_at is not None and monotonic() - self._probed_at > HEARD_WITHIN_S

    def begin(self) -> None:
        """Forget what was asked on a connection that is gone."""
        self._probed_at, self._finds = None, 0

    def heard(self) -> None:
        """A notification came."""
        self._probed_at, self._finds = None, 0

    def waited(self, *, rang: bool) -> None:
        """A wait ended, by a ring or by its time."""
        self._woken = rang

    def found(self) -> None:
        """Work was found; the first find after a wait that nothing ended is one by polling alone."""
        self._finds += not self._woken
        self._woken = True

    def probe_due(self) -> bool:
        """Whether to ring now; true once for each probe."""
        now = monotonic()
        if self._finds < FINDS_IN_DOUBT or now < self._next_probe_at:
            return False
        self._next_probe_at = now + BETWEEN_PROBES_S
        self._finds = 0
        if self._probed_at is None:
            self._probed_at = now
        return True
