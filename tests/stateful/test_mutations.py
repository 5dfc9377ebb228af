"""The random histories are worth something: take one guard out of the store's SQL, and they find what breaks."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from perdure.domain.errors import DatabaseUnavailable, InvalidInput
from perdure.domain.ids import JobIds
from perdure.domain.job import Dependency, JobId, JobState, OnParentFailure
from perdure.domain.settlement import (
    Completed,
    Crashed,
    Ending,
    ErrorReport,
    Failed,
    Outcome,
    Settlement,
    settle,
)
from perdure.ports import Claimer, Scope, Settled
from perdure.stores.postgres.connections import connect
from perdure.stores.postgres.jobs import PostgresJobs, _completed, encode_jobs, places
from perdure.stores.postgres.statements import Statement, statements
from tests.support.comparing import compare
from tests.support.functions import function_of
from tests.support.machine import KINDS, QUEUES, Draft, Step, StoreMachine
from tests.support.new_jobs import job_of
from tests.support.store import Store

FEW = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One guard taken out: `old` in a statement of a module, or in a function of the migrations, becomes `new`."""

    name: str
    module: str
    within: str
    old: str
    new: str = ""

    def __str__(self) -> str:
        return self.name

    def patched(self, text: str) -> str:
        assert text.count(self.old) == 1, f"{self.within} has changed: {self.old!r} is not in it once"
        return text.replace(self.old, self.new)

    def statements(self, module: str) -> dict[str, Statement]:
        known = statements(module)
        if module != self.module:
            return known
        return {**known, self.within: replace(known[self.within], text=self.patched(known[self.within].text))}

    def function(self) -> str:
        """The function as the migrations make it, mutated and to be put in its place."""
        return self.patched(function_of(self.within))


FUNCTIONS = "functions"
MUTATIONS = [
    Mutation(
        name="a claim leaves the available row",
        module=FUNCTIONS,
        within="lease_held",
        old="DELETE FROM perdure.available_jobs WHERE ctid = ANY (ctids)",
        new="UPDATE perdure.available_jobs SET run = run WHERE ctid = ANY (ctids)",
    ),
    Mutation(
        name="a child goes when its first parent ends",
        module=FUNCTIONS,
        within="settle_edges",
        old="b.job_id = ANY (freed) AND b.waiting = 0",
        new="b.job_id = ANY (freed)",
    ),
    Mutation(
        name="a failed parent frees children that should be held",
        module=FUNCTIONS,
        within="settle_edges",
        old="AND (ended = 'completed' OR d.on_failure <> 'hold')",
    ),
    Mutation(
        name="parents that had ended before are not looked at",
        module=FUNCTIONS,
        within="enqueue_linked",
        old="WHERE links.outward[n]",
        new="WHERE false",
    ),
    Mutation(
        name="an enqueue takes a unique key away",
        module=FUNCTIONS,
        within="take_unique_keys",
        old="WHERE k.expires_at <= now() AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)\n            ORDER BY k.key FOR UPDATE OF k\n        ));",
        new="""WHERE false
        ));
        DELETE FROM perdure.unique_keys u WHERE u.key = ANY (ARRAY(
            SELECT j.unique_key FROM perdure.read_jobs(jobs) j WHERE NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)
        ));""",
    ),
    Mutation(
        name="slots are given twice",
        module=FUNCTIONS,
        within="claim_gated",
        old="WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.concurrency_key = c.concurrency_key AND l.slot = n.slot)",
    ),
    Mutation(
        name="failures are forgotten",
        module="jobs",
        within="settle_others",
        old="s.lane, s.priority, s.run, s.failures, s.crash_count",
        new="s.lane, s.priority, s.run, 0, s.crash_count",
    ),
]
LATE_SUCCESS = Mutation(
    name="success is not fenced",
    module="jobs",
    within="settle_completed",
    old="WHERE l.job_id = d.job_id AND l.token = d.token",
    new="WHERE l.job_id = d.job_id",
)
LATE_FAILURE = Mutation(
    name="other endings are not fenced",
    module="jobs",
    within="settle_others",
    old="WHERE l.job_id = d.job_id AND l.token = d.token",
    new="WHERE l.job_id = d.job_id",
)
PARENT_THAT_ENDS_TWICE = Mutation(
    name="an edge is settled each time its parent ends",
    module=FUNCTIONS,
    within="settle_edges",
    old="WHERE d.parent_id = ANY (parents) AND d.state = 'waiting'",
    new="WHERE d.parent_id = ANY (parents)",
)
KEY_OF_A_COMPLETED_JOB = Mutation(
    name="a unique key outlives its job",
    module="jobs",
    within="settle_completed",
    old="AND NOT perdure.counts_in(s.unique_states, 'completed')",
    new="AND false",
)
CLAIM_WITH_GATED_JOBS = Mutation(
    name="the limit of a claim counts gated jobs twice",
    module=FUNCTIONS,
    within="claim",
    old="WHERE NOT b.gated GROUP BY",
    new="GROUP BY",
)
STOLEN_KEY = Mutation(
    name="a retry takes its unique key back by force",
    module="jobs",
    within="settle_others",
    old="WHERE u.expires_at <= now() RETURNING",
    new="RETURNING",
)
WEDGED_BATCH = Mutation(
    name="a unique conflict wedges a batch",
    module="jobs",
    within="settle_others",
    old="""    ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, states = excluded.states, expires_at = excluded.expires_at
    WHERE u.expires_at <= now() RETURNING""",
    new="    RETURNING",
)
TWO_LEADERS = Mutation(
    name="two leaders",
    module="leadership",
    within="elect",
    old="WHERE l.holder = excluded.holder OR l.expires_at < now() OR l.expires_at > now() + interval '310 seconds'",
)
TWO_TRANSACTIONS = Mutation(
    name="a parent is accepted and its child released in two transactions",
    module="jobs",
    within="settle_completed",
    old="WHERE (SELECT true FROM perdure.job_dependencies d",
    new="WHERE false AND (SELECT true FROM perdure.job_dependencies d",
)


