"""The specification as a dictionary: what the store must do, in plain Python, without I/O and in virtual time.

Time counts microseconds and moves by one with each call, so that jobs are in the order in which they became ready.
Delays are nothing or far; `advance` brings far moments near. `tests/support/model_store.py` gives it a clock and a history.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from perdure.domain.job import LIVE, TERMINAL, WAITING, Disposition, JobState, NewJob, OnParentFailure
from perdure.domain.settlement import Completed, Ending, Settlement
from tests.support.model_job import HEAD_STARTS, SUSPECT, Job, later

Given = Ending | Settlement
"""How an attempt ended, or what was decided about it already."""


class Refused(Exception):
    """The whole call was refused: another job holds a unique key."""


class Model:
    """All jobs, their edges and the unique keys in force."""

    def __init__(self, *, crash_limit: int, interruption_limit: int) -> None:
        self.now = 0
        self.jobs: dict[UUID, Job] = {}
        self.edges: dict[tuple[UUID, UUID], tuple[OnParentFailure, str]] = {}
        self.keys: dict[str, UUID] = {}
        self.run_out: set[UUID] = set()
        self._crash_limit = crash_limit
        self._interruption_limit = interruption_limit

    def tick(self) -> None:
        """A transaction begins."""
        self.now += 1

    def later(self, delay: timedelta | None) -> int:
        """The moment that is that far ahead."""
        return later(self.now, delay)

    def enqueue(self, batch: Sequence[NewJob], on_duplicate: str) -> list[Disposition]:
        """Store the jobs, parents before their children, and tell what became of each."""
        self.tick()
        keys = dict(self.keys)
        holders = {new.id: self._take(keys, new) for new in batch if new.id not in self.jobs}
        if on_duplicate == "raise" and any(holders.values()):
            raise Refused
        self.keys = keys
        answers = []
        for new in batch:
            if new.id in self.jobs:
                answers.append(Disposition.EXISTS)
            elif holders[new.id]:
                answers.append(Disposition.DUPLICATE)
            else:
                answers.append(Disposition.CREATED)
                self._store(
                    new, {d.parent_id: holders.get(d.parent_id) or d.parent_id for d in new.depends_on}
                )
        for new in batch:
            self._look_at_parents(new.id)
        return answers

    def claim(self, suits: Callable[[NewJob], bool], *, limit: int, isolated: bool) -> list[UUID]:
        """Take the best jobs; one whose concurrency key is full is parked instead, and what is behind it gets its turn."""
        self.tick()
        taken: list[UUID] = []
        while heads := self.candidates(suits, isolated)[: limit - len(taken)]:
            gained = [job.new.id for job in heads if self._start(job)]
            taken += gained
            if not gained:
                self._park(self.candidates(suits, isolated))
        return taken

    def candidates(self, suits: Callable[[NewJob], bool], isolated: bool) -> list[Job]:
        ready = (j for j in self.jobs.values() if j.state is JobState.AVAILABLE and not j.parked)
        return sorted(
            (j for j in ready if suits(j.new) and (j.suspicion >= SUSPECT) == isolated), key=lambda j: j.place
        )

    def adopt(self, job_id: UUID, slot: int | None) -> None:
        """Take one job that a claimer got; which of several claimers gets what, the specification leaves open."""
        job = self.jobs[job_id]
        assert job.state is JobState.AVAILABLE, f"{job_id} was claimed while {job.state}"
        assert slot is None or slot in self.free_slots(job.key, job.new.concurrency_limit)
        self._run(job, slot)

    def settle(self, endings: Sequence[tuple[UUID, UUID, Given]]) -> set[UUID]:
        """Accept the endings whose token stands, successes first, and give the accepted tokens."""
        self.tick()
        standing = [e for e in endings if e[0] in self.jobs and self.jobs[e[0]].token == e[1]]
        for group in (
            [e for e in standing if self.succeeds(e[2])],
            [e for e in standing if not self.succeeds(e[2])],
        ):
            keys = {self.jobs[job_id].key for job_id, _, _ in group}
            for job_id, _, _ in group:
                self.jobs[job_id].token = self.jobs[job_id].slot = None
            wishes = [
                (self.jobs[job_id], self.leave(self.jobs[job_id], ending)) for job_id, _, ending in group
            ]
            for job, state in sorted(wishes, key=lambda wish: wish[0].place):
                self._move(job, JobState.DISCARDED if self._clashes(job, state) else state)
            for job, _ in wishes:
                self._let_key_go(job)
            for state in TERMINAL:
                self._settle_edges([job.new.id for job, _ in wishes if job.state is state], state)
            self.unpark(keys)
        return {token for _, token, _ in standing}

    def succeeds(self, ending: Given) -> bool:
        return isinstance(ending, Completed)

    def leave(self, job: Job, ending: Given) -> JobState:
        """Count the ending, and tell where it would leave the job."""
        assert not isinstance(ending, Settlement)
        return job.leave(ending, self.now, self._crash_limit, self._interruption_limit)

    def advance(self, job_ids: Iterable[UUID]) -> None:
        """The moment has come for which these jobs waited."""
        self.tick()
        for job_id in job_ids:
            self.jobs[job_id].due = self.now

    def stage(self) -> None:
        self.tick()
        for job in self.jobs.values():
            if job.state in (JobState.SCHEDULED, JobState.RETRYABLE) and job.due <= self.now:
                self._ready(job, job.due)

    def unpark(self, keys: Iterable[str | None] | None = None) -> None:
        """Let parked jobs of each key try again: each that finds the lowest free slot within its limit."""
        wanted = [job.key for job in self.jobs.values()] if keys is None else keys
        for key in sorted({key for key in wanted if key is not None}):
            parked = sorted(
                (j for j in self.jobs.values() if j.parked and j.key == key), key=lambda j: j.place
            )
            free = self.free_slots(key, max((j.new.concurrency_limit for j in parked), default=0))
            for job in parked:
                if free and free[0] <= job.new.concurrency_limit:
                    free.pop(0)
                    self._unpark(job)

    def cancel(self, job_id: UUID) -> str:
        self.tick()
        job = self.jobs[job_id]
        if job.state is JobState.RUNNING:
            return "requested"
        if job.state not in WAITING:
            return "illegal"
        self._move(job, JobState.CANCELLED)
        self._let_key_go(job)
        self._settle_edges([job_id], JobState.CANCELLED)
        return "cancelled"

    def retry(self, job_id: UUID) -> str:
        """Bring a waiting retry forward, or open a new run of what has ended without success."""
        self.tick()
        job = self.jobs[job_id]
        if job.state in (JobState.SCHEDULED, JobState.RETRYABLE):
            self._ready(job, self.now)
            return "available"
        if job.state not in (JobState.CANCELLED, JobState.DISCARDED):
            return "illegal"
        mine = {edge: how for edge, how in self.edges.items() if edge[0] == job_id and how[1] != "satisfied"}
        if any(self.jobs[parent].state is not JobState.COMPLETED for _, parent in mine):
            return "blocked"
        if job.new.unique and job_id not in self.run_out and self._take(self.keys, job.new):
            return "duplicate"
        self.edges.update({edge: (policy, "satisfied") for edge, (policy, _) in mine.items()})
        job.run, job.letter = job.run + 1, False
        job.failures = job.crashes = job.interruptions = job.suspicion = 0
        self._ready(job, self.now)
        return "available"

    def waiting_for(self, job_id: UUID) -> int:
        return sum(child == job_id and state == "waiting" for (child, _), (_, state) in self.edges.items())

    def free_slots(self, key: str | None, limit: int) -> list[int]:
        taken = {job.slot for job in self.jobs.values() if job.state is JobState.RUNNING and job.key == key}
        return [slot for slot in range(1, limit + 1) if slot not in taken] if key else []

    def _take(self, keys: dict[str, UUID], new: NewJob) -> UUID | None:
        """Give the job its unique key, or tell who has it."""
        if new.unique is None:
            return None
        holder = keys.get(new.unique.key)
        if holder is not None and holder != new.id and holder not in self.run_out:
            return holder
        keys[new.unique.key] = new.id
        return None

    def _store(self, new: NewJob, parents: Mapping[UUID, UUID]) -> None:
        above = [self.jobs[parent].priority for parent in parents.values()] if new.inherit_priority else []
        job = Job(
            new=new,
            state=JobState.PENDING,
            priority=max([new.shape.priority, *above]),
            due=self.later(new.delay),
        )
        self.jobs[new.id] = job
        for dependency in new.depends_on:
            self.edges[new.id, parents[dependency.parent_id]] = (dependency.on_failure, "waiting")
        if not parents:
            self._release(job)

    def _look_at_parents(self, job_id: UUID) -> None:
        for (child, parent), (_, state) in list(self.edges.items()):
            if child == job_id and state == "waiting" and self.jobs[parent].state in TERMINAL:
                self._settle_edges([parent], self.jobs[parent].state)

    def _settle_edges(self, parents: Sequence[UUID], ended: JobState) -> None:
        children, doomed = set[UUID](), set[UUID]()
        for (child, parent), (policy, state) in list(self.edges.items()):
            if parent in parents and state == "waiting":
                fine = ended is JobState.COMPLETED or policy is OnParentFailure.RUN
                if fine or policy is OnParentFailure.CANCEL:
                    self.edges[child, parent] = (policy, "satisfied" if fine else "cancelled")
                    (children if fine else doomed).add(child)
        # All that are doomed go first: the end of one may be what another of them waits for.
        gone = [
            job for job in (self.jobs[child] for child in sorted(doomed)) if job.state is JobState.PENDING
        ]
        for job in gone:
            self._move(job, JobState.CANCELLED)
            self._let_key_go(job)
        if gone:
            self._settle_edges([job.new.id for job in gone], JobState.CANCELLED)
        for job in (self.jobs[child] for child in sorted(children)):
            if job.state is JobState.PENDING and not self.waiting_for(job.new.id):
                self._release(job)

    def _release(self, job: Job) -> None:
        if job.due > self.now:
            job.state = JobState.SCHEDULED
        else:
            self._ready(job, self.now)

    def _ready(self, job: Job, since: int) -> None:
        job.state, job.rank = JobState.AVAILABLE, since - HEAD_STARTS[job.priority]

    def _start(self, job: Job) -> bool:
        free = self.free_slots(job.key, job.new.concurrency_limit)
        if job.key and not free:
            job.parked = True
            return False
        self._run(job, free[0] if job.key else None)
        return True

    def _run(self, job: Job, slot: int | None) -> None:
        job.state, job.slot, job.parked = JobState.RUNNING, slot, False
        if job.lets_key_go_at_start():
            self._let_key_go(job)

    def _unpark(self, job: Job) -> None:
        job.parked = False

    def _park(self, candidates: Sequence[Job]) -> None:
        room: dict[str, int] = {}
        for job in candidates:
            if job.key:
                left = room.setdefault(job.key, len(self.free_slots(job.key, job.new.concurrency_limit)))
                job.parked, room[job.key] = left <= 0, left - 1

    def _clashes(self, job: Job, state: JobState) -> bool:
        """Whether a job that goes back finds the key taken that it let go when it started."""
        back = state in LIVE and job.lets_key_go_at_start() and job.new.id not in self.run_out
        return back and self._take(self.keys, job.new) is not None

    def _move(self, job: Job, state: JobState) -> None:
        job.state, job.parked = state, False
        job.letter = state is JobState.DISCARDED

    def _let_key_go(self, job: Job) -> None:
        rule = job.new.unique
        if rule and self.keys.get(rule.key) == job.new.id and job.state not in rule.states:
            del self.keys[rule.key]
