"""Runbooks against their faults: the alert's condition holds, the commands run, and what can be mended at once is over."""

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from perdure.domain.alerts import BY_NAME, RULES, Facts, Step, limits
from perdure.domain.alerts.runbooks import Section
from perdure.domain.job import Dependency
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Interrupted, settle
from perdure.domain.worker import WorkerId
from perdure.ports import By
from perdure.services.alerts import trial
from perdure.services.evacuate import FollowUp
from perdure.stores.postgres.alerts import PostgresAlerts
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.evacuation import PostgresEvacuations
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.runbooks import runbook
from tests.support.command import Command
from tests.support.new_jobs import job_of
from tests.support.receivers import http_receiver
from tests.support.servers import PostgresServer
from tests.support.system import System, failure, new_id, system_on
from tests.support.troubles import BRIEF_LIVES, MODEL_IN_FORCE, OVERDUE_SNAPSHOT, REFUSED_RESTORE
from tests.support.waiting import eventually

OF_THEIR_OWN = {"PerdurePostgresDown", "PerdureConnectionsExhausted", "PerdureLongTransaction"}
"""Each has a test and a server of its own, which it would take away from the others."""
NOT_BROUGHT_ABOUT = {"PerdureNoLeader", "PerdureMetricsAbsent", "PerdureEmbeddingBacklog"}
"""Only a Prometheus sees them; the guide of the runbooks names them."""
OF_THE_LEADER = {"PerdureWorkerFailureLikely", "PerdureRedisDown", "PerdureQdrantDown"}
"""What the database does not know and its leader adds; `tests/services/test_alerts.py` brings them about."""
NEVER_RUN = ("perdure worker run", "perdure serve", "curl")
ALL_BUSY = """
INSERT INTO perdure.worker_samples (worker_id, running, finished, failed, timed_out, retried, crashed)
SELECT w.id, 1, 0, 0, 0, 0, 0 FROM perdure.workers w
"""
OVER_AT_ONCE = {
    "PerdureHeadOfLineStuck",
    "PerdureBacklogWillNotDrain",
    "PerdureDeadLettersMany",
    "PerdureDeadLetterStale",
    "PerdureEvacuationStuck",
    "PerdureJobsOverdue",
    "PerdureQueuePausedTooLong",
    "PerdureTableBloat",
    "PerdureFlowBlocked",
}
"""What its runbook mends without a new worker and without waiting for minutes to pass."""
TARGETS = {
    "PerdureNoWorkers": "orphans",
    "PerdureHeadOfLineStuck": "stuck",
    "PerdureBacklogWillNotDrain": "deep",
    "PerdureErrorRatioHigh": "app.work",
    "PerdureErrorRatioExtreme": "app.work",
    "PerdureQueuePausedTooLong": "still",
    "PerdureNotifierFailing": "webhook",
    "PerdureTableBloat": "leases",
    "PerdureNewErrorFingerprint": "fp-boom",
    "PerdureWorkerFlapping": "here",
}
FINE = {Exit.DONE, Exit.DEGRADED, Exit.CRITICAL}
REFUSED = {"perdure db forgotten": {Exit.NOT_FOUND}}
"""The time of this database never went back, so there is nothing to see."""
UNASKED = {"cancel", "retry", "replay", "discard", "drain", "evacuate"}


@dataclass(frozen=True)
class Scene:
    """A system with everything wrong at once, and what the words in capitals stand for in each runbook."""

    system: System
    words: Mapping[str, Mapping[str, str]]
    usual: Mapping[str, str]

    async def facts(self) -> Facts:
        return await PostgresAlerts(self.system.database).facts()

    def holds(self, facts: Facts, name: str) -> bool:
        return any(found.target == TARGETS.get(name, "") for found in BY_NAME[name].condition(facts))

    def spoken(self, name: str, *sections: Section) -> list[str]:
        """The commands of a runbook with everything filled in."""
        values = {**self.usual, **self.words.get(name, {})}
        words = re.compile(rf"\b({'|'.join(values)})\b")
        book = runbook(name, TARGETS.get(name, ""))
        return [words.sub(lambda match: values[match[0]], line) for line in book.commands(*sections)]