class JobsInTwoTransactions(PostgresJobs):
    """Settles and then releases the children, as `TWO_TRANSACTIONS` has it."""

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        settled = await super().settle(settlements)
        done = [
            s.job_id for s in settlements if s.token in settled.accepted and s.outcome is Outcome.COMPLETED
        ]
        text = "SELECT * FROM perdure.settle_edges(:parents::uuid[], 'completed')"
        rows = await self._database.fetch(Statement("release", ("parents",), text, ""), done)
        return Settled(accepted=settled.accepted, released=[*settled.released, *places(rows)])


def put_in(mutation: Mutation, store: Store) -> None:
    if mutation.module == FUNCTIONS:
        store.execute(mutation.function())
    if mutation is TWO_TRANSACTIONS:
        store.jobs = JobsInTwoTransactions(store.link)
    store.jobs._sql = mutation.statements("jobs")
    store.elections = mutation.statements("leadership")


def draft(**changed: Any) -> Draft:
    plain = Draft(
        queue="q1", kind="a", gpu=False, priority=3, max_attempts=3, crash_limit=None, far=False, parents=(), inherit=False,
        unique=None, concurrency_key=None,
    )  # fmt: skip
    return replace(plain, **changed)


def claim(limit: int = 1) -> Step:
    return "claim", {"scope": EVERYTHING, "limit": limit, "isolated": False, "worker": 0}


def enqueue(*drafts: Draft) -> Step:
    return "enqueue", {"drafts": list(drafts), "on_duplicate": "raise"}


def settle_one(ending: Ending, place: int = 0) -> Step:
    return "settle", {"endings": [(place, ending)], "late": 1}


def late(ending: Ending) -> list[Step]:
    """A worker falls silent, another gets its job, and the first comes back with a result."""
    lost = settle_one(Crashed(cause="silent", alone=False, host_lost=True))
    return [enqueue(draft()), claim(), lost, claim(), ("settle_late", {"place": 0, "ending": ending})]


EVERYTHING = Scope(queues=QUEUES, kinds=KINDS, labels=("gpu",))
GIVES_UP = Failed(error=ErrorReport(type="E", message="no"), retry_in=timedelta(0), give_up=True)
TWO_PARENTS = draft(parents=((1, OnParentFailure.RUN), (0, OnParentFailure.HOLD)))
UNTIL_START = draft(unique=("u1", 1, False))

DIRECTED: list[tuple[Mutation, list[Step]]] = [
    (LATE_SUCCESS, late(Completed())),
    (LATE_FAILURE, late(GIVES_UP)),
    (
        # The first parent fails, which is enough for its edge, then is retried and succeeds; the other still runs.
        PARENT_THAT_ENDS_TWICE,
        [
            enqueue(draft(), draft(), TWO_PARENTS),
            claim(),
            settle_one(GIVES_UP),
            ("retry", {"place": 0}),
            claim(limit=2),
            settle_one(Completed(), place=1),
        ],
    ),
    (
        # A key that is let go at the start has another holder by the time at which the job goes back.
        STOLEN_KEY,
        [enqueue(UNTIL_START), claim(), enqueue(UNTIL_START), settle_one(replace(GIVES_UP, give_up=False))],
    ),
    (KEY_OF_A_COMPLETED_JOB, [enqueue(draft(unique=("u1", 0, False))), claim(), settle_one(Completed())]),
    (
        WEDGED_BATCH,
        [enqueue(UNTIL_START), claim(), enqueue(UNTIL_START), settle_one(replace(GIVES_UP, give_up=False))],
    ),
    (TWO_LEADERS, [("elect", {"who": 0}), ("elect", {"who": 1})]),
    (
        # Only a connection that breaks between the two shows it.
        TWO_TRANSACTIONS,
        [
            enqueue(draft(), draft(parents=((0, OnParentFailure.HOLD),))),
            claim(),
            ("settle_cut", {"endings": [(0, Completed())], "transactions": 1}),
        ],
    ),
    (CLAIM_WITH_GATED_JOBS, [enqueue(draft(concurrency_key="c1"), draft(), draft()), claim(limit=2)]),
]


