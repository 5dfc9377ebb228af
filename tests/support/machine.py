"""Random histories of the store, compared with the model after every step and judged by the checker at the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from perdure.domain.errors import DatabaseUnavailable, DuplicateJob
from perdure.domain.ids import JobIds
from perdure.domain.job import LIVE, Dependency, JobId, JobState, NewJob, OnParentFailure, UniqueRule
from perdure.domain.lease import Lease
from perdure.domain.settlement import (
    Cancelled,
    Completed,
    Crashed,
    Ending,
    ErrorReport,
    Failed,
    Interrupted,
    Settlement,
    Snoozed,
    settle,
)
from perdure.ports import By, Claimer, Place, Scope
from perdure.stores.postgres.watermarks import LONGEST_BETWEEN_FULL_PASSES_S
from tests.support.comparing import compare, same
from tests.support.model import Model, Refused
from tests.support.new_jobs import job_of
from tests.support.store import CRASH_LIMIT, INTERRUPTION_LIMIT, Store

QUEUES = ("q1", "q2")
KINDS = ("a", "b")
LIMITS = {"c1": 1, "c2": 2}
COUNTED = (LIVE, LIVE - {JobState.RUNNING}, LIVE | {JobState.COMPLETED})
OPERATOR = By(actor="test", reason="a random history")
ERROR = ErrorReport(type="ValueError", message="no", fingerprint="f")
NOTHING = timedelta(0)
FAR = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A job as it is drawn: `parents` are places in the list of all jobs, counted from its end."""

    queue: str
    kind: str
    gpu: bool
    priority: int
    max_attempts: int
    crash_limit: int | None
    far: bool
    parents: tuple[tuple[int, OnParentFailure], ...]
    inherit: bool
    unique: tuple[str, int, bool] | None
    concurrency_key: str | None


def one_in(chances: int) -> st.SearchStrategy[bool]:
    return st.sampled_from([False] * (chances - 1) + [True])


PARENTS = st.lists(
    st.tuples(st.sampled_from(range(7)), st.sampled_from(OnParentFailure)),
    max_size=3,
    unique_by=lambda p: p[0],
).map(tuple)
UNIQUE = st.tuples(st.sampled_from(["u1", "u2", "u3"]), st.sampled_from(range(len(COUNTED))), st.booleans())
DRAFTS = st.builds(
    Draft,
    queue=st.sampled_from(QUEUES),
    kind=st.sampled_from(KINDS),
    gpu=one_in(5),
    priority=st.integers(1, 5),
    max_attempts=st.integers(1, 3),
    crash_limit=st.sampled_from([None, None, 1, 3]),
    far=one_in(5),
    parents=st.booleans().flatmap(lambda yes: PARENTS if yes else st.just(())),
    inherit=st.booleans(),
    unique=one_in(4).flatmap(lambda yes: UNIQUE if yes else st.none()),
    concurrency_key=st.sampled_from([None, None, *LIMITS]),
)
SCOPES = st.sampled_from(
    [
        Scope(queues=QUEUES, kinds=KINDS, labels=("gpu",)),
        Scope(queues=QUEUES, kinds=KINDS, labels=("gpu",)),
        Scope(queues=QUEUES, kinds=KINDS),
        Scope(queues=("q1",), kinds=KINDS, labels=("gpu",)),
        Scope(queues=QUEUES, kinds=("a",), labels=("gpu",)),
    ]
)
DELAYS = st.sampled_from([NOTHING, FAR])
LIMITS_OF_CLAIMS = st.sampled_from([1, 2, 3, 4, 8])
PLACES = st.sampled_from(range(60))
Step = tuple[str, dict[str, Any]]