async def fail_in_numbers(system: System, worker: WorkerId) -> None:
    """105 jobs that give up and 320 attempts that are to be repeated, all of which waited for two minutes."""
    await system.add_many(425)
    leases: list[Lease] = []
    while found := await system.claim(worker, limit=200):
        leases += found
    endings = [failure(give_up=number < 105, retry_in=3600) for number in range(len(leases))]
    await system.jobs.settle([settle(lease, one) for lease, one in zip(leases, endings, strict=True)])
    await system.sql.execute(
        "UPDATE perdure.job_executions SET available_at = available_at - interval '2 minutes'"
    )
    await system.sql.execute(
        "UPDATE perdure.dead_letter_queue SET dead_at = dead_at - interval '4 days' WHERE job_id = (SELECT min(job_id::text)::uuid FROM perdure.dead_letter_queue)"
    )


async def refuse_a_result(system: System, worker: WorkerId) -> None:
    await system.add()
    (lease,) = await system.claim(worker)
    await system.jobs.settle([settle(lease, Interrupted(cause="the worker was thought dead"))])
    late = settle(lease, Completed())
    await system.jobs.settle([late])
    await system.jobs.refuse([late], worker)


async def hold(system: System, worker: WorkerId, change: str) -> UUID:
    """A running job whose lease is changed."""
    await system.add()
    (lease,) = await system.claim(worker)
    await system.sql.execute(f"UPDATE perdure.leases SET {change} WHERE job_id = $1", lease.job_id)
    return lease.job_id


async def wait_for_a_dead_letter(system: System) -> None:
    """A job whose parent has given up."""
    parent = await system.sql.fetchval("SELECT job_id FROM perdure.dead_letter_queue LIMIT 1")
    child = job_of(id=new_id(), kind="app.work", queue="default", depends_on=(Dependency(parent_id=parent),))
    await system.jobs.enqueue([child])


async def bloat(system: System, worker: WorkerId) -> None:
    """More than 50,000 dead rows in the table of leases, counted by the server at once."""
    async with system.sql.acquire() as connection:
        await connection.execute(
            "INSERT INTO perdure.leases (job_id, worker_id, rank, available_at, deadline, available_xid, process, lane, band, run, attempt,"
            " crashes, interruptions, suspicion) SELECT gen_random_uuid(), $1, -1, now(), now(), '3', 0, 1, 0, 1, 1, 0, 0, 0"
            " FROM generate_series(1, 60000)",
            worker,
        )
        await connection.execute("DELETE FROM perdure.leases WHERE rank = -1")
        await connection.execute("SELECT pg_stat_force_next_flush()")