def play(store: Store, steps: Sequence[Step]) -> None:
    """One history on the machine, compared with the model after each step and judged at the end."""
    machine = type("Directed", (StoreMachine,), {"store": store})()
    for name, drawn in steps:
        getattr(machine, name)(**drawn)
        compare(store.present(), machine.model)
    machine.teardown()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_random_histories_find_a_missing_guard(database_url: str, mutation: Mutation) -> None:
    with Store(database_url) as opened:
        put_in(mutation, opened)
        histories = type("Histories", (StoreMachine,), {"store": opened})
        with pytest.raises(Exception):  # noqa: B017, PT011 - how it shows depends on the guard and on the history
            run_state_machine_as_test(histories, settings=FEW)


@pytest.mark.parametrize(
    ("mutation", "steps"), DIRECTED, ids=lambda value: str(value) if isinstance(value, Mutation) else ""
)
def test_a_short_history_finds_a_missing_guard(
    database_url: str, mutation: Mutation, steps: list[Step]
) -> None:
    with Store(database_url) as store:
        play(store, steps)
    with Store(database_url) as store:
        put_in(mutation, store)
        with pytest.raises((AssertionError, asyncpg.PostgresError, InvalidInput)):
            play(store, steps)


WAITING_CLAIM = Mutation(
    name="a claim waits for what another has locked",
    module=FUNCTIONS,
    within="claim",
    old="FOR UPDATE SKIP LOCKED",
    new="FOR UPDATE",
)
BLIND_RESOLVER = Mutation(
    name="a child is verified while its parent's end is not committed",
    module=FUNCTIONS,
    within="resolve_blocked",
    old="coalesce(b.looked_xid <= pg_snapshot_xmin(seen), false)",
    new="b.xid < pg_snapshot_xmin(seen)",
)


@pytest.mark.parametrize("mutation", [None, WAITING_CLAIM], ids=str)
def test_a_claim_passes_over_what_another_has_locked(database_url: str, mutation: Mutation | None) -> None:
    with Store(database_url) as store:
        if mutation:
            put_in(mutation, store)
        first, second = (job_of(id=job_id, queue="q1", kind="a") for job_id in two_ids())
        store.run(store.jobs.enqueue([first, second]))
        store.execute("BEGIN")
        store.execute("SELECT FROM perdure.available_jobs WHERE job_id = $1 FOR UPDATE", first.id)
        claimer = Claimer(worker_id=store.new_worker(), process=0)
        claimed = asyncio.wait_for(store.dispatch().claim(claimer, EVERYTHING, limit=1), 2)
        if mutation is None:
            assert [lease.job_id for lease in store.run(claimed)] == [second.id]
        else:
            with pytest.raises((TimeoutError, DatabaseUnavailable)):
                store.run(claimed)
        store.execute("ROLLBACK")


@pytest.mark.parametrize("mutation", [None, BLIND_RESOLVER], ids=str)
def test_a_child_written_while_its_parent_ended_is_released(
    database_url: str, mutation: Mutation | None
) -> None:
    """Neither transaction sees the other's row; the resolver must look until it is certain that both are over."""
    with Store(database_url) as store:
        if mutation:
            put_in(mutation, store)
        parent, child = two_ids()
        store.run(store.jobs.enqueue([job_of(id=parent, queue="q1", kind="a")]))
        claimer = Claimer(worker_id=store.new_worker(), process=0)
        (lease,) = store.run(store.dispatch().claim(claimer, EVERYTHING, limit=1))
        settling = store.run(connect(database_url, application_name="settling"))
        batch = encode_jobs(
            [job_of(id=child, queue="q1", kind="a", depends_on=(Dependency(parent_id=parent),))]
        )
        store.execute("BEGIN")
        store.execute("SELECT * FROM perdure.enqueue_jobs($1)", batch)
        store.run(settling.execute("BEGIN"))
        text = store.jobs._sql["settle_completed"].numbered()
        store.run(settling.fetch(text, *_completed([settle(lease, Completed())])))
        store.execute("COMMIT")
        look_twice(store)
        store.run(settling.execute("COMMIT"))
        look_twice(store)
        store.run(settling.close())
        assert store.live()[JobState.AVAILABLE] == (mutation is None)
        assert store.judge().ok == (mutation is None)


def look_twice(store: Store) -> None:
    for _ in range(2):
        store.execute("UPDATE perdure.blocked_jobs SET look_at = now()")
        store.run(store.jobs.resolve(limit=10))


def two_ids() -> tuple[JobId, JobId]:
    new_id = JobIds(time.time_ns, Random().randbytes)
    return new_id(), new_id()


def test_a_child_that_one_end_cancels_and_another_would_free_is_cancelled(database_url: str) -> None:
    """Its parent gives up, and with that another parent is cancelled, whose end would let it run."""
    doomed = draft(parents=((0, OnParentFailure.CANCEL),))
    both = draft(parents=((1, OnParentFailure.CANCEL), (0, OnParentFailure.RUN)))
    with Store(database_url) as store:
        play(store, [enqueue(draft(), doomed, both), claim(), settle_one(GIVES_UP)])
        assert store.live()[JobState.AVAILABLE] == 0
