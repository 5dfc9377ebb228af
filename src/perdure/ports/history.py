"""The seam to the history, read whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from perdure.domain.job import JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of violation of one promise: how often it was found, with up to ten examples in words."""

    promise: str
    clause: str
    violations: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a look at the whole history found, all of one moment.

    `looked` is how many rows each promise was judged by, `live` how many jobs have not ended, by state.
    """

    taken_at: datetime
    looked: Mapping[str, int]
    found: Sequence[Finding]
    live: Mapping[JobState, int]


class History(Protocol):
    """The history and the present, read whole to see whether the promises hold."""

    async def findings(self, *, crash_limit: int, interruption_limit: int, drained: bool = False) -> Findings:
        """Look for every known violation, on one consistent snapshot; the limits are for jobs without their own.

        With `drained`, whatever is live and not held back is a violation too (L1).
        """
        ...

    async def live(self) -> Mapping[JobState, int]:
        """How many jobs have not ended, by state."""
        ...
