"""The rows of the workers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from perdure.domain.errors import Locked, NotFound
from perdure.domain.liveness import Heartbeat
from perdure.domain.worker import Beat, NewWorker, Worker, WorkerId, WorkerState
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rows import worker_of
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)


class PostgresWorkers:
    """The port `Workers` on PostgreSQL."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("workers", schema)

    async def register(self, worker: NewWorker) -> None:
        await self._database.fetch(
            self._sql["register"],
            worker.id,
            worker.name,
            worker.host,
            worker.pid,
            worker.type,
            list(worker.queues),
            list(worker.kinds),
            list(worker.labels),
            worker.capacity,
            worker.processes,
            worker.version,
        )

    async def make_known(self, queues: Sequence[str]) -> bool:
        """Have the queues listed before their first job; not while a transaction that stands open enqueues the first job of one."""
        try:
            await self._database.fetch_all(
                (self._sql["impatience"], ()), (self._sql["make_known"], (list(queues),))
            )
        except Locked:
            return False
        return True

    async def beat(
        self, worker_id: WorkerId, *, kinds: Sequence[str], processes: int, deaf: int = 0
    ) -> Beat | None:
        rows, requests = await self._database.fetch_all(
            (self._sql["beat"], (worker_id, list(kinds), processes, deaf)),
            (self._sql["cancel_requests"], (worker_id,)),
        )
        if not rows:
            return None
        return Beat(
            state=WorkerState(rows[0]["state"]),
            gap=rows[0]["gap"],
            cancel=tuple((request["job_id"], request["token"]) for request in requests),
            cordoned=rows[0]["cordoned"],
            grace=rows[0]["grace"],
            share=rows[0]["share"],
        )

    async def alive(self, worker_id: WorkerId) -> bool:
        """Whether the worker's row says that it lives."""
        rows = await self._database.fetch(self._sql["alive"], worker_id)
        return bool(rows[0]["alive"])

    async def heartbeats(self) -> Sequence[Heartbeat]:
        return [
            Heartbeat(
                worker_id=WorkerId(row["id"]),
                at=row["heartbeat_at"],
                silent_for=row["silent_for"],
                host=row["host"],
            )
            for row in await self._database.fetch(self._sql["heartbeats"])
        ]

    async def suspect(self, silent: Mapping[WorkerId, datetime]) -> Sequence[WorkerId]:
        rows = await self._database.fetch(self._sql["suspect"], list(silent), list(silent.values()))
        return [WorkerId(row["id"]) for row in rows]

    async def alarm(self, event: str, reason: str, *, severity: int) -> None:
        await self._database.fetch(self._sql["alarm"], event, reason, f'{{"severity": {severity}}}')

    async def declare_dead(
        self, silent: Mapping[WorkerId, datetime], *, observer: WorkerId, fresh_within: timedelta
    ) -> Sequence[WorkerId]:
        rows = await self._database.fetch(
            self._sql["declare_dead"],
            list(silent),
            list(silent.values()),
            observer,
            fresh_within // MILLISECOND,
        )
        return [WorkerId(row["id"]) for row in rows]

    async def drain(self, worker_id: WorkerId) -> None:
        """Ask a worker to finish what it runs; raises NotFound when no such worker is active."""
        if not await self._database.fetch(self._sql["drain"], worker_id):
            raise NotFound("active worker", worker_id, next_step="see `perdure worker list`")

    async def stop(self, worker_id: WorkerId, *, cause: str) -> None:
        await self._database.fetch(self._sql["stop"], worker_id, cause)

    async def list(self, *, alive_only: bool = False) -> Sequence[Worker]:
        """The workers, the newest first."""
        return [worker_of(row) for row in await self._database.fetch(self._sql["list"], alive_only)]

    async def get(self, worker_id: WorkerId) -> Worker:
        """One worker; raises NotFound."""
        rows = await self._database.fetch(self._sql["get"], worker_id)
        if not rows:
            raise NotFound("worker", worker_id, next_step="see `perdure worker list`")
        return worker_of(rows[0])

    async def forget(self, older_than: timedelta) -> int:
        """Drop the rows of workers that ended longer ago than that."""
        return len(await self._database.fetch(self._sql["forget"], older_than // MILLISECOND))
