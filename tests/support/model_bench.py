"""The model behind the same words as the store of a real database, so that one suite can hold both."""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from uuid import UUID

from perdure.domain.job import NewJob
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Ending, settle
from perdure.domain.worker import NewWorker, WorkerId, WorkerState
from perdure.ports import Dispatch, Place, Settled
from perdure.stores.postgres.dispatch import PostgresDispatch, doorbell
from perdure.stores.postgres.leadership import PostgresLeadership
from tests.support.database import SCOPE, WORKERS, Slot, claimer
from tests.support.model_ports import DirectLine, ModelDatabase, ModelJobs, ModelLeases, ModelWorkers
from tests.support.model_store import ModelStore

RANDOM = Random(0)


class Bells:
    """Carries rings at once to all who listen, as NOTIFY does."""

    def __init__(self) -> None:
        self._heard: dict[str, list[Callable[..., Any]]] = {}

    async def add_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        self._heard.setdefault(channel, []).append(callback)

    def ring(self, channel: str, payload: str) -> None:
        for callback in self._heard.get(channel, ()):
            callback(None, 0, channel, payload)


class ModelBench:
    """Jobs and claims on the model, in real time."""

    schema = "perdure"

    def __init__(self) -> None:
        self.model = ModelStore(lambda: time.time_ns() // 1000, lambda: UUID(int=RANDOM.getrandbits(128)))
        line = DirectLine()
        self.bells = Bells()
        self.database = ModelDatabase(self.model, line, self.bells.ring)
        self.jobs = ModelJobs(self.model, line)
        self.leases = ModelLeases(self.model, line)
        self.workers = ModelWorkers(self.model, line)
        for worker_id in WORKERS:
            self.model.register(NewWorker(id=worker_id, name="w", host="here", pid=1))

    async def listening(self) -> PostgresDispatch:
        """A dispatch that hears the doorbell, as another process would have it."""
        dispatch = PostgresDispatch(self.database)
        await dispatch.opened(self.bells)  # type: ignore[arg-type]
        assert doorbell(self.schema) in self.bells._heard
        return dispatch

    def leadership(self, holder: UUID, ttl: Any) -> PostgresLeadership:
        return PostgresLeadership(self.database, holder=holder, ttl=ttl)

    async def add(self, *jobs: NewJob) -> list[Place]:
        _, places = await self.jobs.enqueue_placed(jobs)
        return list(places)

    async def end(self, leases: Sequence[Lease], ending: Ending | None = None) -> Settled:
        return await self.jobs.settle([settle(lease, ending or Completed()) for lease in leases])

    async def drain(self) -> list[UUID]:
        dispatch: Dispatch = PostgresDispatch(self.database)
        done: list[UUID] = []
        while leases := await dispatch.claim(claimer(), SCOPE, limit=500):
            done += [lease.job_id for lease in leases]
            await self.end(leases)
        return done

    async def state(self, job_id: UUID) -> str | None:
        return {known: job.state.value for known, job in self.model.jobs.items()}.get(job_id)

    async def rerank(self, job_id: UUID, rank: int) -> None:
        next(job for known, job in self.model.jobs.items() if known == job_id).rank = rank

    async def pause(self, queue: str) -> None:
        self.model.paused.add(queue)

    async def resume(self, queue: str) -> None:
        self.model.paused.discard(queue)

    async def set_worker(self, worker_id: WorkerId, state: str) -> None:
        self.model.workers[worker_id].state = WorkerState(state)

    async def failures(self, job_id: UUID) -> int:
        return next(job for known, job in self.model.jobs.items() if known == job_id).failures

    async def slots(self) -> list[Slot]:
        found = [
            Slot(
                one.concurrency_key,
                one.slot or 0,
                one.claim_xid or 0,
                one.settle_xid or 0,
                job.new.concurrency_limit,
                one.job_id,
            )
            for one in self.model.ended
            for known, job in self.model.jobs.items()
            if known == one.job_id and one.concurrency_key is not None
        ]
        return sorted(found, key=lambda slot: (slot.key, slot.number, slot.claimed))