def step(name: str, **drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    """One call of the method of that name."""
    return st.tuples(st.just(name), st.fixed_dictionaries(drawn))


def weighted(choices: Sequence[tuple[int, st.SearchStrategy[Any]]]) -> st.SearchStrategy[Any]:
    """One of the strategies, each as often as its weight says; `one_of` would take equal ones for one."""
    places = [place for place, (weight, _) in enumerate(choices) for _ in range(weight)]
    return st.sampled_from(places).flatmap(lambda place: choices[place][1])


ENDINGS: st.SearchStrategy[Ending] = weighted(
    [
        (4, st.just(Completed(result='{"done": true}'))),
        (
            3,
            st.builds(
                Failed, error=st.just(ERROR), retry_in=DELAYS, give_up=one_in(4), timed_out=st.booleans()
            ),
        ),
        (1, st.builds(Snoozed, delay=DELAYS)),
        (1, st.just(Cancelled(reason="enough"))),
        (2, st.builds(Interrupted, cause=st.just("deploy"), started=st.booleans())),
        (2, st.builds(Crashed, cause=st.just("SIGKILL"), alone=st.booleans(), host_lost=st.booleans())),
    ]
)
DRAFTED = st.lists(DRAFTS, min_size=1, max_size=5)
SETTLED = st.lists(st.tuples(PLACES, ENDINGS), min_size=1, max_size=4)
ISOLATED = one_in(4)
STEPS: st.SearchStrategy[Step] = weighted(
    [
        (8, step("enqueue", drafts=DRAFTED, on_duplicate=st.sampled_from(["return", "return", "raise"]))),
        (
            12,
            step("claim", scope=SCOPES, limit=LIMITS_OF_CLAIMS, isolated=ISOLATED, worker=st.integers(0, 1)),
        ),
        (4, step("claim_until_empty", scope=SCOPES, isolated=ISOLATED, which=st.integers(0, 1))),
        (14, step("settle", endings=SETTLED, late=PLACES)),
        (2, step("settle_cut", endings=SETTLED, transactions=st.integers(0, 2))),
        (1, step("elect", who=st.integers(0, 1))),
        (1, step("end_term")),
        (4, step("stage")),
        (
            3,
            step(
                "claim_together", scopes=st.tuples(SCOPES, SCOPES), limit=LIMITS_OF_CLAIMS, isolated=ISOLATED
            ),
        ),
        (3, step("settle_late", place=PLACES, ending=ENDINGS)),
        (3, step("advance", places=st.lists(PLACES, min_size=1, max_size=4))),
        (3, step("retry", place=PLACES)),
        (2, step("cancel", place=PLACES)),
        (1, step("enqueue_again", place=PLACES)),
        (1, step("lose_worker", worker=st.integers(0, 1))),
        (1, step("resolve")),
        (1, step("unpark")),
        (1, step("end_period", place=PLACES)),
        (1, step("drop", place=PLACES)),
    ]
)


def suits(scope: Scope, new: NewJob) -> bool:
    return (
        new.shape.queue in scope.queues
        and new.shape.kind in scope.kinds
        and set(new.shape.labels) <= set(scope.labels)
    )


class StoreMachine(RuleBasedStateMachine):
    """The store does what the model does. Subclasses give it a `store` over an empty database.

    There is one rule, whose step is drawn: of several rules Hypothesis would leave out most in each history. No step has a
    precondition: claimers that pull at once do not get the same each time, and what is drawn must not depend on it.
    """

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.store.empty()
        self.model = Model(crash_limit=CRASH_LIMIT, interruption_limit=INTERRUPTION_LIMIT)
        self.ids = JobIds(time.time_ns, Random().randbytes)
        self.workers = [self.store.new_worker(), self.store.new_worker()]
        self.all: list[JobId] = []
        self.batches: list[list[NewJob]] = []
        self.held: dict[UUID, Lease] = {}
        self.lost: list[Lease] = []
        self.leader: tuple[int, int] | None = None
        self.term_ended = False

    @rule(step=STEPS)
    def step(self, step: Step) -> None:
        name, drawn = step
        getattr(self, name)(**drawn)

    # ---- what producers do

    def enqueue(self, drafts: list[Draft], on_duplicate: str) -> None:
        batch: list[NewJob] = []
        for draft in drafts:
            batch.append(self._job(draft, batch))
        self.batches.append(batch)
        self._enqueue(batch, on_duplicate)

    def enqueue_again(self, place: int) -> None:
        """The answer was lost, so the call is repeated."""
        if not self.batches:
            return
        self._enqueue(self.batches[place % len(self.batches)], "return")

    # ---- what workers do

    def claim(self, scope: Scope, limit: int, isolated: bool, worker: int) -> None:
        if not self.store.parts.exact_order:
            self._claim_in_any_order([scope], limit, isolated)
            return
        claimer = Claimer(worker_id=self.workers[worker], process=0, isolated=isolated)
        leases = self.store.run(self.store.dispatch().claim(claimer, scope, limit=limit))
        expected = self.model.claim(lambda new: suits(scope, new), limit=limit, isolated=isolated)
        same("claim", dict(enumerate(lease.job_id for lease in leases)), dict(enumerate(expected)))
        for lease in leases:
            self._hold(lease)

    def claim_together(self, scopes: tuple[Scope, Scope], limit: int, isolated: bool) -> None:
        """Claimers that pull at once, and that remember where their last claim ended, never get the same job."""
        self._claim_in_any_order(scopes, limit, isolated)

    def claim_until_empty(self, scope: Scope, isolated: bool, which: int) -> None:
        """A claimer that remembers where its last claim ended misses nothing for long: a full pass finds what may start."""
        deadline = time.monotonic() + 3 * LONGEST_BETWEEN_FULL_PASSES_S
        while missed := self._missed(scope, isolated):
            assert time.monotonic() < deadline, f"never claimed: {missed}"
            self._claim_in_any_order([scope], 8, isolated, which)

    def _missed(self, scope: Scope, isolated: bool) -> list[JobId]:
        """What may start and waits."""
        waiting = self.model.candidates(lambda new: suits(scope, new), isolated)
        free = [j for j in waiting if not j.key or self.model.free_slots(j.key, j.new.concurrency_limit)]
        return [job.new.id for job in free]

    def _claim_in_any_order(self, scopes: Sequence[Scope], limit: int, isolated: bool, which: int = 0) -> int:
        """Claim at once, one claimer for each scope; what they got must have been theirs to get, and how much it was."""
        claims = [
            dispatch.claim(Claimer(worker_id=worker, process=0, isolated=isolated), scope, limit=limit)
            for dispatch, worker, scope in zip(
                self.store.dispatches[which:], self.workers[which:], scopes, strict=False
            )
        ]
        gained = self.store.together(*claims)
        present = self.store.present()
        slots = {job_id: slot for job_id, _, slot in present.leases or []}
        self.model.tick()
        for scope, leases in zip(scopes, gained, strict=True):
            assert len(leases) <= limit
            for lease in leases:
                job = self.model.jobs[lease.job_id]
                assert suits(scope, job.new)
                assert isolated == (job.suspicion >= 2)
                self.model.adopt(lease.job_id, slots[lease.job_id])
                self._hold(lease)
        self._adopt_parked(set(present.parked or []))
        return sum(map(len, gained))

    def settle(self, endings: list[tuple[int, Ending]], late: int) -> None:
        """Each ending is accepted exactly when its token stands, whatever else is in the batch."""
        batch = self._chosen(endings)
        if batch and self.lost and late % 3 == 0:
            batch.append((self.lost[late % len(self.lost)], endings[0][1]))
        if batch:
            self._settle(batch)

    def settle_cut(self, endings: list[tuple[int, Ending]], transactions: int) -> None:
        """The connection breaks while endings are settled: the call is repeated, and all is as if it had not broken."""
        batch = self._chosen(endings)
        if not batch:
            return
        self.store.link.left = transactions
        cut = False
        for some in self._by_sort(batch):
            if cut:
                break
            committed = self.store.link.left != 0
            try:
                self._announce(self.store.run(self.store.jobs.settle(self._settlements(some))).released)
            except DatabaseUnavailable:
                cut = True
            if committed:
                expected = self.model.settle([(lease.job_id, lease.token, ending) for lease, ending in some])
                self.lost += [self.held.pop(token) for token in expected]
        self.store.link.left = None
        if cut:
            self._settle(batch)

    def elect(self, who: int) -> None:
        """One leads at a time, and each new leader's term has a number of its own."""
        term = self.store.run(self.store.leadership(UUID(int=who + 1)).lead())
        if self.leader is None or (self.term_ended and self.leader[0] != who):
            self.leader = (who, 1 if self.leader is None else self.leader[1] + 1)
        self.term_ended = self.term_ended and self.leader[0] != who
        assert term == (self.leader[1] if self.leader[0] == who else None)

    def end_term(self) -> None:
        self.store.end_term()
        self.term_ended = True

    def _chosen(self, endings: list[tuple[int, Ending]]) -> list[tuple[Lease, Ending]]:
        held = list(self.held.values())
        if not held:
            return []
        return list(
            {held[p % len(held)].token: (held[p % len(held)], ending) for p, ending in endings}.values()
        )

    def settle_late(self, place: int, ending: Ending) -> None:
        """A worker that was given up for dead changes nothing any more."""
        if self.lost:
            self._settle([(self.lost[place % len(self.lost)], ending)])

    def lose_worker(self, worker: int) -> None:
        """Its host falls silent, and its jobs are rescued by what the tables know of them."""
        lost = self.workers[worker]
        self.store.execute("UPDATE perdure.workers SET state = 'dead' WHERE id = $1", lost)
        self.workers[worker] = self.store.new_worker()
        found = self.store.run(self.store.leases.of_dead(limit=100))
        assert {lease.worker_id for lease in found} <= {lost}
        self._settle([(f.lease, Crashed(cause="silent", alone=False, host_lost=True)) for f in found])
        assert not self.store.run(self.store.leases.of_dead(limit=100))

    # ---- what the leader does, and time

    def advance(self, places: list[int]) -> None:
        chosen = {self.all[place % len(self.all)] for place in places} if self.all else set()
        waiting = {JobState.SCHEDULED, JobState.RETRYABLE, JobState.PENDING}
        moved = [job_id for job_id in chosen if self.model.jobs[job_id].state in waiting]
        self.store.become_due(moved)
        self.model.advance(moved)

    def stage(self) -> None:
        self._announce(self.store.run(self.store.jobs.stage(limit=1000)))
        self.model.stage()

    def resolve(self) -> None:
        """No parent was settled while its child was written, so nothing is left to be found."""
        assert not self.store.run(self.store.jobs.resolve(limit=1000))

    def unpark(self) -> None:
        self._announce(self.store.run(self.store.jobs.unpark()))
        self.model.unpark()

    def end_period(self, place: int) -> None:
        if not self.all:
            return
        job_id = self.all[place % len(self.all)]
        unique = self.model.jobs[job_id].new.unique
        if unique is not None and unique.period is not None:
            self.store.end_period(job_id)
            self.model.run_out.add(job_id)

    # ---- what operators do

    def cancel(self, place: int) -> None:
        if not self.all:
            return
        job_id = self.all[place % len(self.all)]
        (acted,) = self.store.run(self.store.control.cancel([job_id], OPERATOR))
        expected = self.model.cancel(job_id)
        assert acted.outcome in (expected, "unchanged")

    def retry(self, place: int) -> None:
        if not self.all:
            return
        job_id = self.all[place % len(self.all)]
        (acted,) = self.store.run(self.store.control.retry([job_id], OPERATOR))
        assert acted.outcome == self.model.retry(job_id)

    def drop(self, place: int) -> None:
        letters = [job_id for job_id in self.all if self.model.jobs[job_id].letter]
        if letters:
            job_id = letters[place % len(letters)]
            self.store.run(self.store.control.drop([job_id], OPERATOR))
            self.model.jobs[job_id].letter = False

    # ---- what must hold

    @invariant()
    def agrees(self) -> None:
        """Every table says what the model says, and every job is in exactly one of them."""
        present = self.store.present()
        compare(present, self.model)
        assert {token for _, token, _ in present.leases or []} == set(self.held)

    def teardown(self) -> None:
        report = self.store.judge()
        assert report.ok, report.words()

    # ---- steps that several rules share

    def _job(self, draft: Draft, batch: Sequence[NewJob]) -> NewJob:
        known = [*self.all, *(new.id for new in batch)]
        parents = {known[-1 - place]: policy for place, policy in draft.parents if place < len(known)}
        if any(new.unique for new in batch if new.id in parents):
            # A parent that is refused is replaced by the holder of its key, perhaps a parent already: one policy fits both.
            parents = dict.fromkeys(parents, OnParentFailure.CANCEL)
        rule = None
        if draft.unique is not None:
            key, counted, period = draft.unique
            rule = UniqueRule(key=key, states=COUNTED[counted], period=timedelta(days=1) if period else None)
        return job_of(
            id=self.ids(),
            queue=draft.queue,
            kind=draft.kind,
            labels=("gpu",) if draft.gpu else (),
            priority=draft.priority,
            max_attempts=draft.max_attempts,
            crash_limit=draft.crash_limit,
            delay=FAR if draft.far else None,
            depends_on=tuple(Dependency(parent_id=p, on_failure=policy) for p, policy in parents.items()),
            inherit_priority=draft.inherit,
            unique=rule,
            concurrency_key=draft.concurrency_key,
            concurrency_limit=LIMITS[draft.concurrency_key] if draft.concurrency_key else 1,
        )

    def _enqueue(self, batch: list[NewJob], on_duplicate: str) -> None:
        try:
            expected = self.model.enqueue(batch, on_duplicate)
        except Refused:
            expected = None
        try:
            answers, places = self.store.run(self.store.jobs.enqueue_placed(batch, on_duplicate=on_duplicate))
        except DuplicateJob:
            assert expected is None, "refused for a key that nobody holds"
            return
        assert [answer.disposition for answer in answers] == expected
        self.all += [new.id for new in batch if new.id in self.model.jobs and new.id not in self.all]
        self._announce(places)

    def _announce(self, places: Sequence[Place]) -> None:
        self.store.run(self.store.dispatches[0].announce(places))

    def _hold(self, lease: Lease) -> None:
        self.model.jobs[lease.job_id].token = lease.token
        self.held[lease.token] = lease

    def _adopt_parked(self, parked: set[UUID]) -> None:
        """Which of several claimers met a full key first is open; that those before it have its slots is not."""
        new = [self.model.jobs[job_id] for job_id in parked if not self.model.jobs[job_id].parked]
        for job in new:
            job.parked = True
        for job in new:
            rivals = [j for j in self.model.jobs.values() if j.key == job.key and not j.parked]
            ready = sum(rival.state is JobState.AVAILABLE for rival in rivals)
            assert len(self.model.free_slots(job.key, job.new.concurrency_limit)) <= ready

    @staticmethod
    def _settlements(batch: Sequence[tuple[Lease, Ending]]) -> list[Settlement]:
        limits = {"crash_limit": CRASH_LIMIT, "interruption_limit": INTERRUPTION_LIMIT}
        return [settle(lease, ending, **limits) for lease, ending in batch]

    @staticmethod
    def _by_sort(batch: Sequence[tuple[Lease, Ending]]) -> list[list[tuple[Lease, Ending]]]:
        """Successes, and all other endings: each sort is a transaction of its own."""
        done = [one for one in batch if isinstance(one[1], Completed)]
        others = [one for one in batch if not isinstance(one[1], Completed)]
        return [some for some in (done, others) if some]

    def _settle(self, batch: Sequence[tuple[Lease, Ending]]) -> None:
        for some in self._by_sort(batch):
            settled = self.store.run(self.store.jobs.settle(self._settlements(some)))
            expected = self.model.settle([(lease.job_id, lease.token, ending) for lease, ending in some])
            assert settled.accepted == expected
            self.lost += [self.held.pop(token) for token in expected]
            self._announce(settled.released)
