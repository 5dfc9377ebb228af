"""Whether a database still is the one that was seen, and has all that it had: what is remembered, and how it is judged.

A client remembers the newest mark that it saw, and how far the log was flushed then. Neither can be lost by a crash: a mark is
seen by others only once it is on the disk. What was merely written, such as an asynchronous claim, is never remembered.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

MEMORY_LASTS = timedelta(days=30)
"""Older memories are dropped: the stretches that they name are kept a little longer than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a client remembers of its database; `flushed` is a position in the log of `system` and `timeline`, in bytes."""

    installation: UUID
    epoch: int
    system: int
    timeline: int
    flushed: int
    stretch: UUID
    mark: int
    at: datetime

    @property
    def place(self) -> tuple[int, UUID, int]:
        """The mark, as it is told to others."""
        return self.epoch, self.stretch, self.mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the database says of itself at one look.

    `reached` is how far the remembered stretch came here, None when it is unknown; `missing` are the promised jobs that are
    not there; `durable` tells that what was answered to this client had been flushed; `halted` is why nothing may run.
    """

    installation: UUID
    epoch: int
    system: int
    timeline: int
    flushed: int
    stretch: UUID | None
    mark: int | None
    reached: int | None
    durable: bool = True
    missing: tuple[UUID, ...] = ()
    halted: str | None = None

    def remembered(self, at: datetime) -> Memory | None:
        """What is to be remembered of this look; nothing while no mark has ever been made."""
        if self.stretch is None or self.mark is None:
            return None
        return Memory(
            installation=self.installation,
            epoch=self.epoch,
            system=self.system,
            timeline=self.timeline,
            flushed=self.flushed,
            stretch=self.stretch,
            mark=self.mark,
            at=at,
        )


class Continuity(StrEnum):
    """How what is seen follows on what is remembered."""

    CONTINUES = "continues"
    FAILED_OVER = "failed_over"
    """Another server of the same cluster answers, and it has everything."""
    ADOPTED = "adopted"
    """Somebody has acknowledged a break since."""
    FOREIGN = "foreign"
    """Another installation answers, which never had anything to do with the one remembered."""
    HALTED = "halted"
    """A break is known, and nobody has acknowledged it."""
    BROKEN = "broken"
    """The database went back in time, or was moved."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The continuity, and for a break why."""

    continuity: Continuity
    why: str = ""


def judge(memory: Memory | None, seen: Sighting) -> Judgement:
    """Compare a look with what is remembered.

    Marks prove the past across servers; the position of the log proves it on one server to the byte; promised jobs prove
    it for a producer to the single job.
    """
    if memory is not None and memory.installation != seen.installation:
        return Judgement(Continuity.FOREIGN)
    if memory is not None and seen.epoch < memory.epoch:
        return _rolled_back(f"it is in epoch {seen.epoch}, and epoch {memory.epoch} was seen")
    if seen.halted is not None:
        return Judgement(Continuity.HALTED, seen.halted)
    if memory is None:
        return Judgement(Continuity.CONTINUES)
    if seen.epoch > memory.epoch:
        return Judgement(Continuity.ADOPTED)
    return _compared(memory, seen)


def _compared(memory: Memory, seen: Sighting) -> Judgement:
    if seen.reached is None or seen.reached < memory.mark:
        lacks = "all of its stretch" if seen.reached is None else f"the last {memory.mark - seen.reached}"
        return _rolled_back(
            f"mark {memory.mark} was seen at {memory.at:%Y-%m-%d %H:%M:%S %Z}, and {lacks} is missing"
        )
    if seen.missing:
        return _rolled_back(f"{len(seen.missing)} jobs are missing whose storing it had answered")
    if seen.system != memory.system:
        why = f"it is another cluster (system identifier {seen.system}) than the one used before ({memory.system})"
        return Judgement(Continuity.BROKEN, f"the database was moved or copied: {why}")
    if seen.timeline < memory.timeline:
        return _rolled_back(f"it is on timeline {seen.timeline}, and {memory.timeline} was seen")
    if seen.timeline > memory.timeline:
        return Judgement(Continuity.FAILED_OVER)
    if seen.flushed < memory.flushed:
        return _rolled_back(
            f"its log ends {memory.flushed - seen.flushed} bytes before what was seen flushed"
        )
    return Judgement(Continuity.CONTINUES)


def _rolled_back(why: str) -> Judgement:
    return Judgement(Continuity.BROKEN, f"rollback detected: the database went back in time: {why}")


class Recollection:
    """The newest ids of something, at most `most`; older ones are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._groups: deque[Sequence[UUID]] = deque()
        self._count = 0

    def note(self, ids: Sequence[UUID]) -> None:
        """Remember ids that came together, and change no more; a group is forgotten as a whole."""
        self._groups.append(ids)
        self._count += len(ids)
        while self._count > self._most and len(self._groups) > 1:
            self._count -= len(self._groups.popleft())

    def all(self) -> list[UUID]:
        """What is remembered, the oldest first."""
        return [one for group in self._groups for one in group]

    def newest(self, most: int) -> list[UUID]:
        """The last so many."""
        found: list[UUID] = []
        for group in reversed(self._groups):
            found[:0] = group[max(0, len(group) - (most - len(found))) :]
            if len(found) >= most:
                break
        return found

    def clear(self) -> None:
        self._groups.clear()
        self._count = 0
