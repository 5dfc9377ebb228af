"""The ports on the model: each call goes over a link, which in a simulation is slow, breaks, and loses answers.

Dispatch and leadership keep a state of their own between calls, so their adapters are the ones of production, on the statements
of the model; the other adapters keep none, and the model stands in for them whole.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from perdure.domain.bulk import Bulk
from perdure.domain.errors import NotFound
from perdure.domain.job import Enqueued, NewJob
from perdure.domain.lease import Lease
from perdure.domain.lineage import Memory, Sighting
from perdure.domain.liveness import Heartbeat, Step
from perdure.domain.settlement import Settlement
from perdure.domain.views import Acted, ActOutcome
from perdure.domain.worker import Beat, NewWorker, WorkerId
from perdure.ports import By, Claimer, LeaseOf, Place, Settled
from perdure.stores.postgres.dispatch import TOKEN_BYTES
from perdure.stores.postgres.statements import Statement
from tests.support.model_job import Job
from tests.support.model_store import LeaseRow, ModelStore

T = TypeVar("T")
COLUMNS = (*Lease.__struct_fields__[: Lease.__struct_fields__.index("queue")], "band", "rank")
PLACES = {name: at for at, name in enumerate(COLUMNS)}


class Line(Protocol):
    """The way to the database."""

    async def call(self, transaction: Callable[[], T]) -> T:
        """Have the transaction run there and give its answer. Raises DatabaseUnavailable."""
        ...


class DirectLine:
    """A way that takes no time and never fails."""

    async def call(self, transaction: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        return transaction()


class ModelJobs:
    """The port `Jobs`."""

    def __init__(self, store: ModelStore, line: Line) -> None:
        self._store = store
        self._line = line

    async def enqueue(self, jobs: Sequence[NewJob], *, on_duplicate: str = "raise") -> Sequence[Enqueued]:
        return (await self.enqueue_placed(jobs, on_duplicate=on_duplicate))[0]

    async def enqueue_placed(
        self, jobs: Sequence[NewJob], *, on_duplicate: str = "raise"
    ) -> tuple[Sequence[Enqueued], Sequence[Place]]:
        return await self._line.call(lambda: self._store.add(jobs, on_duplicate))

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        return await self._line.call(lambda: self._store.end(settlements))

    async def settle_unlocked(self, settlements: Sequence[Settlement]) -> Settled:
        """No two transactions of the model overlap, so nothing is locked."""
        return await self.settle(settlements)

    async def refuse(self, settlements: Sequence[Settlement], worker_id: UUID) -> frozenset[UUID]:
        return await self._line.call(lambda: self._store.refuse(settlements))

    async def stage(self, *, limit: int) -> Sequence[Place]:
        return await self._line.call(lambda: self._store.make_due(limit))

    async def resolve(self, *, limit: int) -> Sequence[Place]:
        """Nothing is ever left to resolve, for no two transactions of the model overlap."""
        return []

    async def unpark(self) -> Sequence[Place]:
        return await self._line.call(self._store.unpark_all)


class ModelPlainJobs:
    """The port `PlainJobs`: quick where the lane is known and the job is not there yet; it rings nobody by itself."""

    rings = False

    def __init__(self, store: ModelStore, line: Line) -> None:
        self._store = store
        self._line = line

    async def lone(self, job: NewJob, *, ring: Sequence[Place] | None = None) -> Place | None:
        assert ring is None
        return (await self.few([job])).get(job.id)

    async def few(self, jobs: Sequence[NewJob]) -> Mapping[UUID, Place]:
        def store() -> dict[UUID, Place]:
            quick = [new for new in jobs if self._quick(new)]
            self._store.add(quick, "return")
            return {new.id: self._store.place(self._store.jobs[new.id]) for new in quick}

        return await self._line.call(store)

    async def many(self, bulks: Sequence[Bulk]) -> Sequence[Place] | None:
        jobs = [
            NewJob(id=job_id, shape=bulk.shape, args=args)
            for bulk in bulks
            for job_id, args in zip(bulk.ids, bulk.args, strict=True)
        ]
        return await self._line.call(
            lambda: self._store.add(jobs, "return")[1] if all(map(self._quick, jobs)) else None
        )

    def _quick(self, new: NewJob) -> bool:
        return (
            new.id not in self._store.jobs
            and (new.shape.queue, new.shape.kind, new.shape.labels) in self._store.lanes
        )


class ModelLeases:
    """The port `Leases`, and what a handler's line asks."""

    def __init__(self, store: ModelStore, line: Line) -> None:
        self._store = store
        self._line = line

    async def of_process(self, worker_id: WorkerId, process: int, *, limit: int) -> Sequence[LeaseOf]:
        def mine(row: LeaseRow) -> bool:
            return (row.claimer.worker_id, row.claimer.process) == (worker_id, process)

        return await self._line.call(lambda: self._store.leases_where(mine, limit))

    async def of_dead(self, *, limit: int) -> Sequence[LeaseOf]:
        return await self._line.call(lambda: self._store.leases_where(self._store.lost, limit))

    async def overdue(
        self, *, observer: WorkerId, fresh_within: timedelta, steps: Sequence[Step], limit: int
    ) -> Sequence[LeaseOf]:
        return await self._line.call(lambda: self._store.overdue(observer, fresh_within, steps, limit))

    async def aged(self, *, limit: int) -> Sequence[LeaseOf]:
        """What nobody may ask for: leases by their age alone. A planted bug does."""

        def old(row: LeaseRow) -> bool:
            return self._store.now - row.lease.claimed_us > 15_000_000

        return await self._line.call(lambda: self._store.leases_where(old, limit))

    async def holds(self, lease: Lease) -> bool:
        """Whether the lease still stands."""
        held = self._store.leases
        return await self._line.call(
            lambda: lease.job_id in held and held[lease.job_id].lease.token == lease.token
        )

    async def report_progress(self, lease: Lease, fraction: float, note: str) -> None:
        """Nobody looks at it here."""