async def everything_wrong(system: System) -> Scene:
    await system.worker("lost")
    fine, silent, late = [await system.worker(name) for name in ("fine", "silent", "late")]
    await fail_in_numbers(system, fine)
    await refuse_a_result(system, fine)
    overdue = await hold(system, fine, "deadline = now() - interval '2 minutes'")
    held = await hold(system, late, "deadline = now() + interval '1 hour'")
    await system.add("nobody.knows")
    await system.add(queue="orphans")
    stuck = await system.add(queue="stuck")
    await wait_for_a_dead_letter(system)
    deep = [job_of(id=new_id(), kind="app.work", queue="deep") for _ in range(101)]
    await system.jobs.enqueue(deep)
    await system.add(queue="still")
    await system.control.pause("still", By(actor="ada"))
    await PostgresEvacuations(system.database).evacuate(late, grace=timedelta(0), most=9, by=By(actor="ada"))
    for worker in (silent, await system.worker("deep", queues=("deep", "stuck"))):
        await hold(system, worker, "deadline = now() + interval '1 hour'")
    alerts = PostgresAlerts(system.database)
    await alerts.keep(Step(alerts=(), forgotten=(), fired=(), resolved=()), {"webhook": [trial()]})
    for statement in (
        "UPDATE perdure.workers SET evacuate_by = now() - interval '3 minutes' WHERE name = 'late'",
        "UPDATE perdure.workers SET heartbeat_at = now() - interval '40 seconds' WHERE name = 'silent'",
        "UPDATE perdure.workers SET state = 'dead', stopped_at = now(), cause = 'silent' WHERE name = 'lost'",
        "UPDATE perdure.workers SET deaf = 1 WHERE name = 'fine'",
        "UPDATE perdure.workers SET capacity = 1",  # each has a job
        ALL_BUSY,
        OVERDUE_SNAPSHOT,
        "UPDATE perdure.alert_messages SET tries = 2, error = 'refused'",
        "UPDATE perdure.available_jobs SET available_at = now() - interval '11 minutes' WHERE lane = (SELECT lane FROM perdure.lanes WHERE queue = 'stuck')",
        "UPDATE perdure.jobs j SET enqueued_at = now() - interval '7 hours' FROM perdure.lanes n WHERE n.lane = j.lane AND n.queue = 'deep'",
        "UPDATE perdure.job_executions SET settled_at = settled_at - interval '10 seconds'",
        "UPDATE perdure.job_events SET at = at - interval '10 seconds'",
        "UPDATE perdure.alert_watch SET counted_to = now() - interval '9 minutes'",
        BRIEF_LIVES,
        REFUSED_RESTORE,
    ):
        await system.sql.execute(statement)
    await system.sql.execute(MODEL_IN_FORCE, 0.3)
    await bloat(system, fine)
    letter = await system.sql.fetchval("SELECT job_id FROM perdure.dead_letter_queue LIMIT 1")
    retry = await system.sql.fetchval("SELECT job_id FROM perdure.scheduled_jobs LIMIT 1")
    return Scene(
        system=system,
        words={
            "PerdureWorkerSilent": {"WORKER": str(silent)},
            "PerdureEvacuationStuck": {"WORKER": str(late), "JOB": str(held)},
            "PerdureHeadOfLineStuck": {"JOB": str(stuck)},
            "PerdureJobsOverdue": {"JOB": str(overdue)},
            "PerdureStaleWritesRefused": {"JOB": str(letter)},
        },
        usual={
            "WORKER": str(fine),
            "JOB": str(retry),
            "QUEUE": "default",
            "KIND": "nobody.knows",
            "FINGERPRINT": "fp-boom",
        },
    )


@pytest.fixture
async def scene(database_url: str) -> AsyncIterator[Scene]:
    async with system_on(database_url) as system:
        yield await everything_wrong(system)


async def lead(system: System) -> None:
    """What a new leader does about evacuations; runbooks begin with having one."""
    evacuations, dispatch = PostgresEvacuations(system.database), PostgresDispatch(system.database)
    await FollowUp(evacuations, system.jobs, dispatch, interruption_limit=20).run_once()


async def run(perdure: Command, line: str, url: str) -> None:
    """Run a command as it stands, without being asked; psql's statement goes to the same database."""
    words = shlex.split(line)
    if words[0] == "psql":
        connection = await asyncpg.connect(url)
        victim = None
        try:
            if "PID" in words[-1]:
                victim = await asyncpg.connect(url)
                words[-1] = words[-1].replace("PID", str(victim.get_server_pid()))
            await connection.fetch(words[-1])
        finally:
            await connection.close()
            if victim is not None:
                victim.terminate()
        return
    bulk = [] if "--dry-run" in words or not UNASKED & set(words[1:3]) else ["--yes"]
    ended = await asyncio.to_thread(perdure, *words[1:], *bulk)
    assert ended.code in REFUSED.get(line, FINE), f"{line}\n{ended.err}"


def lines_of(scene: Scene, section: Section) -> dict[str, None]:
    """What all runbooks run, each command once, without what never runs here."""
    every = (line for rule in RULES for line in scene.spoken(rule.name, section))
    return {line: None for line in every if not line.startswith(NEVER_RUN)}


