"""The model with a clock and a memory: what a database that serves Perdure does, in plain Python and without I/O.

Each public method is one transaction, begun and committed at one instant: this model knows neither locks nor snapshots, which
the random histories on real PostgreSQL are for. It keeps the history, so that the promises can be judged, and forgets on request
the last claims, which commit without waiting for the disk.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from perdure.domain.errors import DuplicateJob, UnknownParent
from perdure.domain.history import Event, Held
from perdure.domain.job import WAITING, Enqueued, JobId, JobState, NewJob
from perdure.domain.lease import Lease
from perdure.domain.liveness import Heartbeat, Step
from perdure.domain.rank import Band, band_of
from perdure.domain.settlement import Outcome, Settlement
from perdure.domain.worker import Beat, NewWorker, WorkerId, WorkerState
from perdure.ports import Claimer, LeaseOf, Place, Settled
from perdure.stores.postgres.dispatch import NOT_ALIVE
from tests.support.model import Given, Model, Refused
from tests.support.model_job import SUSPECT, Job

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENDLESS = 2**62
LONGEST_TERM_US = 310_000_000
ALIVE = (WorkerState.ACTIVE, WorkerState.DRAINING)


def moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


@dataclass(slots=True, kw_only=True)
class LeaseRow:
    """A lease as its row."""

    lease: Lease
    claimer: Claimer
    deadline: int
    claim_xid: int
    slot: int | None


@dataclass(slots=True, kw_only=True)
class WorkerRow:
    """A worker as its row."""

    new: NewWorker
    beat_at: int
    state: WorkerState = WorkerState.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """A wish to stop one attempt."""

    token: UUID
    worker_id: UUID


class MayNotClaim(asyncpg.PostgresError):
    """What the database says to a claim whose worker does not live."""

    sqlstate = NOT_ALIVE


class ModelStore(Model):
    """The store as its ports see it; `now_us` is the database's clock, `new_token` makes lease tokens."""

    def __init__(self, now_us: Callable[[], int], new_token: Callable[[], UUID]) -> None:
        super().__init__(crash_limit=0, interruption_limit=0)
        self._now_us = now_us
        self._new_token = new_token
        self.xid = 0
        self.lanes: dict[tuple[str, str, tuple[str, ...]], int] = {}
        self.lane_of: dict[UUID, int] = {}
        self.paused: set[str] = set()
        self.leases: dict[UUID, LeaseRow] = {}
        self.ended: list[Held] = []
        self.events: list[Event] = []
        self.refused: list[UUID] = []
        self.workers: dict[UUID, WorkerRow] = {}
        self.requests: dict[UUID, CancelRequest] = {}
        self.leader: tuple[UUID, int, int] | None = None
        self.enqueued_at: dict[UUID, int] = {}
        self.available_at: dict[UUID, int] = {}
        self._released: list[Place] = []
        self._settling: frozenset[UUID] = frozenset()
        self._left: dict[UUID, JobState] = {}
        self._returned: set[UUID] = set()
        self._tail: list[tuple[int, Callable[[], None]]] = []

    # ---- time

    def tick(self) -> None:
        self.now = self._now_us()
        self.xid += 1
        self._released = []

    def later(self, delay: timedelta | None) -> int:
        return self.now + (delay // MICROSECOND if delay else 0)

    def flush(self) -> None:
        """Everything so far is on disk: no crash takes it back."""
        self._tail.clear()

    def crash(self, since_us: int) -> int:
        """Lose the claims that were committed after that moment and are not on disk; how many were lost."""
        lost = 0
        while self._tail and self._tail[-1][0] > since_us:
            self._tail.pop()[1]()
            lost += 1
        self._tail.clear()
        return lost

    # ---- the port Jobs

    def add(self, batch: Sequence[NewJob], on_duplicate: str) -> tuple[list[Enqueued], list[Place]]:
        known = {new.id for new in batch} | self.jobs.keys()
        for parent in (edge.parent_id for new in batch for edge in new.depends_on):
            if parent not in known:
                raise UnknownParent(parent)
        for new in batch:
            self.lane_of[new.id] = self.lanes.setdefault(
                (new.shape.queue, new.shape.kind, new.shape.labels), len(self.lanes) + 1
            )
        holders = {new.id: self._holder(new) for new in batch}
        try:
            dispositions = self.enqueue(batch, on_duplicate)
        except Refused as error:
            key, holder = next(
                (new.unique.key, holders[new.id])
                for new in batch
                if new.unique and holders[new.id] is not None
            )
            raise DuplicateJob(key, holder or new.id) from error
        self.flush()
        for new in batch:
            if new.id in self.jobs:
                self.enqueued_at.setdefault(new.id, self.now)
        answers = [
            Enqueued(job_id=new.id, disposition=how, holder=self._holder(new) if how == "duplicate" else None)
            for new, how in zip(batch, dispositions, strict=True)
        ]
        return answers, self._released

    def _holder(self, new: NewJob) -> JobId | None:
        holder = None if new.unique is None else self.keys.get(new.unique.key)
        return None if holder is None or holder == new.id else JobId(holder)

    def end(self, settlements: Sequence[Settlement]) -> Settled:
        """Settle, and write the history of what was accepted."""
        standing = {
            s.job_id: s
            for s in settlements
            if s.job_id in self.leases and self.leases[s.job_id].lease.token == s.token
        }
        self._settling = frozenset(standing)
        accepted = self.settle([(s.job_id, s.token, s) for s in settlements])
        self._settling = frozenset()
        for job_id, settlement in standing.items():
            job, row = self.jobs[job_id], self.leases.pop(job_id)
            self.ended.append(
                replace(
                    self._held(row), settle_xid=self.xid, outcome=settlement.outcome, state=self._left.pop(job_id),
                    crashes=job.crashes, interruptions=job.interruptions,
                )
            )  # fmt: skip
        if accepted:
            self.flush()
        return Settled(accepted=frozenset(accepted), released=self._released)

    def refuse(self, settlements: Sequence[Settlement]) -> frozenset[UUID]:
        known = {(one.token, one.outcome) for one in self.ended}
        late = [s.token for s in settlements if (s.token, s.outcome) not in known]
        self.refused += late
        return frozenset(late)

    def make_due(self, limit: int) -> list[Place]:
        self.stage()
        assert len(self._released) <= limit, "the model stages all at once"
        if self._released:
            self.flush()
        return self._released

    def unpark_all(self) -> list[Place]:
        self.tick()
        self.unpark()
        return self._released

    def succeeds(self, ending: Given) -> bool:
        return isinstance(ending, Settlement) and ending.outcome is Outcome.COMPLETED

    def leave(self, job: Job, ending: Given) -> JobState:
        assert isinstance(ending, Settlement)
        job.failures, job.crashes = ending.attempt, ending.crashes
        job.interruptions, job.suspicion = ending.interruptions, ending.suspicion
        job.due = self.later(ending.delay)
        return ending.state

    # ---- the port Leases

    def leases_where(self, holds: Callable[[LeaseRow], bool], limit: int) -> list[LeaseOf]:
        self.tick()
        found = [row for _, row in sorted(self.leases.items()) if holds(row)][:limit]
        return [
            LeaseOf(
                lease=row.lease, worker_id=row.claimer.worker_id, process=row.claimer.process,
                isolated=row.claimer.isolated,
            )
            for row in found
        ]  # fmt: skip

    def lost(self, row: LeaseRow) -> bool:
        worker = self.workers.get(row.claimer.worker_id)
        return worker is None or worker.state in (WorkerState.DEAD, WorkerState.STOPPED)

    def overdue(
        self, observer: WorkerId, fresh_within: timedelta, steps: Sequence[Step], limit: int
    ) -> list[LeaseOf]:
        if not self.fresh(observer, fresh_within):
            return []

        def hung(row: LeaseRow) -> bool:
            more = sum(
                step.by // MICROSECOND
                for step in steps
                if row.lease.claimed_us < self.now - step.ago // MICROSECOND
            )
            return row.deadline < min(self.now, self.now - more) and not self.lost(row)

        return self.leases_where(hung, limit)

    def fresh(self, worker_id: WorkerId, within: timedelta) -> bool:
        """Whether a worker lives and its heartbeat is not older, or further ahead, than that."""
        return (
            self.alive(worker_id) and abs(self.now - self.workers[worker_id].beat_at) <= within // MICROSECOND
        )

    # ---- the port Workers

    def register(self, new: NewWorker) -> None:
        self.tick()
        self.workers.setdefault(new.id, WorkerRow(new=new, beat_at=self.now))
        self.flush()

    def alive(self, worker_id: UUID) -> bool:
        row = self.workers.get(worker_id)
        return row is not None and row.state in ALIVE

    def may_claim(self, worker_id: UUID) -> bool:
        """Whether a worker may claim. Raises the error of a claim whose worker does not live."""
        if self.alive(worker_id):
            return self.workers[worker_id].state is WorkerState.ACTIVE
        raise MayNotClaim(f"worker {worker_id} is not alive and may not claim")

    def beat(self, worker_id: WorkerId) -> Beat | None:
        self.tick()
        if not self.alive(worker_id):
            return None
        row = self.workers[worker_id]
        gap, row.beat_at = self.now - row.beat_at, self.now
        self.flush()
        cancel = [(job_id, one.token) for job_id, one in self.requests.items() if one.worker_id == worker_id]
        return Beat(state=row.state, gap=gap * MICROSECOND, cancel=tuple(cancel))

    def heartbeats(self) -> list[Heartbeat]:
        self.tick()
        return [
            Heartbeat(
                worker_id=row.new.id,
                at=moment(row.beat_at),
                silent_for=(self.now - row.beat_at) * MICROSECOND,
            )
            for row in self.workers.values()
            if row.state in ALIVE
        ]

    def declare_dead(
        self, silent: Mapping[WorkerId, datetime], observer: WorkerId, fresh_within: timedelta
    ) -> list[WorkerId]:
        self.tick()
        if not self.fresh(observer, fresh_within):
            return []
        dead = [
            one for one, at in silent.items() if self.alive(one) and moment(self.workers[one].beat_at) == at
        ]
        for worker_id in dead:
            self.workers[worker_id].state = WorkerState.DEAD
            self.flush()
        return dead

    def stop(self, worker_id: WorkerId) -> None:
        self.tick()
        if worker_id in self.workers and self.workers[worker_id].state is not WorkerState.DEAD:
            self.workers[worker_id].state = WorkerState.STOPPED
        self.flush()

    # ---- leadership

    def elect(self, holder: UUID, ttl_us: int) -> int | None:
        """The number of the term, or None while another leads."""
        self.tick()
        was = self.leader
        if was is not None and was[0] != holder and self.now <= was[2] <= self.now + LONGEST_TERM_US:
            return None
        term = 1 if was is None else was[1] + (was[0] != holder)
        self.leader = (holder, term, self.now + ttl_us)
        self.flush()
        return term

    def resign(self, holder: UUID) -> int | None:
        self.tick()
        if self.leader is None or self.leader[0] != holder:
            return None
        self.leader = (holder, self.leader[1], self.now - 1_000_000)
        return self.leader[1]

    # ---- claims, as the statements of dispatch make them

    def place(self, job: Job) -> Place:
        return Place(self.lane_of[job.new.id], self.band(job), job.rank, job.new.id)

    def band(self, job: Job) -> int:
        return int(Band.SUSPECT if job.suspicion >= SUSPECT else band_of(job.priority))

    def gated(self, job: Job) -> bool:
        return job.key is not None or job.lets_key_go_at_start()

    def ready(self, floors: Mapping[tuple[int, int], int], limit: int) -> list[Job]:
        """The best ranked available jobs of the streams (lane, band), each from its floor on."""
        found = [
            job for job in self.jobs.values()
            if job.state is JobState.AVAILABLE and not job.parked
            and job.rank >= floors.get((self.lane_of[job.new.id], self.band(job)), ENDLESS)
        ]  # fmt: skip
        return sorted(found, key=lambda job: job.place)[:limit]

    def standing(self, job_ids: Iterable[UUID]) -> list[Job]:
        """Those of the jobs that may be claimed now, the best first."""
        found = (self.jobs[job_id] for job_id in set(job_ids) if job_id in self.jobs)
        return sorted(
            (j for j in found if j.state is JobState.AVAILABLE and not j.parked), key=lambda j: j.place
        )

    def lease(self, jobs: Sequence[Job], claimer: Claimer, grace_us: int) -> list[LeaseRow]:
        """Lease these jobs, which need no second look."""
        self._remember(jobs)
        return [self._lease(job, claimer, grace_us, None) for job in jobs]

    def lease_gated(self, jobs: Sequence[Job], limit: int, claimer: Claimer, grace_us: int) -> list[LeaseRow]:
        """Lease up to `limit` of these: each the lowest free slot of its key; those that find none are parked."""
        self._remember(jobs)
        slots = self._slots(jobs, claimer.isolated)
        rows: list[LeaseRow] = []
        for job in jobs:
            if job.key is not None and job.new.id not in slots:
                job.parked = True
                self._returned.discard(job.new.id)
            elif len(rows) < limit:
                rows.append(self._lease(job, claimer, grace_us, slots.get(job.new.id)))
        return rows

    def _slots(self, jobs: Sequence[Job], isolated: bool) -> dict[UUID, int]:
        """Who gets which slot of its key: each the lowest within its limit, jobs that had to wait before and are not met included."""
        met = {job.new.id for job in jobs}
        wanted = {(job.key, self.lane_of[job.new.id]) for job in jobs if job.key is not None}
        rivals = [
            job for job in self.standing(self._returned)
            if (job.key, self.lane_of[job.new.id]) in wanted and job.new.id not in met
            and (self.band(job) == Band.SUSPECT) == isolated
        ]  # fmt: skip
        contenders = sorted(
            [*(job for job in jobs if job.key is not None), *rivals], key=lambda job: job.place
        )
        most = max((job.new.concurrency_limit for job in contenders), default=0)
        free = {key: self.free_slots(key, most) for key in {job.key for job in contenders}}
        found: dict[UUID, int] = {}
        for job in contenders:
            if free[job.key] and free[job.key][0] <= job.new.concurrency_limit:
                found[job.new.id] = free[job.key].pop(0)
        return found

    def _lease(self, job: Job, claimer: Claimer, grace_us: int, slot: int | None) -> LeaseRow:
        new, timeout = job.new, job.new.shape.timeout
        job.token = self._new_token()
        self._returned.discard(new.id)
        self._run(job, slot)
        lease = Lease(
            new.id, job.token, self.lane_of[new.id], job.run, job.failures + 1, job.crashes, job.interruptions,
            job.suspicion, new.args, job.priority, new.shape.max_attempts,
            None if timeout is None else timeout // timedelta(milliseconds=1), new.shape.crash_limit,
            self.available_at[new.id], self.now, None, new.shape.queue, new.shape.kind,
        )  # fmt: skip
        deadline = ENDLESS if timeout is None else self.now + timeout // MICROSECOND + grace_us
        row = LeaseRow(lease=lease, claimer=claimer, deadline=deadline, claim_xid=self.xid, slot=slot)
        self.leases[new.id] = row
        return row

    def _remember(self, jobs: Sequence[Job]) -> None:
        """Be able to take the claim of these jobs back."""
        before = [copy(job) for job in jobs]
        keys = dict(self.keys)

        def undo() -> None:
            for job in before:
                self.jobs[job.new.id] = job
                self.leases.pop(job.new.id, None)
            self.keys = keys

        self._tail.append((self.now, undo))

    # ---- what operators do

    def ask_to_cancel(self, job_id: UUID) -> str:
        """End a waiting job, or ask the worker of a running one; `requested` and `illegal` change no state."""
        if job_id not in self.jobs:
            return "missing"
        how = self.cancel(job_id)
        if how == "requested":
            row = self.leases[job_id]
            if job_id in self.requests and self.requests[job_id].token == row.lease.token:
                return "unchanged"
            self.requests[job_id] = CancelRequest(token=row.lease.token, worker_id=row.claimer.worker_id)
        self.flush()
        return how

    def reopen(self, job_id: UUID) -> str:
        """Bring a waiting job forward, or open a new run."""
        if job_id not in self.jobs:
            return "missing"
        how = self.retry(job_id)
        if how == "available":
            self.requests.pop(job_id, None)
            self.events.append(Event(event="retried", job_id=job_id, run=self.jobs[job_id].run))
        self.flush()
        return how

    def carry_on(self, limit: int) -> int:
        """Wishes to cancel whose lease has ended hold for the job."""
        self.tick()
        stale = [
            job_id for job_id, one in sorted(self.requests.items())
            if job_id not in self.leases or self.leases[job_id].lease.token != one.token
        ][:limit]  # fmt: skip
        for job_id in stale:
            if self.jobs[job_id].state in WAITING:
                self.cancel(job_id)
            del self.requests[job_id]
        if stale:
            self.flush()
        return len(stale)

    # ---- what happens inside of a transaction

    def _move(self, job: Job, state: JobState) -> None:
        super()._move(job, state)
        if job.new.id in self._settling:
            self._left[job.new.id] = state
            if state is JobState.AVAILABLE:
                self._released.append(self.place(job))
        elif state is JobState.CANCELLED:
            self.ended.append(
                Held(
                    job_id=job.new.id, token=None, run=job.run, attempt=job.failures, crashes=job.crashes,
                    interruptions=job.interruptions, settle_xid=self.xid, outcome=Outcome.CANCELLED, state=state,
                )
            )  # fmt: skip

    def _ready(self, job: Job, since: int) -> None:
        super()._ready(job, since)
        self.available_at[job.new.id] = self.now
        self._released.append(self.place(job))

    def _unpark(self, job: Job) -> None:
        super()._unpark(job)
        self._returned.add(job.new.id)
        self._released.append(self.place(job))

    def _held(self, row: LeaseRow) -> Held:
        return held_of(row, self.jobs[row.lease.job_id].key)


def held_of(row: LeaseRow, key: str | None) -> Held:
    """A lease as a record of the history."""
    lease = row.lease
    return Held(
        job_id=lease.job_id, token=lease.token, run=lease.run, attempt=lease.attempt, crashes=lease.crashes,
        interruptions=lease.interruptions, claim_xid=row.claim_xid, slot=row.slot, concurrency_key=key,
    )  # fmt: skip
