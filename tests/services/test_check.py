"""The checker passes what the store writes, and catches and names every way in which a promise can be broken."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from perdure.domain.ids import JobIds
from perdure.domain.job import LIVE, Dependency, JobId, JobState, OnParentFailure, UniqueRule
from perdure.domain.lease import Lease
from perdure.domain.settlement import (
    Cancelled,
    Completed,
    Crashed,
    Ending,
    ErrorReport,
    Failed,
    Interrupted,
    settle,
)
from perdure.ports import By, Claimer, Scope
from perdure.services.check import Check, CheckReport, RecordedHistory
from perdure.stores.postgres.connections import Connection
from perdure.stores.postgres.history import PostgresHistory
from perdure.stores.postgres.statements import Statement
from tests.support.new_jobs import job_of
from tests.support.records import ROWS, past_of
from tests.support.servers import PostgresServer
from tests.support.store import CRASH_LIMIT, INTERRUPTION_LIMIT, Store

OPERATOR = By(actor="test", reason="history")
FAILED = Failed(error=ErrorReport(type="E", message="no"), retry_in=timedelta(0))
CRASHED = Crashed(cause="SIGKILL", alone=True)
WAITS = timedelta(days=3)
UNTIL_START = LIVE - {JobState.RUNNING}


class Scene:
    """Jobs known by their kinds, each of which is used once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.worker = store.new_worker()
        self.new_id = JobIds(time.time_ns, Random().randbytes)
        self.ids: dict[str, JobId] = {}

    def add(self, kind: str, *, after: Mapping[str, OnParentFailure] | None = None, **options: Any) -> None:
        edges = tuple(Dependency(parent_id=self.ids[k], on_failure=p) for k, p in (after or {}).items())
        self.ids[kind] = self.new_id()
        new = job_of(id=self.ids[kind], queue="q", kind=kind, depends_on=edges, **options)
        self.store.run(self.store.jobs.enqueue([new]))

    def claim(self, kind: str) -> Lease:
        scope = Scope(queues=("q",), kinds=(kind,))
        for isolated in (False, True):
            claimer = Claimer(worker_id=self.worker, process=0, isolated=isolated)
            for lease in self.store.run(self.store.dispatch().claim(claimer, scope, limit=1)):
                return lease
        raise AssertionError(f"{kind} cannot be claimed")

    def end(self, kind: str, *endings: Ending) -> None:
        """Attempt after attempt, each with its ending."""
        limits = {"crash_limit": CRASH_LIMIT, "interruption_limit": INTERRUPTION_LIMIT}
        for ending in endings:
            settlement = settle(self.claim(kind), ending, **limits)
            assert self.store.run(self.store.jobs.settle([settlement])).accepted
            self.store.run(self.store.jobs.stage(limit=100))


def history(store: Store) -> dict[str, JobId]:
    """A correct history in which every kind of row occurs."""
    scene = Scene(store)
    scene.add("done")
    scene.end("done", Completed(result="1"))
    scene.add("flaky", max_attempts=3)
    scene.end("flaky", FAILED, Completed())
    scene.add("dead", max_attempts=1)
    scene.end("dead", FAILED)
    scene.add("dropped", max_attempts=1)
    scene.end("dropped", FAILED)
    store.run(store.control.drop([scene.ids["dropped"]], OPERATOR))
    scene.add("poison", crash_limit=3)
    scene.end("poison", CRASHED, CRASHED, Completed())
    scene.add("deployed")
    scene.end("deployed", Interrupted(cause="deploy"), Interrupted(cause="deploy"), Completed())
    scene.add("stopped")
    scene.end("stopped", Cancelled())
    scene.add("again", max_attempts=1)
    scene.end("again", FAILED)
    store.run(store.control.retry([scene.ids["again"]], OPERATOR))
    scene.end("again", Completed())
    scene.add("reopened", max_attempts=1)
    scene.end("reopened", FAILED)
    store.run(store.control.retry([scene.ids["reopened"]], OPERATOR))
    scene.add("retries")
    scene.end("retries", Failed(error=FAILED.error, retry_in=WAITS))
    scene.add("later", unique=UniqueRule(key="waits"), delay=WAITS)
    scene.add("later too", delay=WAITS)
    scene.add("ready")
    scene.add("child", after={"done": OnParentFailure.HOLD, "dead": OnParentFailure.RUN})
    scene.end("child", Completed())
    scene.add("held", after={"dead": OnParentFailure.HOLD, "done": OnParentFailure.HOLD})
    scene.add("doomed", after={"dead": OnParentFailure.CANCEL})
    _keyed(scene)
    for _ in range(3):
        store.run(store.jobs.resolve(limit=100))
        store.execute("UPDATE perdure.blocked_jobs SET look_at = now()")
    store.run(store.control.cancel([scene.ids["running"]], OPERATOR))
    store.execute(
        "INSERT INTO perdure.job_progress (job_id, token, fraction) SELECT job_id, token, 0.5 FROM perdure.leases"
    )
    return scene.ids


