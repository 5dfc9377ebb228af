"""Upkeep of the tables: day partitions, sweeps of what nobody needs, dead rows."""

from datetime import timedelta

from perdure.ports import PartitionChanges
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)


class PostgresKeeping:
    """The port `Keeping` on PostgreSQL.

    `database` should be a connection that nobody else waits for: a vacuum may take long, and cannot run in a transaction.
    """

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("keeping", schema)
        self._forget = statements("workers", schema)["forget"]
        self._last_key = ""

    async def make_partitions(self, *, ahead_days: int) -> PartitionChanges:
        done: list[str] = []
        postponed: dict[str, str] = {}
        blocked: dict[str, str] = {}
        for missing in await self._database.fetch(self._sql["missing_partitions"], ahead_days):
            parent, name = missing["parent"], missing["name"]
            if parent not in blocked:
                rows = await self._database.fetch(self._sql["make_partition"], parent, missing["day"])
                if rows[0]["obstacle"] is None:
                    done.append(name)
                    continue
                blocked[parent] = rows[0]["obstacle"]
            postponed[name] = blocked[parent]
        return PartitionChanges(done=done, postponed=postponed)

    async def drop_partitions(self, *, older_than: timedelta) -> PartitionChanges:
        done: list[str] = []
        kept: dict[str, str] = {}
        postponed: dict[str, str] = {}
        blocked: set[str] = set()
        for aged in await self._database.fetch(self._sql["aged_partitions"], older_than // MILLISECOND):
            parent, name = aged["parent"], aged["name"]
            if parent in blocked:
                continue
            [row] = await self._database.fetch(
                self._sql["drop_partition"], parent, aged["day"], aged["horizon"]
            )
            if row["verdict"] == "dropped":
                done.append(name)
            elif row["verdict"] == "kept":
                kept[name] = row["why"]
            else:
                postponed[name] = row["why"]
                blocked.add(parent)
        return PartitionChanges(done=done, kept=kept, postponed=postponed)

    async def sweep_edges(self, *, limit: int) -> int:
        return len(await self._database.fetch(self._sql["sweep_edges"], limit))

    async def sweep_unique_keys(self, *, limit: int) -> int:
        expired = await self._database.fetch(self._sql["sweep_expired_keys"], limit)
        looked = await self._database.fetch(self._sql["sweep_stray_keys"], self._last_key, limit)
        self._last_key = looked[-1]["key"] if len(looked) == limit else ""
        return len(expired) + len([row for row in looked if row["swept"]])

    async def sweep_cancel_requests(self, *, limit: int) -> int:
        return len(await self._database.fetch(self._sql["sweep_cancel_requests"], limit))

    async def sweep_progress(self, *, limit: int) -> int:
        return len(await self._database.fetch(self._sql["sweep_progress"], limit))

    async def sweep_shared_memory(self, *, limit: int) -> int:
        return len(await self._database.fetch(self._sql["sweep_shared_memory"], limit))

    async def forget_workers(self, *, older_than: timedelta) -> int:
        return len(await self._database.fetch(self._forget, older_than // MILLISECOND))

    async def vacuum(self) -> list[str]:
        bloated = [row["relname"] for row in await self._database.fetch(self._sql["bloated"])]
        for table in bloated:
            await self._database.fetch(self._sql[f"vacuum_{table}"])
        return bloated
