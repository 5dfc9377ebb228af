"""Restores in place: by a plan, forward only, in steps that a crash may interrupt anywhere, and taken back by another one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from perdure.domain.errors import Conflict, InvalidOption, NotFound, PastUnknown, SnapshotUnusable
from perdure.domain.job import Dependency, OnParentFailure, UniqueRule
from perdure.domain.restore import Circumstance, Conflicts, Phase, RestoreScope
from perdure.domain.settlement import Completed, Interrupted
from perdure.runtime.restoring import StalledRestores
from perdure.runtime.settings import Settings
from perdure.services.restore import HOLD, Terms
from perdure.services.snapshot import Snapshots
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.archive import PostgresArchive
from perdure.stores.postgres.dispatch import LANES_S
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.restores import PostgresCuts, PostgresPlans, PostgresRestores
from tests.support.restoring import (
    KIM,
    Crash,
    CrashingDatabase,
    counted,
    ids,
    in_place,
    judged,
    marked,
    outcomes,
    standings,
    story,
)
from tests.support.system import System, failure, system_on
from tests.support.writers import Writers


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


async def test_a_plan_counts_and_names_every_job_by_what_became_of_it(system: System) -> None:
    """Nothing is changed by it."""
    told = await story(system)
    before = await standings(system)
    plan = await in_place(system).plan(told.cut, KIM)
    assert counted(plan) == {
        ("completed_since", "keep"): 1,
        ("failed_since", "requeue"): 2,
        ("cancelled_since", "requeue"): 2,
        ("running_now", "drain"): 1,
        ("created_since", "keep"): 1,
        ("started_since", "keep"): 1,
        ("reopened_since", "keep"): 1,
        ("same_lease", "keep"): 1,
        ("still_live", "keep"): 2,
    }
    named = {name: {told.name_of(job) for job in ids(plan, name)} for name in Circumstance}
    assert named[Circumstance.FAILED_SINCE] == {"failed", "parent"}
    assert named[Circumstance.CANCELLED_SINCE] == {"cancelled", "doomed"}
    assert named[Circumstance.STILL_LIVE] == {"waits", "held"}
    assert named[Circumstance.REOPENED_SINCE] == {"dead"}
    assert plan.changes == 5
    again = await in_place(system).plan(told.cut, KIM, conflicts=Conflicts(rerun=("k.completed",)))
    assert counted(again)["completed_since", "rerun"] == 1, "to name a kind is enough, whatever the policy"
    assert await standings(system) == before


async def test_merge_brings_back_what_failed_with_its_counts_and_keeps_what_was_done(system: System) -> None:
    """What ran is waited for, a child waits for its parent again, and all promises hold."""
    told = await story(system)
    service = in_place(system)
    plan = await service.plan(told.cut, KIM)
    await system.end(told.lease, Completed(result='"late"'))
    done = await service.apply(plan.id, KIM, digest=plan.digest)
    assert (done.phase, outcomes(done), done.conflicts) == (Phase.DONE, {"done": 4}, [])
    now = {told.name_of(job): standing for job, standing in (await standings(system)).items()}
    assert now["completed"][:2] == ("completed", 1)
    assert now["runs"][:2] == ("completed", 1)
    assert now["failed"][:4] == ("scheduled", 1, 0, 0), "it had failed once, and was to be tried again later"
    assert now["cancelled"][:2] == ("available", 0)
    assert now["parent"][:2] == ("available", 0)
    assert now["held"] == ("pending", 0, 0, 0, False, ["waiting"])
    assert now["doomed"] == ("pending", 0, 0, 0, False, ["waiting"])
    assert now["new"][:1] == ("available",)
    await judged(system)
    await system.run(kind="k.parent")
    assert await system.state(told.jobs["doomed"]) == "available"
    assert await system.state(told.jobs["held"]) == "available"
    await judged(system)
    event = await system.sql.fetchrow(
        "SELECT actor, reason, detail ->> 'restore' AS restore FROM perdure.job_events WHERE event = 'restored' AND job_id = $1",
        told.jobs["failed"],
    )
    assert event is not None
    assert tuple(event) == (KIM.actor, KIM.reason, str(plan.id))
    then = await marked(system)
    await system.sql.execute("UPDATE perdure.scheduled_jobs SET run_at = now()")
    await system.jobs.stage(limit=10)
    await system.run(kind="k.failed")
    past = await system.read.jobs("state:scheduled", as_of=then.at)
    assert told.jobs["failed"] in [job.id for job in past.jobs], (
        "it waited for the time that it had been given back"
    )


async def test_what_was_available_again_after_it_had_failed_comes_back_with_its_counts(
    system: System,
) -> None:
    """So that a restore gives nobody more attempts than were left."""
    job = await system.add(max_attempts=3)
    await system.run(failure("once", retry_in=0))
    await system.jobs.stage(limit=1)
    await system.run(Interrupted(cause="deploy", started=True))
    cut = await marked(system)
    then = (await standings(system))[job]
    assert then[:4] == ("available", 1, 0, 1)
    await system.run(failure("for good", give_up=True))
    service = in_place(system)
    plan = await service.plan(cut, KIM)
    await service.apply(plan.id, KIM, digest=plan.digest)
    assert (await standings(system))[job] == then
    await judged(system)


async def test_overwrite_makes_all_as_it_was_but_repeats_only_work_that_is_named(system: System) -> None:
    """What runs is fenced: its late result is refused. What is new is cancelled, what was dead is dead again."""
    told = await story(system)
    service = in_place(system)
    plan = await service.plan(told.cut, KIM, conflicts=Conflicts(policy="overwrite", rerun=("k.completed",)))
    done = await service.apply(plan.id, KIM, digest=plan.digest)
    assert (done.phase, outcomes(done)) == (Phase.DONE, {"done": 7, "fenced": 1})
    now = {told.name_of(job): standing for job, standing in (await standings(system)).items()}
    assert now["completed"][:2] == ("available", 0)
    assert (now["dead"][0], now["dead"][4]) == ("discarded", True), "its dead letter is back"
    assert now["new"][0] == "cancelled"
    assert now["runs"][:4] == ("available", 0, 0, 0)
    assert now["ran_before"][0] == "running"
    assert not (await system.end(told.lease, Completed(result="1"))).accepted
    await judged(system)

    kept = await service.plan(told.cut, KIM, conflicts=Conflicts(policy="overwrite"))
    assert ("completed_since", "rerun") not in counted(kept)


async def test_skip_changes_nothing(system: System) -> None:
    told = await story(system)
    before = await standings(system)
    service = in_place(system)
    plan = await service.plan(told.cut, KIM, conflicts=Conflicts(policy="skip"))
    done = await service.apply(plan.id, KIM, digest=plan.digest)
    assert (done.phase, done.changes) == (Phase.DONE, 0)
    assert await standings(system) == before


@pytest.mark.parametrize("policy", ["merge", "overwrite"])
async def test_a_restore_is_undone_by_a_restore_and_that_by_another(system: System, policy: str) -> None:
    told = await story(system)
    await system.end(told.lease, Completed(result="1"))
    before = await standings(system)
    service, cuts = in_place(system), PostgresCuts(system.database)
    conflicts = Conflicts(policy=policy, rerun=("k.completed",) if policy == "overwrite" else ())
    plan = await service.plan(told.cut, KIM, conflicts=conflicts)
    await service.apply(plan.id, KIM, digest=plan.digest)
    restored = await standings(system)
    assert restored != before
    undoing = await service.plan_undoing(plan.id, await cuts.before(plan.id), KIM)
    await service.apply(undoing.id, KIM, digest=undoing.digest)
    undone = await standings(system)
    assert {job: (s[0], *s[4:]) for job, s in undone.items()} == {
        job: (s[0], *s[4:]) for job, s in before.items()
    }
    await judged(system)
    again = await service.plan_undoing(undoing.id, await cuts.before(undoing.id), KIM)
    await service.apply(again.id, KIM, digest=again.digest)
    assert await standings(system) == restored
    await judged(system)


async def test_a_crash_at_any_step_comes_to_the_same_end(
    system: System, database_url: str, empty_database_url: str
) -> None:
    """One process after the other dies with the first change that it commits; nothing is lost and nothing done twice."""
    deaths, ended = await _overwritten(system, crashing=True)
    await migrate(empty_database_url)
    async with system_on(empty_database_url) as undisturbed:
        assert await _overwritten(undisturbed, crashing=False) == (0, ended)
    assert deaths >= 10, "too few steps to prove anything"
    await judged(system)


async def _overwritten(system: System, *, crashing: bool) -> tuple[int, dict[str, object]]:
    """A story is restored; gives how many processes died, and the end of each job with its run and its number of events."""
    told = await story(system)
    conflicts = Conflicts(policy="overwrite", rerun=("k.completed",))
    plan = await in_place(system).plan(told.cut, KIM, conflicts=conflicts)
    deaths = 0
    while True:
        service = in_place(system, CrashingDatabase(system.database) if crashing else None)
        try:
            if deaths:
                done = await service.carry_on(plan.id)
            else:
                done = await service.apply(plan.id, KIM, digest=plan.digest)
        except Crash:
            deaths += 1
            continue
        break
    assert done.phase is Phase.DONE
    now = await standings(system)
    rows = await system.sql.fetch(
        "SELECT j.id, s.run, (SELECT count(*) FROM perdure.job_events v WHERE v.job_id = j.id AND v.event = 'restored') AS events"
        " FROM perdure.jobs j CROSS JOIN LATERAL perdure.standing(j.id) s"
    )
    return deaths, {told.name_of(row["id"]): (*now[row["id"]], row["run"], row["events"]) for row in rows}


async def test_what_has_moved_on_since_the_plan_is_refused(system: System) -> None:
    """Unless that many may; then they are dealt with as they are."""
    told = await story(system)
    service = in_place(system)
    plan = await service.plan(told.cut, KIM)
    await system.control.retry([told.jobs["cancelled"]], KIM)
    before = await standings(system)
    with pytest.raises(Conflict, match="1 jobs are no longer as they were"):
        await service.apply(plan.id, KIM, digest=plan.digest)
    with pytest.raises(Conflict, match="digest"):
        await service.apply(plan.id, KIM, digest="0" * 64)
    assert await standings(system) == before
    await system.end(told.lease, Completed(result="1"))
    done = await service.apply(plan.id, KIM, digest=plan.digest, terms=Terms(tolerance=1))
    assert (done.phase, outcomes(done)) == (Phase.DONE, {"done": 3})
    with pytest.raises(Conflict, match="is done, not planned"):
        await service.apply(plan.id, KIM, digest=plan.digest)


async def test_while_it_is_under_way_its_lanes_are_not_claimed_from(system: System) -> None:
    """And no other restore begins; what still runs when the time is up is fenced."""
    told = await story(system)
    await system.add("k.free", queue="other")
    restores, service = PostgresRestores(system.database), in_place(system)
    plan = await service.plan(told.cut, KIM, scope=RestoreScope(queues=("default",)))
    other = await service.plan(told.cut, KIM)
    assert await restores.begin(plan.id, digest=plan.digest, drain=timedelta(0), tolerance=0, by=KIM)
    assert await system.claim(kind="k.new") == []
    with pytest.raises(Conflict, match="another restore is under way"):
        await restores.begin(other.id, digest=other.digest, drain=timedelta(0), tolerance=0, by=KIM)
    why = await system.read.explain(told.jobs["new"])
    assert f"restore {plan.id}" in str(why)
    done = await service.carry_on(plan.id)
    assert outcomes(done) == {"done": 4, "fenced": 1}
    assert not (await system.end(told.lease, Completed(result="1"))).accepted
    assert [lease.job_id for lease in await system.claim(kind="k.new")] == [told.jobs["new"]]


async def test_nothing_moves_before_every_claimer_has_seen_that_the_lanes_are_held(system: System) -> None:
    """A claimer goes by lanes that may be a second old, so a restore waits longer than that."""
    assert timedelta(seconds=LANES_S) * 2 <= HOLD
    told = await story(system)
    before = await standings(system)
    waited: list[tuple[Phase, bool]] = []

    async def pause(_: float) -> None:
        phase = (await PostgresRestores(system.database).get(plan.id)).phase
        waited.append((phase, await standings(system) == before))
        await system.sql.execute("UPDATE perdure.restores SET begun_at = begun_at - interval '1 minute'")

    service = in_place(system, pause=pause, hold=timedelta(minutes=1))
    plan = await service.plan(told.cut, KIM)
    done = await service.apply(plan.id, KIM, digest=plan.digest, terms=Terms(drain=timedelta(0)))
    assert waited == [(Phase.HOLDING, True)]
    assert done.phase is Phase.DONE


async def test_a_job_that_somebody_brings_back_meanwhile_is_left_to_them(system: System) -> None:
    """After the plan was drawn for the last time, and before its turn: it is noted as moved, and stands in one place."""
    told = await story(system)
    restores, service = PostgresRestores(system.database), in_place(system)
    plan = await service.plan(told.cut, KIM)
    assert await restores.begin(plan.id, digest=plan.digest, drain=timedelta(0), tolerance=0, by=KIM)
    while (restore := await restores.get(plan.id)).phase is not Phase.WRITING:
        await service._step(restore)
    await system.control.retry([told.jobs["failed"]], KIM)
    theirs = (await standings(system))[told.jobs["failed"]]
    done = await service.carry_on(plan.id)
    assert (done.phase, outcomes(done)["moved"]) == (Phase.DONE, 1)
    assert (await standings(system))[told.jobs["failed"]] == theirs
    await judged(system)


async def test_the_leader_carries_on_what_was_left_in_the_middle(system: System, database_url: str) -> None:
    """Once nobody has touched it for a while; and it forgets plans of long ago."""
    told = await story(system)
    restores, service = PostgresRestores(system.database), in_place(system)
    plan = await service.plan(told.cut, KIM, scope=RestoreScope(graph=told.jobs["held"]))
    await service.plan(told.cut, KIM)
    await restores.begin(plan.id, digest=plan.digest, drain=timedelta(0), tolerance=0, by=KIM)
    leader = StalledRestores(Settings(database_url=SecretStr(database_url)), system.database)
    assert await leader.run_once() is None, "somebody is at it"
    await system.sql.execute(
        "UPDATE perdure.restores SET touched_at = now() - interval '1 minute', planned_at = now() - interval '31 days'"
    )
    done = await leader.run_once()
    assert done is not None
    assert (done.id, done.phase) == (plan.id, Phase.DONE)
    assert [each.id for each in await PostgresPlans(system.database).newest(9)] == [plan.id]
    assert await system.state(told.jobs["parent"]) == "available"


async def test_one_graph_is_restored_and_nothing_else(system: System) -> None:
    told = await story(system)
    service = in_place(system)
    plan = await service.plan(told.cut, KIM, scope=RestoreScope(graph=told.jobs["held"]))
    assert {told.name_of(job) for case in plan.cases for job in case.sample} == {"parent", "held", "doomed"}
    assert not plan.holds
    await service.apply(plan.id, KIM, digest=plan.digest)
    now = {told.name_of(job): standing[0] for job, standing in (await standings(system)).items()}
    assert (now["parent"], now["held"], now["doomed"]) == ("available", "pending", "pending")
    assert (now["failed"], now["cancelled"], now["runs"]) == ("discarded", "cancelled", "running")
    await judged(system)


async def test_a_snapshot_is_a_cut_to_go_back_to_while_its_history_is_here(
    system: System, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    """Of this system, before the loss of its database and after; the snapshot of another is refused."""
    job = await system.add()
    snapshots = Snapshots(PostgresArchive(database_url), ObjectVault(str(tmp_path)))
    manifest = await snapshots.create()
    await system.control.cancel([job], KIM)
    plan = await in_place(system).plan(await PostgresCuts(system.database).of_snapshot(manifest), KIM)
    assert counted(plan) == {("cancelled_since", "requeue"): 1}
    await snapshots.restore(
        (await snapshots.create()).id, PostgresArchive(empty_database_url), fork=False, actor="kim"
    )
    async with system_on(empty_database_url) as restored:
        service, cuts = in_place(restored), PostgresCuts(restored.database)
        assert [each.phase for each in await PostgresPlans(restored.database).newest(9)] == [Phase.ABANDONED]
        again = await service.plan(await cuts.of_snapshot(manifest), KIM)
        await service.apply(again.id, KIM, digest=again.digest)
        assert await restored.state(job) == "available"
        await restored.sql.execute("UPDATE perdure.installation SET id = gen_random_uuid()")
        with pytest.raises(SnapshotUnusable, match="of another system"):
            await cuts.of_snapshot(manifest)
    await system.sql.execute(f"DROP TABLE perdure.job_executions_{manifest.days[0]:%Y%m%d}")
    with pytest.raises(PastUnknown, match="no longer kept"):
        await PostgresCuts(system.database).of_snapshot(manifest)


async def test_a_unique_key_that_a_newer_job_holds_wins(system: System) -> None:
    """The job that cannot come back is named among the conflicts, as is a child whose parent is not restored."""
    unique = UniqueRule(key="one")
    old = await system.add("k.keyed", unique=unique)
    parent = await system.add("k.parent")
    child = await system.add(
        "k.child", depends_on=(Dependency(parent_id=parent, on_failure=OnParentFailure.CANCEL),)
    )
    cut = await marked(system)
    await system.control.cancel([old], KIM)
    await system.control.cancel([parent], KIM)
    newer = await system.add("k.keyed", unique=unique)
    service = in_place(system)
    plan = await service.plan(cut, KIM, scope=RestoreScope(kinds=("k.keyed", "k.child")))
    done = await service.apply(plan.id, KIM, digest=plan.digest)
    assert {case.outcome: list(case.sample) for case in done.conflicts} == {
        "unique key taken": [old],
        "parent failed": [child],
    }
    assert (await system.state(old), await system.state(newer)) == ("cancelled", "available")
    await judged(system)


async def test_a_broken_promise_keeps_the_lanes_held_until_somebody_lets_them_go(system: System) -> None:
    told = await story(system)
    service = in_place(system)
    plan = await service.plan(told.cut, KIM, conflicts=Conflicts(policy="skip"))
    await system.sql.execute("DELETE FROM perdure.available_jobs WHERE job_id = $1", told.jobs["waits"])
    done = await service.apply(plan.id, KIM, digest=plan.digest, terms=Terms(tolerance=9))
    assert done.phase is Phase.BROKEN
    assert "S1" in done.report
    assert await system.claim(kind="k.new") == []
    assert (await service.release(plan.id, reason="known")).phase is Phase.RELEASED
    assert len(await system.claim(kind="k.new")) == 1
    with pytest.raises(Conflict):
        await service.release(plan.id, reason="again")


async def test_what_cannot_be_meant_is_refused(system: System) -> None:
    told = await story(system)
    service = in_place(system)
    for conflicts in (
        Conflicts(policy="reset"),
        Conflicts(choices={"failed_since": "cancel"}),
        Conflicts(choices={"ended": "keep"}),
        Conflicts(choices={"nothing": "keep"}),
    ):
        with pytest.raises(InvalidOption):
            await service.plan(told.cut, KIM, conflicts=conflicts)
    with pytest.raises(InvalidOption):
        RestoreScope(graph=told.jobs["held"], kinds=("k",))
    for scope in (RestoreScope(queues=("nowhere",)), RestoreScope(graph=UUID(int=7))):
        with pytest.raises(NotFound):
            await service.plan(told.cut, KIM, scope=scope)
    plan = await service.plan(told.cut, KIM)
    with pytest.raises(InvalidOption):
        await service.apply(plan.id, KIM, digest=plan.digest, terms=Terms(tolerance=-1))
    with pytest.raises(Conflict, match="has changed nothing"):
        await PostgresCuts(system.database).before(plan.id)


@pytest.mark.parametrize("seed", range(3))
async def test_after_any_history_a_restore_keeps_the_promises_and_can_be_taken_back(
    system: System, seed: int
) -> None:
    """Among concurrent writers: what was accepted stays, what was live and failed is live again or named, and time travel tells it."""
    writers = await Writers.of(system, seed)
    await writers.together(30)
    cut = await marked(system)
    then = await _states(system, cut.cut)
    await writers.together(30)
    completed = {job for job, standing in (await standings(system)).items() if standing[0] == "completed"}
    service = in_place(system)
    plan = await service.plan(cut, KIM)
    terms = Terms(tolerance=10_000, drain=timedelta(0))
    done, _ = await asyncio.gather(
        service.apply(plan.id, KIM, digest=plan.digest, terms=terms), writers.together(15)
    )
    assert done.phase is Phase.DONE, done.report
    await system.jobs.resolve(limit=1_000)
    now = await standings(system)
    assert all(now[job][0] == "completed" for job in completed)
    touched = {
        item.job_id
        for item in await PostgresPlans(system.database).items(plan.id, after=UUID(int=0), limit=10_000)
    }
    assert touched, "the history is too tame to prove anything"
    quiet = await marked(system)
    told = await _states(system, quiet.cut)
    assert told == {job: standing[0] for job, standing in now.items()}
    assert then.keys() <= now.keys()
    undoing = await service.plan_undoing(plan.id, await PostgresCuts(system.database).before(plan.id), KIM)
    assert (await service.apply(undoing.id, KIM, digest=undoing.digest, terms=terms)).phase is Phase.DONE
    await system.jobs.resolve(limit=1_000)
    await judged(system)


async def _states(system: System, cut: str) -> dict[object, str]:
    rows = await system.sql.fetch(
        "SELECT j.id, s.state::text FROM perdure.jobs j CROSS JOIN LATERAL perdure.standing_at(j.id, $1::text::pg_snapshot) s"
        " WHERE perdure.seen(j.xid, $1::text::pg_snapshot)",
        cut,
    )
    return {row["id"]: row["state"] for row in rows}