def _keyed(scene: Scene) -> None:
    """Jobs with concurrency keys and unique keys."""
    for kind in ("slot one", "slot two"):
        scene.add(kind, concurrency_key="c", concurrency_limit=1)
        scene.end(kind, Completed())
    scene.add("running", concurrency_key="c", concurrency_limit=1, unique=UniqueRule(key="runs"))
    scene.end("running", FAILED)
    scene.claim("running")
    scene.add("parked", concurrency_key="c", concurrency_limit=1)
    with pytest.raises(AssertionError):
        scene.claim("parked")
    for kind in ("single one", "single two"):
        scene.add(kind, unique=UniqueRule(key="single"))
        scene.end(kind, Completed())
    scene.add("started", unique=UniqueRule(key="start", states=UNTIL_START))
    scene.claim("started")
    scene.add("starts", unique=UniqueRule(key="start", states=UNTIL_START))


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A statement that breaks a promise for the job of a kind, `$1`, and for that of another, `$2`."""

    promise: str
    clause: str
    kind: str
    sql: str
    other: str = ""

    def __str__(self) -> str:
        return f"{self.promise} {self.clause} ({self.kind})"


FIRST = "(SELECT min(claim_xid::text::bigint) FROM perdure.job_executions WHERE job_id = $1)::text::xid8"
LAST = "(SELECT max(claim_xid::text::bigint) FROM perdure.job_executions WHERE job_id = $1)::text::xid8"
AVAILABLE = "INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run) SELECT"
ENDED = "INSERT INTO perdure.job_executions (job_id, lane, run, attempt, crashes, interruptions, outcome, state) SELECT"
LETTER = (
    "INSERT INTO perdure.dead_letter_queue (job_id, lane, run, attempt, crashes, interruptions, outcome, fingerprint, cause) "
    "SELECT job_id, lane, run, 1, 0, 0, 'failed', 'f', 'no' FROM perdure.job_executions WHERE job_id = $1"
)
BODY = "DELETE FROM perdure.jobs WHERE id = $1"
EXECUTIONS = "UPDATE perdure.job_executions SET"
EDGES = "UPDATE perdure.job_dependencies SET"


def s1(clause: str, kind: str, sql: str) -> Break:
    return Break(promise="S1", clause=clause, kind=kind, sql=sql)


def s4(clause: str, kind: str, sql: str) -> Break:
    return Break(promise="S4", clause=clause, kind=kind, sql=sql)


def s5(clause: str, kind: str, sql: str) -> Break:
    return Break(promise="S5", clause=clause, kind=kind, sql=sql)


OVERLAP = f"{EXECUTIONS} settle_xid = {LAST} WHERE job_id = $1 AND claim_xid = {FIRST}"
LATE = f"{EXECUTIONS} settle_xid = ({LAST}::text::bigint + 1)::text::xid8 WHERE job_id = $1 AND claim_xid = {FIRST}"

BREAKS = [
    s1("a job stands in several places", "later", f"{AVAILABLE} job_id, 0, lane, 0, run FROM perdure.scheduled_jobs WHERE job_id = $1"),
    s1("a job is nowhere", "ready", "DELETE FROM perdure.available_jobs WHERE job_id = $1"),
    s1("a run has neither ended nor a live row", "retries", "DELETE FROM perdure.scheduled_jobs WHERE job_id = $1"),
    s1("a run that was opened has vanished", "reopened", "DELETE FROM perdure.available_jobs WHERE job_id = $1"),
    s1("a job is live in a run that has ended", "done", f"{AVAILABLE} id, 0, lane, 0, 1 FROM perdure.jobs WHERE id = $1"),
    s1("a job is live in a run older than its newest", "retries", f"{EXECUTIONS} run = 3 WHERE job_id = $1"),
    s1("a run has several ends", "stopped", f"{ENDED} job_id, lane, run, 1, 0, 0, 'cancelled', 'cancelled' FROM perdure.job_executions WHERE job_id = $1"),
    s1("a discarded job has no dead letter", "dead", "DELETE FROM perdure.dead_letter_queue WHERE job_id = $1"),
    s1("a discarded job has no dead letter", "dropped", "DELETE FROM perdure.job_events WHERE job_id = $1"),
    s1("a dead letter of a job that is not discarded", "done", LETTER),
    s1("a dead letter of a job that is not discarded", "again", LETTER.replace("$1", "$1 AND run = 1")),
    s1("blocked job without a body", "held", BODY),
    s1("scheduled job without a body", "later", BODY),
    s1("available job without a body", "ready", BODY),
    s1("parked job without a body", "parked", BODY),
    s1("lease without a body", "running", BODY),
    s1("request to cancel without a body", "running", BODY),
    s1("report of progress without a body", "running", BODY),
    s1("dead letter without a body", "dead", BODY),
    s1("unique key without a body", "later", BODY),
    s1("edge to a parent without a body", "child", BODY),
    s1("edge to a child without a body", "done", BODY),
    s1("row of history without a body", "stopped", BODY),
    Break(promise="S2", clause="two leases of a job overlap", kind="flaky", sql=OVERLAP),
    Break(promise="S2", clause="two leases of a job overlap", kind="running", sql="UPDATE perdure.leases SET claim_xid = '3' WHERE job_id = $1"),
    Break(promise="S2", clause="a token was issued twice", kind="flaky", other="done", sql=f"{EXECUTIONS} token = (SELECT token FROM perdure.job_executions WHERE job_id = $1 LIMIT 1) WHERE job_id = $2"),
    Break(promise="S2", clause="a token was issued twice", kind="running", sql=f"{EXECUTIONS} token = (SELECT token FROM perdure.leases WHERE job_id = $1) WHERE job_id = $1"),
    Break(promise="S2", clause="a lease was never claimed", kind="done", sql=f"{EXECUTIONS} claim_xid = NULL WHERE job_id = $1"),
    Break(promise="S3", clause="an outcome was accepted after a later claim", kind="flaky", sql=LATE),
    Break(promise="S3", clause="an attempt follows the accepted end of its run", kind="flaky", sql=f"{EXECUTIONS} state = 'discarded' WHERE job_id = $1 AND claim_xid = {FIRST}"),
    s4("more failures than attempts allowed", "flaky", "UPDATE perdure.jobs SET max_attempts = 1 WHERE id = $1"),
    s4("more failures than attempts allowed", "flaky", f"{EXECUTIONS} outcome = 'timed_out', state = 'discarded', attempt = 4 WHERE job_id = $1 AND state = 'completed'"),
    s4("more crashes alone than allowed", "poison", "UPDATE perdure.jobs SET crash_limit = NULL WHERE id = $1; UPDATE perdure.job_executions SET crashes = 3 WHERE job_id = $1"),
    s4("more interruptions than allowed", "deployed", f"{EXECUTIONS} interruptions = interruptions + 2 WHERE job_id = $1"),
    s4("an attempt is misnumbered", "flaky", f"{EXECUTIONS} attempt = 3 WHERE job_id = $1 AND state = 'completed'"),
    s4("an attempt is misnumbered", "deployed", f"{EXECUTIONS} attempt = 2 WHERE job_id = $1 AND claim_xid = {LAST}"),
    s4("an attempt is misnumbered", "done", f"{EXECUTIONS} attempt = 2 WHERE job_id = $1"),
    s4("crashes or interruptions are miscounted", "poison", f"{EXECUTIONS} crashes = 0 WHERE job_id = $1 AND state = 'completed'"),
    s4("crashes or interruptions are miscounted", "done", f"{EXECUTIONS} crashes = 1 WHERE job_id = $1"),
    s4("a live row miscounts", "retries", "UPDATE perdure.scheduled_jobs SET attempt = 0 WHERE job_id = $1"),
    s4("a live row miscounts", "running", "UPDATE perdure.leases SET crashes = 1 WHERE job_id = $1"),
    s5("a child started before its parent", "done", f"{EXECUTIONS} settle_xid = '999999999' WHERE job_id = $1"),
    s5("a child started before its parent", "child", f"{EDGES} on_failure = 'hold' WHERE child_id = $1"),
    s5("a child started before its parent", "child", f"{EXECUTIONS} claim_xid = '3' WHERE job_id = $1"),
    s5("an edge is satisfied without cause", "held", f"{EDGES} state = 'satisfied' WHERE child_id = $1"),
    s5("a pending job waits for a wrong number of parents", "held", "UPDATE perdure.blocked_jobs SET waiting = 2 WHERE job_id = $1"),
    s5("a pending job waits for a wrong number of parents", "held", f"{EDGES} state = 'satisfied' WHERE child_id = $1"),
    s5("a pending job waits for a parent that has ended", "held", f"{EDGES} on_failure = 'run' WHERE child_id = $1 AND state = 'waiting'"),
    Break(promise="S6", clause="two leases hold one slot", kind="slot two", sql=f"{EXECUTIONS} settle_xid = {FIRST} WHERE concurrency_key = 'c' AND claim_xid < {FIRST}"),
    Break(promise="S6", clause="two leases hold one slot", kind="slot one", sql=f"{EXECUTIONS} settle_xid = '999999999' WHERE job_id = $1"),
    Break(promise="S6", clause="a lease is outside its limit", kind="running", sql="UPDATE perdure.leases SET slot = 2 WHERE job_id = $1"),
    Break(promise="S6", clause="a lease is outside its limit", kind="slot one", sql=f"{EXECUTIONS} slot = NULL, concurrency_key = NULL WHERE job_id = $1"),
    Break(promise="S6", clause="a lease is outside its limit", kind="slot one", sql=f"{EXECUTIONS} concurrency_key = 'd' WHERE job_id = $1"),
    Break(promise="S7", clause="a job that counts does not hold its key", kind="later", sql="DELETE FROM perdure.unique_keys WHERE job_id = $1"),
    Break(promise="S7", clause="a job that counts does not hold its key", kind="later too", sql="UPDATE perdure.jobs SET unique_key = 'waits', unique_states = 31 WHERE id = $1"),
    Break(promise="S7", clause="a job that counts does not hold its key", kind="running", sql="DELETE FROM perdure.unique_keys WHERE job_id = $1"),
    Break(promise="S7", clause="a key is held by a job that does not count", kind="single one", sql="INSERT INTO perdure.unique_keys (key, job_id, states) VALUES ('single', $1, 31)"),
    Break(promise="S7", clause="a key is held by a job that does not count", kind="started", sql="UPDATE perdure.unique_keys SET job_id = $1 WHERE key = 'start'"),
    Break(promise="S7", clause="two jobs of one key were at work at once", kind="single one", other="single two", sql=f"{EXECUTIONS} settle_xid = (SELECT claim_xid FROM perdure.job_executions WHERE job_id = $2) WHERE job_id = $1"),
]  # fmt: skip


class Inside:
    """Reads what the open transaction of one connection sees."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read_all(
        self, *calls: tuple[Statement, tuple[object, ...]], timeout: float
    ) -> list[list[asyncpg.Record]]:
        return [await self._connection.fetch(statement.numbered(), *values) for statement, values in calls]


