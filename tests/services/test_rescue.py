"""Verdicts on workers, and what becomes of their jobs."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from time import monotonic
from uuid import UUID

import pytest

from perdure.domain.liveness import Sight, Step
from perdure.domain.worker import WorkerId
from perdure.services.rescue import Rescue, RescueReport, Rules
from perdure.stores.postgres.callers import complete
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.postgres.leases import PostgresLeases
from tests.support.system import System, system_on

RULES = Rules(
    suspect_after=timedelta(seconds=6),
    dead_after=timedelta(seconds=15),
    crash_limit=3,
    interruption_limit=50,
)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


class Observer:
    """A worker that beats and judges; its own clock goes only when it is told to."""

    def __init__(self, system: System, worker_id: WorkerId) -> None:
        self.system, self.worker_id = system, worker_id
        self.now = 1000.0
        self.seeing_since = -1e6
        self.steps = list[Step]()
        self.rescue = Rescue(
            system.jobs,
            PostgresLeases(system.database),
            system.workers,
            PostgresDispatch(system.database),
            rules=RULES,
            sight=self.sight,
        )

    def sight(self) -> Sight:
        seen = timedelta(seconds=self.now - self.seeing_since)
        return Sight(worker_id=self.worker_id, now=self.now, unbroken_for=seen, steps=self.steps)

    async def look(self, *, after: float = 0.0, beats: bool = True) -> RescueReport:
        """One round, that many seconds after the last one by the observer's clock."""
        self.now += after
        if beats:
            await self.system.workers.beat(self.worker_id, kinds=(), processes=1)
        return await self.rescue.run_once()


async def observer(system: System) -> Observer:
    return Observer(system, await system.worker("observer"))


async def silent(system: System, worker_id: UUID, seconds: float) -> None:
    await system.sql.execute(
        "UPDATE perdure.workers SET heartbeat_at = now() - $2::float * interval '1 second' WHERE id = $1",
        worker_id,
        seconds,
    )


async def clock_steps(system: System, seconds: float) -> None:
    """Set the database's clock forward: everything that it wrote before is so much older now."""
    await system.sql.execute(
        "UPDATE perdure.workers SET heartbeat_at = heartbeat_at - $1::float * interval '1 second'", seconds
    )


async def test_the_jobs_of_a_silent_worker_are_given_back_with_the_cause(system: System) -> None:
    watching = await observer(system)
    worker = await system.worker()
    job = await system.add()
    await system.claim(worker)
    await silent(system, worker, 16)
    await watching.look()
    report = await watching.look(after=6)
    assert (report.dead, report.rescued) == (1, 1)
    assert await system.state(job) == "available"
    assert await system.count("job_executions", "outcome = 'crashed' AND cause LIKE '%fell silent'") == 1
    assert await system.count("workers", "state = 'dead' AND cause LIKE 'silent: last heartbeat%'") == 1


async def test_a_worker_that_is_only_late_is_left_alone(system: System) -> None:
    watching = await observer(system)
    worker = await system.worker()
    job = await system.add()
    await system.claim(worker)
    await silent(system, worker, 12)
    await watching.look()
    report = await watching.look(after=14)
    assert (report.dead, report.rescued) == (0, 0)
    assert await system.state(job) == "running"


async def test_one_look_is_no_verdict(system: System) -> None:
    """However old a heartbeat is, it must have stood still before the observer's own eyes."""
    watching = await observer(system)
    await silent(system, await system.worker(), 3600)
    assert (await watching.look()).dead == 0
    assert (await watching.look(after=5.9)).dead == 0
    assert (await watching.look(after=0.1)).dead == 1


async def test_a_worker_that_beats_between_the_look_and_the_verdict_lives(system: System) -> None:
    watching = await observer(system)
    worker = await system.worker()
    await silent(system, worker, 3600)
    await watching.look()
    last = {beat.worker_id: beat.at for beat in await system.workers.heartbeats()}
    await system.workers.beat(worker, kinds=(), processes=1)
    verdict = await system.workers.declare_dead(
        {worker: last[worker]}, observer=watching.worker_id, fresh_within=RULES.suspect_after
    )
    assert not verdict


@pytest.mark.parametrize("step", [60.0, 3600.0])
async def test_a_clock_that_is_set_forward_kills_nobody_who_beats(system: System, step: float) -> None:
    """The observer may beat first after the step; the others follow at their pace."""
    watching = await observer(system)
    workers = [await system.worker(f"w{n}") for n in range(3)]
    for _ in range(20):
        await watching.look(after=1)
    await clock_steps(system, step)
    assert (await watching.look(after=1, beats=False)).dead == 0
    assert (await watching.look(after=1)).dead == 0
    for worker in workers:
        await system.workers.beat(worker, kinds=(), processes=1)
    for _ in range(14):
        assert (await watching.look(after=1)).dead == 0


async def test_a_clock_that_is_set_back_saves_nobody_who_is_silent(system: System) -> None:
    """Its last heartbeat lies in the future then; what counts is that it stands still."""
    watching = await observer(system)
    await silent(system, await system.worker(), -3600)
    await watching.look()
    assert (await watching.look(after=14.9)).dead == 0
    assert (await watching.look(after=0.1)).dead == 1


async def test_who_does_not_beat_itself_judges_nobody(system: System) -> None:
    """As when something locks the rows of all workers, or the clock has just stepped."""
    watching = await observer(system)
    await silent(system, await system.worker(), 3600)
    await silent(system, watching.worker_id, 7)
    for _ in range(4):
        assert (await watching.look(after=6, beats=False)).dead == 0
    assert (await watching.look(after=1)).dead == 1