class ModelWorkers:
    """The port `Workers`."""

    def __init__(self, store: ModelStore, line: Line) -> None:
        self._store = store
        self._line = line

    async def register(self, worker: NewWorker) -> None:
        await self._line.call(lambda: self._store.register(worker))

    async def beat(
        self, worker_id: WorkerId, *, kinds: Sequence[str], processes: int, deaf: int = 0
    ) -> Beat | None:
        return await self._line.call(lambda: self._store.beat(worker_id))

    async def alive(self, worker_id: WorkerId) -> bool:
        """Whether the worker's row says that it lives."""
        return await self._line.call(lambda: self._store.alive(worker_id))

    async def heartbeats(self) -> Sequence[Heartbeat]:
        return await self._line.call(self._store.heartbeats)

    async def suspect(self, silent: Mapping[WorkerId, datetime]) -> Sequence[WorkerId]:
        """The model has no suspects: a silent worker claims nothing there anyway."""
        return ()

    async def alarm(self, event: str, reason: str, *, severity: int) -> None:
        return None

    async def declare_dead(
        self, silent: Mapping[WorkerId, datetime], *, observer: WorkerId, fresh_within: timedelta
    ) -> Sequence[WorkerId]:
        return await self._line.call(lambda: self._store.declare_dead(silent, observer, fresh_within))

    async def stop(self, worker_id: WorkerId, *, cause: str) -> None:
        await self._line.call(lambda: self._store.stop(worker_id))


class SameLineage:
    """The port `Lineage` of a database that is always the same; no message is sent for it."""

    memory: Memory | None = None

    async def look(
        self, memory: Memory | None, *, marking: bool, begin_anew: bool = False, promised: Sequence[UUID] = ()
    ) -> Sighting:
        here = UUID(int=1)
        return Sighting(
            installation=here, epoch=1, system=1, timeline=1, flushed=0, stretch=here, mark=0, reached=0
        )

    async def halt(self, *, seen: int, why: str, opener: str) -> int:
        raise AssertionError(f"the same database was taken for another: {why}")

    async def tell_forgotten(
        self, epoch: int, *, teller: str, enqueued: Sequence[UUID] = (), succeeded: Sequence[UUID] = ()
    ) -> int:
        return 0


