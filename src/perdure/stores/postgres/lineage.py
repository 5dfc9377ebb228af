"""The lineage of a database: marks, epochs, and what was forgotten."""

from collections.abc import Sequence
from uuid import UUID

from perdure.domain.errors import NotFound
from perdure.domain.lineage import Memory, Sighting
from perdure.domain.views import EpochView, ForgottenView
from perdure.stores.postgres.connections import Connection, Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements
from perdure.stores.postgres.translation import translated


class PostgresLineage:
    """The port `Lineage` on PostgreSQL, and what people ask of epochs."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("lineage", schema)
        self.memory: Memory | None = None
        """What `require` demands of a new connection."""

    async def look(
        self, memory: Memory | None, *, marking: bool, begin_anew: bool = False, promised: Sequence[UUID] = ()
    ) -> Sighting:
        remembered = None if memory is None else memory.stretch
        (row,) = await self._database.fetch(
            self._sql["look"], marking, begin_anew, remembered, list(promised)
        )
        return Sighting(**{**row, "missing": tuple(row["missing"])})

    async def require(self, connection: Connection) -> None:
        """Refuse a new connection behind which the remembered mark is missing. Raises RollbackDetected."""
        if self.memory is not None:
            values = (self.memory.epoch, self.memory.stretch, self.memory.mark)
            with translated():
                await connection.fetch(self._sql["require"].numbered(), *values)

    async def halt(self, *, seen: int, why: str, opener: str) -> int:
        rows = await self._database.fetch(self._sql["halt"], seen, why, opener)
        return int(rows[0]["epoch"])

    async def tell_forgotten(
        self, epoch: int, *, teller: str, enqueued: Sequence[UUID] = (), succeeded: Sequence[UUID] = ()
    ) -> int:
        values = (epoch, teller, list(enqueued), list(succeeded))
        rows = await self._database.fetch(self._sql["tell_forgotten"], *values)
        return int(rows[0]["told"])

    async def halted(self) -> tuple[int, str | None]:
        """The number of the newest epoch, and why it is halted."""
        (row,) = await self._database.fetch(self._sql["epoch_now"])
        return row["number"], row["halted"]

    async def adopt(self, *, actor: str, reason: str) -> int:
        """Acknowledge what was found, or, where nothing was, a move that is under way: gives the number of the epoch.

        The workers of before are dead by their rows then, and their leases are given back.
        """
        rows = await self._database.fetch(self._sql["adopt"], actor, reason)
        if rows:
            return int(rows[0]["number"])
        now, _ = await self.halted()
        values = (now, reason or "a planned move", actor, actor, reason)
        rows = await self._database.fetch(self._sql["open_epoch"], *values)
        return int(rows[0]["epoch"])

    async def epochs(self) -> Sequence[EpochView]:
        """The epochs that were opened, the newest first."""
        return [EpochView(**row) for row in await self._database.fetch(self._sql["epochs"])]

    async def forgotten(self, epoch: int) -> Sequence[ForgottenView]:
        """The jobs that were forgotten when an epoch opened. Raises NotFound."""
        if epoch not in {one.number for one in await self.epochs()}:
            raise NotFound("epoch", epoch, next_step="see `perdure db epochs`")
        rows = await self._database.fetch(self._sql["forgotten"], epoch)
        return [ForgottenView(**row) for row in rows]