async def test_an_observer_that_was_blind_itself_judges_nobody(system: System) -> None:
    """After an outage of the database all heartbeats are old: no mass verdict."""
    watching = await observer(system)
    workers = [await system.worker(f"w{n}") for n in range(3)]
    for worker in workers:
        await silent(system, worker, 600)
    await watching.look()
    watching.seeing_since = watching.now + 20
    assert (await watching.look(after=34)).dead == 0
    assert (await watching.look(after=1)).dead == 3


async def test_a_job_past_its_deadline_is_taken_from_a_worker_that_lives(system: System) -> None:
    watching = await observer(system)
    worker = await system.worker()
    job = await system.add()
    await system.claim(worker)
    await system.sql.execute("UPDATE perdure.leases SET deadline = now() - interval '1 second'")
    assert (await watching.look()).overdue == 1
    assert await system.state(job) == "retryable"
    assert await system.count("job_executions", "outcome = 'timed_out' AND attempt = 1") == 1


@pytest.mark.parametrize("dead", [False, True])
async def test_a_handler_that_is_about_to_end_its_job_itself_holds_up_no_verdict(
    system: System, dead: bool
) -> None:
    """Its open transaction decides on its own job alone: the leader passes over that lease, and ends it later."""
    watching = await observer(system)
    worker = await system.worker()
    slow, hung = await system.add(), await system.add()
    leases = {lease.job_id: lease for lease in await system.claim(worker, limit=2)}
    past = "UPDATE perdure.leases SET deadline = now() - interval '1 second'"
    await system.sql.execute(
        "UPDATE perdure.workers SET state = 'dead' WHERE id = $1" if dead else past, *[worker] * dead
    )
    async with system.sql.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await complete(conn, leases[slow], "done", started=monotonic())
        report = await asyncio.wait_for(watching.look(), 20)
        assert (report.rescued, report.overdue) == ((1, 0) if dead else (0, 1))
        assert await system.state(slow) == "running"
        assert await system.state(hung) != "running"
        await transaction.rollback()
    report = await watching.look()
    assert report.rescued + report.overdue == 1
    assert await system.state(slow) != "running"


async def test_an_observer_that_was_blind_takes_no_handler_for_hung(system: System) -> None:
    """During an outage workers keep the results that they cannot hand in, and deadlines pass: they come first afterwards."""
    watching = await observer(system)
    worker = await system.worker()
    job = await system.add()
    await system.claim(worker)
    await system.sql.execute("UPDATE perdure.leases SET deadline = now() - interval '1 second'")
    watching.seeing_since = watching.now
    assert (await watching.look(after=14)).overdue == 0
    assert await system.state(job) == "running"
    assert (await watching.look(after=1)).overdue == 1


async def test_a_step_of_the_clock_past_a_deadline_ends_no_attempt(system: System) -> None:
    """Neither before a heartbeat has noticed the step nor afterwards; when its own time is up as well, it ends."""
    watching = await observer(system)
    worker = await system.worker()
    job = await system.add()
    await system.claim(worker)
    await system.sql.execute(
        "UPDATE perdure.leases SET deadline = now() - interval '1 second', claimed_at = now() - interval '100 seconds'"
    )
    await clock_steps(system, 60)
    assert (await watching.look(beats=False)).overdue == 0
    watching.steps = [Step(by=timedelta(seconds=60), ago=timedelta(seconds=10))]
    assert (await watching.look()).overdue == 0
    assert await system.state(job) == "running"
    await system.sql.execute("UPDATE perdure.leases SET deadline = now() - interval '61 seconds'")
    assert (await watching.look()).overdue == 1


async def test_a_heartbeat_tells_its_gap_by_the_databases_clock(system: System) -> None:
    worker = await system.worker()
    await silent(system, worker, 100)
    beat = await system.workers.beat(worker, kinds=(), processes=1)
    assert beat is not None
    assert timedelta(seconds=100) <= beat.gap < timedelta(seconds=160)


async def test_a_suspect_gets_no_new_work_and_loses_nothing_until_its_next_heartbeat(system: System) -> None:
    """An alert of severity 3 tells of it, once, well within 5 s of the limit."""
    watching = await observer(system)
    worker = await system.worker()
    first, second = await system.add(), await system.add()
    await system.claim(worker, limit=1)
    await silent(system, worker, 7)
    assert (await watching.look()).suspected == [worker]
    assert (await watching.look(after=1)).suspected == []
    assert await system.claim(worker, limit=1) == []
    assert await system.state(first) == "running"
    assert await system.count("job_events", "event = 'worker_suspected' AND detail ->> 'severity' = '3'") == 1
    await system.workers.beat(worker, kinds=("app.work",), processes=1)
    assert len(await system.claim(worker, limit=1)) == 1
    assert await system.state(second) == "running"
    assert await system.count("job_events", "event = 'worker_recovered'") == 1


async def test_a_death_raises_an_alert(system: System) -> None:
    watching = await observer(system)
    worker = await system.worker()
    await silent(system, worker, 16)
    await watching.look()
    await watching.look(after=6)
    assert await system.count("job_events", "event = 'worker_dead' AND detail ->> 'severity' = '4'") == 1


async def test_nothing_is_taken_while_most_hosts_are_silent_at_once(system: System) -> None:
    """Rather the observer or the network is at fault; an alert of severity 5 tells of it."""
    watching = await observer(system)
    for number in range(4):
        await silent(system, await system.worker(f"w{number}", host=f"host-{number}"), 3600)
    await watching.look()
    report = await watching.look(after=6)
    assert (report.dead, report.held_back) == (0, 4)
    assert (await watching.look(after=14)).dead == 0
    assert await system.count("job_events", "event = 'fleet_silent' AND detail ->> 'severity' = '5'") == 1
    assert (await watching.look(after=2)).dead == 1
