"""Cordons and evacuations in PostgreSQL."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from perdure.domain.errors import Conflict, NotFound
from perdure.domain.evacuation import Holding
from perdure.domain.worker import WorkerId
from perdure.ports import By, LeaseOf
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.control import control_channel
from perdure.stores.postgres.leases import held
from perdure.stores.postgres.rows import Row
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)


class PostgresEvacuations:
    """What the service of evacuation needs of PostgreSQL; workers hear on the channel `<schema>_control`."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("evacuation", schema)
        self._channel = control_channel(schema)

    async def cordon(self, worker_id: UUID, by: By) -> bool:
        return await self._switched("cordon", worker_id, by, wanted=True)

    async def uncordon(self, worker_id: UUID, by: By) -> bool:
        return await self._switched("uncordon", worker_id, by, wanted=False)

    async def evacuate(self, worker_id: UUID, *, grace: timedelta, most: int, by: By) -> bool:
        changed = await self._database.fetch(
            self._sql["evacuate"],
            worker_id,
            grace // MILLISECOND,
            most,
            by.actor,
            by.reason,
            self._channel,
        )
        if changed or (await self._standing(worker_id))["evacuated"]:
            return bool(changed)
        raise Conflict(
            f"{most} workers are being evacuated already",
            next_step="wait until they are done, or allow more at once",
        )

    async def asked_within(self, pause: timedelta, actor: str) -> bool:
        rows = await self._database.fetch(self._sql["asked_within"], pause // MILLISECOND, actor)
        return bool(rows[0]["asked"])

    async def holdings(self, worker_id: UUID) -> Sequence[Holding]:
        return [
            Holding(queue=row["queue"], kind=row["kind"], labels=tuple(row["labels"]), jobs=row["jobs"])
            for row in await self._database.fetch(self._sql["holdings"], worker_id)
        ]

    async def overstayed(self, *, slack: timedelta, limit: int) -> Sequence[LeaseOf]:
        rows = await self._database.fetch(self._sql["overstayed"], slack // MILLISECOND, limit)
        return [held(row) for row in rows]

    async def finish(self) -> Sequence[WorkerId]:
        return [WorkerId(row["id"]) for row in await self._database.fetch(self._sql["finish"])]

    async def _switched(self, verb: str, worker_id: UUID, by: By, *, wanted: bool) -> bool:
        if await self._database.fetch(self._sql[verb], worker_id, by.actor, by.reason, self._channel):
            return True
        standing = await self._standing(worker_id)
        if standing["cordoned"] is not wanted or standing["state"] != "active":
            raise Conflict(
                f"worker {worker_id} is {standing['state']} and cannot be {verb}ed",
                next_step="it ends by itself; start another worker for new work",
            )
        return False

    async def _standing(self, worker_id: UUID) -> Row:
        rows = await self._database.fetch(self._sql["standing"], worker_id)
        if not rows or rows[0]["state"] not in {"active", "draining"}:
            raise NotFound("living worker", worker_id, next_step="see `perdure worker list`")
        return rows[0]
