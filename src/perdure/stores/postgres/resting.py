"""Looks that walk over every dead row while none can be removed: how seldom they are taken then."""

SHARE = 100
"""A look rests so many times as long as each of its last two took: it takes a hundredth of the time at most."""
QUICK_S = 0.05
"""What takes no longer than this need not rest: dead rows by the hundred thousand are not what makes it slow."""


class Rest:
    """When a look is due again; times are in seconds of one clock."""

    def __init__(self) -> None:
        self._took_s = self._due_at = 0.0

    def over(self, now: float) -> bool:
        """Whether the look is due."""
        return now >= self._due_at

    def looked(self, began: float, ended: float) -> None:
        """Be told of a look. The shorter of two counts: one that a busy machine held up says nothing of dead rows."""
        before, self._took_s = self._took_s, ended - began
        took_s = min(before, self._took_s)
        self._due_at = ended + SHARE * took_s if took_s > QUICK_S else ended
