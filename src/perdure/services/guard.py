"""Notice a database that went back in time, or that is another one, before anything is done to it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import structlog

from perdure.domain.errors import RollbackDetected, Unavailable
from perdure.domain.lineage import Continuity, Memory, Recollection, Sighting, judge
from perdure.ports import Lineage

PROMISED_AT_ONCE = 200
REMEMBERED_MAX = 20_000

log = structlog.get_logger("perdure.guard")


class Guard:
    """The memory of one client, and its looks.

    A client that remembers nothing begins to remember with its first look. A worker passes `marks=True`: its looks make the marks
    that all remember, and without a memory it begins a stretch of its own. A producer marks from its second look on, so that a short
    program writes nothing.
    """

    def __init__(
        self,
        lineage: Lineage,
        *,
        who: str,
        memory: Memory | None = None,
        marks: bool = False,
        keep: Callable[[Memory], None] = lambda memory: None,
    ) -> None:
        self._lineage = lineage
        self._who = who
        self._marks = marks
        self._keep = keep
        self._durable = False
        self._looked = False
        self._told_of: int | None = None
        self._unseen: list[UUID] = []
        self.memory = memory
        self.enqueued = Recollection(REMEMBERED_MAX)
        self.broken: RollbackDetected | None = None

    def require(self) -> None:
        """Raise RollbackDetected when the last look found the database changed."""
        if self.broken is not None:
            raise self.broken

    def note(self, ids: Sequence[UUID]) -> None:
        """Remember jobs whose storing the database has answered."""
        self.enqueued.note(ids)
        self._unseen += ids[-PROMISED_AT_ONCE:]

    async def look(self) -> bool:
        """Compare, and remember what is newer; true when there is a new mark. Raises RollbackDetected until somebody adopts what was found.

        A break that nobody has noticed before halts the system: every older lease is void then.
        """
        promised = self._unseen[-PROMISED_AT_ONCE:]
        noted = len(self._unseen)
        seen = await self._lineage.look(
            self.memory,
            marking=self._marks or self._looked,
            begin_anew=self._marks and self.memory is None,
            promised=promised if self._durable else (),
        )
        judgement = judge(self.memory, seen)
        if judgement.continuity in (Continuity.BROKEN, Continuity.HALTED):
            why, epoch = judgement.why, seen.epoch
            if judgement.continuity is Continuity.BROKEN:
                epoch = await self._lineage.halt(seen=seen.epoch, why=why, opener=self._who)
            self.broken = RollbackDetected(why)
            await self._tell(epoch)
            raise self.broken
        if judgement.continuity is not Continuity.CONTINUES:
            await self._note_change(judgement.continuity, seen)
        del self._unseen[:noted]  # what came while the look was under way is for the next one
        self._durable, self._looked = seen.durable, True
        self.broken = None
        before, self.memory = self.memory, seen.remembered(datetime.now(UTC))
        if self.memory is None:
            return False
        self._keep(self.memory)
        return before is None or before.place != self.memory.place

    async def _note_change(self, continuity: Continuity, seen: Sighting) -> None:
        before = self.memory
        match continuity:
            case Continuity.FAILED_OVER:
                log.warning("another server answers, and it has everything", timeline=seen.timeline)
            case Continuity.ADOPTED:
                log.warning("a new epoch was adopted", epoch=seen.epoch)
                await self._tell(seen.epoch)
                self.enqueued.clear()
            case _:
                installation = None if before is None else str(before.installation)
                log.error("another installation answers at this address", expected=installation)
                self.enqueued.clear()

    async def _tell(self, epoch: int) -> None:
        """Tell once of each epoch which jobs are remembered that it lacks."""
        if self._told_of == epoch or self.memory is None:
            return
        ids = self.enqueued.all()
        with suppress(Unavailable):
            told = await self._lineage.tell_forgotten(self.memory.epoch, teller=self._who, enqueued=ids)
            self._told_of = epoch
            if told:
                log.error("the database forgot jobs whose storing it had answered", jobs=told, epoch=epoch)
