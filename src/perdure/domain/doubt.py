"""When to look again for what an unanswered call may have committed after all."""

from itertools import accumulate

LATE_CLAIMS_S = (0.2, 1.0, 5.0, 60.0)
"""The pauses between the looks for a claim that was under way when its answer was lost; it may be committed after a look."""


class Doubt:
    """Tells the moments of the looks: one at once, and then one after each of `LATE_CLAIMS_S`."""

    __slots__ = ("_looks",)

    def __init__(self) -> None:
        self._looks: list[float] = []

    def begin(self, now: float) -> None:
        """An answer was lost: the looks begin, anew if they were under way."""
        self._looks = [now, *(now + after for after in accumulate(LATE_CLAIMS_S))]

    def wants_look(self, now: float) -> bool:
        """Whether it is time to look."""
        return bool(self._looks) and self._looks[0] <= now

    def looked(self, since: float) -> None:
        """A look that began at `since` has been answered; it stands for all that were due by then."""
        self._looks = [at for at in self._looks if at > since]