@dataclass(frozen=True, slots=True)
class Past:
    """A store with a correct history, the ids by kind, and a checker that sees the store's open transaction."""

    store: Store
    ids: Mapping[str, JobId]
    check: Check

    def judge(self, *, drained: bool = False) -> CheckReport:
        return self._judged_by(self.check, drained)

    def judge_in_memory(self, *, drained: bool = False) -> CheckReport:
        """The verdicts of the pure rules on the same rows."""
        past = past_of(self.store.value(ROWS))
        return self._judged_by(Check(RecordedHistory(lambda: past)), drained)

    def _judged_by(self, check: Check, drained: bool) -> CheckReport:
        limits = {"crash_limit": CRASH_LIMIT, "interruption_limit": INTERRUPTION_LIMIT}
        return self.store.run(check.run(**limits, drained=drained))


@pytest.fixture(scope="module")
def kept(postgres_server: PostgresServer, migrated_template: str) -> Iterator[Past]:
    postgres_server.create_database("checked", template=migrated_template)
    with Store(postgres_server.url_of("checked")) as store:
        ids = history(store)
        yield Past(store, ids, Check(PostgresHistory(Inside(store.connection))))
    postgres_server.drop_database("checked")


@pytest.fixture
def past(kept: Past) -> Iterator[Past]:
    """The correct history, to be broken: all changes are taken back."""
    kept.store.execute("BEGIN")
    yield kept
    kept.store.execute("ROLLBACK")