async def test_commands_of_runbooks_run_against_their_faults_and_mend_them(
    scene: Scene, perdure: Command, database_url: str
) -> None:
    apart = NOT_BROUGHT_ABOUT | OF_THEIR_OWN | OF_THE_LEADER
    brought = [rule.name for rule in RULES if rule.name not in apart]
    facts = await scene.facts()
    assert [name for name in brought if not scene.holds(facts, name)] == []
    with http_receiver() as receiver:
        here = perdure.with_variables(PERDURE_ALERT_WEBHOOK=receiver.address)
        looks = lines_of(scene, Section.LOOK)
        for line in looks:
            await run(here, line, database_url)
        await lead(scene.system)
        for line in [*lines_of(scene, Section.MEND), *(lines_of(scene, Section.OVER).keys() - looks.keys())]:
            await run(here, line, database_url)
    await scene.system.control.carry_on_cancel_requests(limit=100)
    await scene.system.sql.execute(
        "DELETE FROM perdure.leases l USING perdure.cancel_requests c WHERE c.job_id = l.job_id"
    )
    after = await scene.facts()
    assert [name for name in sorted(OVER_AT_ONCE) if scene.holds(after, name)] == []


async def follow(perdure: Command, url: str, name: str, *sections: Section, pid: int = 0) -> None:
    """Run what a runbook says, with the session that it is about."""
    usual = {"PID": str(pid), "WORKER": "w1"}
    words = re.compile(rf"\b({'|'.join(usual)})\b")
    for line in runbook(name).commands(*sections):
        await run(perdure, words.sub(lambda match: usual[match[0]], line), url)


async def test_a_transaction_that_is_open_for_long_is_ended_by_its_runbook(
    database_url: str, perdure: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds stand for the quarter of an hour."""
    monkeypatch.setattr(limits, "TRANSACTION_S", 0.2)
    rule = BY_NAME["PerdureLongTransaction"]
    async with system_on(database_url) as system:
        alerts, forgotten = PostgresAlerts(system.database), await asyncpg.connect(database_url)
        await forgotten.execute("BEGIN; SELECT txid_current()")

        async def holds() -> bool:
            return bool(rule.condition(await alerts.facts()))

        await eventually(holds)
        pid = forgotten.get_server_pid()
        await follow(perdure, database_url, rule.name, Section.LOOK, Section.MEND, Section.OVER, pid=pid)
        assert rule.condition(await alerts.facts()) == []
        forgotten.terminate()


async def test_connections_that_run_out_are_freed_by_their_runbook(
    private_postgres: PostgresServer, perdure: Command
) -> None:
    url, rule = private_postgres.url, BY_NAME["PerdureConnectionsExhausted"]
    here = perdure.with_variables(PERDURE_DATABASE_URL=url)
    async with system_on(url) as system:
        await system.worker("w1")
        alerts = PostgresAlerts(system.database)
        leaked = [await asyncpg.connect(url) for _ in range(170)]
        assert rule.condition(await alerts.facts())
        await follow(here, url, rule.name, Section.LOOK)
        for connection in leaked:
            await follow(here, url, rule.name, Section.MEND, pid=connection.get_server_pid())
            if not rule.condition(await alerts.facts()):
                break
        else:
            pytest.fail("all sessions were ended, and there is no room")
        await follow(here, url, rule.name, Section.OVER)
        for connection in leaked:
            connection.terminate()


async def test_a_database_that_is_down_is_told_and_comes_back_by_its_runbook(
    private_postgres: PostgresServer, perdure: Command
) -> None:
    url, name = private_postgres.url, "PerdurePostgresDown"
    here = perdure.with_variables(PERDURE_DATABASE_URL=url)
    await asyncio.to_thread(private_postgres.stop, immediate=True)
    for line in runbook(name).commands(Section.LOOK):
        ended = await asyncio.to_thread(here, *shlex.split(line)[1:])
        assert ended.code == (Exit.CRITICAL if "doctor" in line else Exit.DONE), ended.err
    await asyncio.to_thread(private_postgres.start)
    await follow(here, url, name, Section.MEND, Section.OVER)


def test_the_guide_names_what_is_not_brought_about() -> None:
    from tests.tidy.test_runbooks import INDEX

    text = INDEX.read_text("utf-8")
    assert [name for name in sorted(NOT_BROUGHT_ABOUT) if f"`{name}`" not in text] == []