class ModelControl:
    """As much of the port `Control` as operators and the leader use here."""

    def __init__(self, store: ModelStore, line: Line) -> None:
        self._store = store
        self._line = line

    async def cancel(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        return [await self._act(job_id, self._store.ask_to_cancel) for job_id in job_ids]

    async def retry(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        return [await self._act(job_id, self._store.reopen) for job_id in job_ids]

    async def carry_on_cancel_requests(self, *, limit: int) -> int:
        return await self._line.call(lambda: self._store.carry_on(limit))

    async def pause(self, queue: str, by: By) -> bool:
        return await self._switch(queue, self._store.paused.add, to=True)

    async def resume(self, queue: str, by: By) -> bool:
        return await self._switch(queue, self._store.paused.discard, to=False)

    async def _act(self, job_id: UUID, how: Callable[[UUID], str]) -> Acted:
        outcome = await self._line.call(lambda: how(job_id))
        return Acted(job_id=job_id, outcome=ActOutcome(outcome))

    async def _switch(self, queue: str, change: Callable[[str], None], *, to: bool) -> bool:
        def switch() -> bool:
            if not any(queue == known for known, _, _ in self._store.lanes):
                raise NotFound("queue", queue, next_step="see `perdure queue list`")
            changed = (queue in self._store.paused) != to
            change(queue)
            return changed

        return await self._line.call(switch)


class Row(tuple[Any, ...]):
    """A row of a claim, read by place or by the name of its column, as the driver's."""

    __slots__ = ()

    def __getitem__(self, at: Any) -> Any:
        return tuple.__getitem__(self, PLACES[at] if isinstance(at, str) else at)


def row_of(lease: Lease, job: Job, band: int) -> Row:
    return Row((*(getattr(lease, name) for name in COLUMNS[:-2]), band, job.rank))


class ModelDatabase:
    """The protocol `Database` for the statements of dispatch and of leadership, by their names and parameters."""

    def __init__(self, store: ModelStore, line: Line, ring: Callable[[str, str], None]) -> None:
        self._store = store
        self._line = line
        self._rung = ring

    async def fetch(self, statement: Statement, *values: object) -> list[Any]:
        (rows,) = await self.fetch_all((statement, values))
        return rows

    async def fetch_all(self, *calls: tuple[Statement, tuple[object, ...]]) -> list[list[Any]]:
        def transaction() -> list[list[Any]]:
            self._store.tick()
            return [
                getattr(self, f"_{statement.name}")(**dict(zip(statement.parameters, values, strict=True)))
                for statement, values in calls
            ]

        return await self._line.call(transaction)

    def _lanes(self, queues: list[str], kinds: list[str], labels: list[str]) -> list[Mapping[str, Any]]:
        return [
            {"lane": lane, "queue": queue, "kind": kind}
            for (queue, kind, wanted), lane in self._store.lanes.items()
            if queue in queues
            and kind in kinds
            and set(wanted) <= set(labels)
            and queue not in self._store.paused
        ]

    def _claim(
        self,
        lanes: list[int],
        bands: list[int],
        floors: list[int],
        *,
        below: int,
        few: int,
        most: int,
        tokens: bytes,
        **terms: Any,
    ) -> list[Row]:
        # The model makes its own tokens, the same in each run; those of the call are as many as it may need.
        assert len(tokens) == TOKEN_BYTES * most
        assert 1 <= few <= most
        streams = dict(zip(zip(lanes, bands, strict=True), floors, strict=True))
        ready = self._store.ready(streams, most) if self._store.may_claim(terms["worker_id"]) else []
        return self._taken([job for job in ready if job.rank < below], **terms)

    def _occupied(self, lanes: list[int], bands: list[int], floors: list[int]) -> list[Mapping[str, Any]]:
        streams = dict(zip(zip(lanes, bands, strict=True), floors, strict=True))
        places = [self._store.place(job) for job in self._store.ready(streams, 10**9)]
        heads = {(place.lane, place.band): place.rank for place in reversed(places)}
        return [{"lane": lane, "band": band, "rank": rank} for (lane, band), rank in heads.items()]

    def _claim_places(
        self,
        lanes: list[int],
        bands: list[int],
        ranks: list[int],
        job_ids: list[UUID],
        tokens: bytes,
        **terms: Any,
    ) -> list[Row]:
        assert len(tokens) == TOKEN_BYTES * len(job_ids)
        places = set(map(Place, lanes, bands, ranks, job_ids))
        may = self._store.may_claim(terms["worker_id"])
        heads = [job for job in self._store.standing(job_ids) if may and self._store.place(job) in places]
        return self._taken(heads, **terms)

    def _taken(self, heads: Sequence[Job], **terms: Any) -> list[Row]:
        """Lease what can be leased at once; gated jobs are named without a token."""
        claimer, grace = _terms(**terms)
        rows = self._store.lease([job for job in heads if not self._store.gated(job)], claimer, grace)
        leased = {row.lease.job_id: row.lease for row in rows}
        return [
            row_of(leased[job.new.id], job, self._store.band(job))
            if job.new.id in leased
            else self._named(job)
            for job in heads
        ]

    def _named(self, job: Job) -> Row:
        values = {
            "job_id": job.new.id,
            "lane": self._store.lane_of[job.new.id],
            "band": self._store.band(job),
            "rank": job.rank,
        }
        return Row(values.get(name) for name in COLUMNS)

    def _gated_heads(self, lanes: list[int], bands: list[int], most: int) -> list[Mapping[str, Any]]:
        streams = dict.fromkeys(zip(lanes, bands, strict=True), -(2**63))
        found = [job for job in self._store.ready(streams, most) if self._store.gated(job)]
        return [{"job_id": job.new.id} for job in found]

    def _claim_gated(self, job_ids: list[UUID], most: int, **terms: Any) -> list[Row]:
        jobs = self._store.standing(job_ids) if self._store.may_claim(terms["worker_id"]) else []
        rows = self._store.lease_gated(jobs, most, *_terms(**terms))
        by_id: dict[UUID, Job] = {job.new.id: job for job in jobs}
        return [
            row_of(row.lease, by_id[row.lease.job_id], self._store.band(by_id[row.lease.job_id]))
            for row in rows
        ]

    def _depths(self) -> list[Mapping[str, Any]]:
        streams = {(lane, band): -(2**63) for lane in self._store.lanes.values() for band in range(4)}
        waiting = [self._store.band(job) for job in self._store.ready(streams, 10**9)]
        return [{"band": band, "waiting": waiting.count(band)} for band in sorted(set(waiting))]

    def _ring(self, channel: str, payload: str) -> list[Row]:
        self._rung(channel, payload)
        return []

    def _suspects(self, queues: list[str], kinds: list[str], labels: list[str]) -> list[Mapping[str, Any]]:
        lanes = {row["lane"]: -(2**63) for row in self._lanes(queues, kinds, labels)}
        return [{"waiting": bool(self._store.ready({(lane, 3): floor for lane, floor in lanes.items()}, 1))}]

    def _elect(self, name: str, holder: UUID, ttl_ms: int) -> list[Mapping[str, Any]]:
        term = self._store.elect(holder, ttl_ms * 1000)
        return [] if term is None else [{"term": term}]

    def _resign(self, name: str, holder: UUID) -> list[Mapping[str, Any]]:
        term = self._store.resign(holder)
        return [] if term is None else [{"term": term}]

    def _mark(self) -> list[Row]:
        """Looking back, snapshots and their upkeep are not modelled: the leader's duties find nothing to do."""
        return []

    def _stalled(self, **_: object) -> list[Row]:
        return []

    def _forget(self, **_: object) -> list[Mapping[str, Any]]:
        return [{"forgotten": 0}]

    def _policy(self) -> list[Row]:
        return []

    def _forget_worker_history(self, **kept: object) -> list[Row]:
        return []

    def _thin(self, **kept: object) -> list[Mapping[str, Any]]:
        return [{"thinned": 0}]


def _terms(worker_id: UUID, process: int, isolated: bool, grace_ms: int) -> tuple[Claimer, int]:
    return Claimer(worker_id=WorkerId(worker_id), process=process, isolated=isolated), grace_ms * 1000