def test_a_correct_history_passes(kept: Past) -> None:
    report = kept.store.judge()
    assert report.ok, report.words()
    assert report.broken == ()
    assert report.words() == ""
    assert all(verdict.looked for verdict in report.verdicts)


def test_the_live_jobs_are_counted_by_state(kept: Past) -> None:
    expected = {"pending": 1, "scheduled": 2, "available": 4, "running": 2, "retryable": 1}
    assert kept.store.judge().live == kept.store.live() == expected


@pytest.mark.parametrize("way", BREAKS, ids=str)
def test_a_broken_promise_is_caught_and_named(past: Past, way: Break) -> None:
    given: list[UUID] = [past.ids[kind] for kind in (way.kind, way.other) if kind]
    for sql in way.sql.split("; "):
        past.store.execute(sql, *given)
    report = past.judge()
    assert way.promise in report.broken
    verdict = next(verdict for verdict in report.verdicts if verdict.promise == way.promise)
    assert verdict.clauses[way.clause] >= 1
    assert any(str(job_id) in example for example in verdict.examples for job_id in given)
    assert f"{way.promise} is broken" in report.words()


@pytest.mark.parametrize("way", BREAKS, ids=str)
def test_the_rules_in_memory_name_the_same_clauses_as_the_statements(past: Past, way: Break) -> None:
    """There is one checker: what a model or an export is judged by is what a database is judged by."""
    for sql in way.sql.split("; "):
        past.store.execute(sql, *(past.ids[kind] for kind in (way.kind, way.other) if kind))
    by_statements, by_rules = past.judge(), past.judge_in_memory()
    assert by_rules.live == by_statements.live
    for said, meant in zip(by_rules.verdicts, by_statements.verdicts, strict=True):
        assert (said.promise, said.clauses, said.looked) == (meant.promise, meant.clauses, meant.looked)


def test_a_correct_history_passes_the_rules_in_memory(kept: Past) -> None:
    report = kept.judge_in_memory()
    assert report.ok, report.words()


def test_what_nothing_holds_back_is_left_over_once_the_backlog_should_have_drained(kept: Past) -> None:
    """Not what waits for its time, nor what a parent holds that gave up."""
    free = {"ready", "reopened", "parked", "starts", "running", "started"}
    for report in (kept.judge(drained=True), kept.judge_in_memory(drained=True)):
        assert report.broken == ("L1",)
        verdict = report.verdicts[-1]
        assert verdict.clauses == {"a job is left over": 4, "a lease is left over": 2}
        told = {
            kind for kind, job_id in kept.ids.items() if any(str(job_id) in one for one in verdict.examples)
        }
        assert told == free


def test_examples_are_few_and_of_every_clause(past: Past) -> None:
    """However many violations of one kind there are, they hide neither the number nor those of another kind."""
    past.store.execute(
        "INSERT INTO perdure.leases (job_id, worker_id, process, lane, band, rank, run, attempt, crashes, interruptions, "
        "suspicion, available_at, available_xid, deadline) SELECT gen_random_uuid(), gen_random_uuid(), 0, 1, 0, 0, 1, 1, 0, "
        "0, 0, now(), '3', now() FROM generate_series(1, 1000)"
    )
    past.store.execute("DELETE FROM perdure.dead_letter_queue")
    verdict = past.judge().verdicts[0]
    assert verdict.violations == 1001
    assert verdict.clauses["lease without a body"] == 1000
    assert len(verdict.examples) == 10
    assert any("dead letter" in example for example in verdict.examples)


def test_what_was_dropped_is_beyond_the_horizon(past: Past) -> None:
    """History of a day whose bodies were dropped is no orphan, and bodies older than the history are not lost."""
    ids, store = past.ids, past.store
    store.execute(
        "UPDATE perdure.jobs SET enqueued_at = now() - interval '9 days' WHERE id = $1", ids["ready"]
    )
    store.execute("DELETE FROM perdure.available_jobs WHERE job_id = $1", ids["ready"])
    store.execute(
        f"{ENDED} perdure.id_floor(now() - interval '9 days'), lane, 1, 1, 0, 0, 'completed', 'completed' FROM perdure.lanes LIMIT 1"
    )
    report = past.judge()
    assert report.ok, report.words()
