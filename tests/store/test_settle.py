"""Settling: fenced by the token, exact for every ending, and never stopped by one job of a batch."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from perdure.domain.job import JobState, UniqueRule
from perdure.domain.liveness import Step
from perdure.domain.settlement import (
    Cancelled,
    Completed,
    Crashed,
    Ending,
    Failed,
    Interrupted,
    Outcome,
    Snoozed,
    settle,
)
from perdure.domain.worker import NewWorker, WorkerId
from perdure.stores.postgres import resting
from perdure.stores.postgres.leases import PostgresLeases
from perdure.stores.postgres.workers import PostgresWorkers
from tests.support.attempts import settle_each
from tests.support.database import Store, after, failure, new_job

pytestmark = pytest.mark.parametrize("store", ["perdure", "other-name"], indirect=True)

FRESH = timedelta(seconds=30)
ENDINGS: Mapping[str, tuple[Ending, str, str]] = {
    "completed": (Completed(result='{"n": 1}'), "completed", "completed"),
    "failed, to be tried again": (failure(retry_in=timedelta(hours=1)), "failed", "retryable"),
    "failed for good": (failure(give_up=True), "failed", "discarded"),
    "timed out": (
        Failed(error=failure().error, retry_in=timedelta(hours=1), timed_out=True),
        "timed_out",
        "retryable",
    ),
    "snoozed": (Snoozed(delay=timedelta(hours=1)), "snoozed", "scheduled"),
    "cancelled": (Cancelled(reason="enough"), "cancelled", "cancelled"),
    "released": (Interrupted(cause="drained", started=False), "released", "available"),
    "interrupted": (Interrupted(cause="deployed"), "interrupted", "available"),
    "crashed": (Crashed(cause="killed", alone=False), "crashed", "available"),
    "crashed alone": (Crashed(cause="killed", alone=True), "crashed", "available"),
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_each_ending_leaves_the_job_in_its_place_and_one_row_of_history(store: Store, how: str) -> None:
    ending, outcome, state = ENDINGS[how]
    job = new_job(max_attempts=3)
    await store.add(job)
    (lease,) = await store.claim()
    settled = await store.end([lease], ending)
    assert settled.accepted == {lease.token}
    assert await store.state(job.id) == state
    (row,) = await store.sql("SELECT * FROM perdure.job_executions")
    assert (row["outcome"], row["state"], row["token"], row["attempt"]) == (outcome, state, lease.token, 1)
    assert row["worker_id"] is not None
    assert row["available_at"] <= row["claimed_at"] <= row["settled_at"]
    assert row["available_xid"] < row["claim_xid"] < row["settle_xid"]
    assert await store.value("SELECT count(*) FROM perdure.leases") == 0
    assert await store.value("SELECT count(*) FROM perdure.dead_letter_queue") == (state == "discarded")
    assert [place.job_id for place in settled.released] == ([job.id] if state == "available" else [])


async def test_a_lost_token_is_refused_and_changes_nothing(store: Store) -> None:
    await store.add(new_job(), new_job(concurrency_key="k"), new_job(unique=UniqueRule(key="u")))
    leases = await store.claim(10)
    before = await store.counts()
    for ending, _, _ in ENDINGS.values():
        forged = [msgspec.structs.replace(lease, token=uuid4()) for lease in leases]
        settled = await store.end(forged, ending)
        assert (settled.accepted, list(settled.released)) == (frozenset(), [])
    assert await store.counts() == before


async def test_only_the_first_of_two_settlements_counts(store: Store) -> None:
    job = new_job()
    await store.add(job)
    (lease,) = await store.claim()
    await store.end([lease], Interrupted(cause="rescued"))
    (again,) = await store.claim()
    assert again.token != lease.token
    assert (await store.end([lease])).accepted == frozenset()
    assert await store.state(job.id) == "running"
    assert (await store.end([again])).accepted == {again.token}


async def test_successes_and_other_endings_are_never_settled_in_one_transaction(store: Store) -> None:
    """Each takes the locks of concurrency keys last, so that no claim waits while it waits for others."""
    jobs = [new_job(max_attempts=3) for _ in ENDINGS]
    await store.add(*jobs)
    leases = {lease.job_id: lease for lease in await store.claim(100)}
    endings = [ending for ending, _, _ in ENDINGS.values()]
    settlements = [settle(leases[job.id], ending) for job, ending in zip(jobs, endings, strict=True)]
    with pytest.raises(ValueError, match="by themselves"):
        await store.jobs.settle(settlements)
    settled = await settle_each(store.jobs, settlements)
    assert len(settled.accepted) == len(jobs)
    assert await store.states(*jobs) == [state for _, _, state in ENDINGS.values()]
    assert await store.value("SELECT count(DISTINCT settle_xid) FROM perdure.job_executions") == 2


async def test_a_released_job_keeps_its_rank(store: Store) -> None:
    first, second = new_job(), new_job()
    await store.add(first)
    await store.add(second)
    (lease,) = await store.claim()
    await store.end([lease], Interrupted(cause="drained", started=False))
    assert [lease.job_id for lease in await store.claim(2)] == [first.id, second.id]


async def test_retries_are_staged_when_their_time_has_come(store: Store) -> None:
    soon, later = new_job(), new_job()
    await store.add(soon, later)
    leases = {lease.job_id: lease for lease in await store.claim(2)}
    await store.end([leases[soon.id]], failure())
    await store.end([leases[later.id]], failure(retry_in=timedelta(hours=1)))
    assert [place.job_id for place in await store.jobs.stage(limit=10)] == [soon.id]
    (lease,) = await store.claim(5)
    assert (lease.job_id, lease.attempt) == (soon.id, 2)
    assert await store.state(later.id) == "retryable"


async def test_attempts_run_out_into_the_dead_letter_queue(store: Store) -> None:
    job = new_job(max_attempts=3)
    await store.add(job)
    for _ in range(3):
        await store.jobs.stage(limit=10)
        await store.finish(job, failure())
    assert await store.state(job.id) == "discarded"
    (letter,) = await store.sql("SELECT * FROM perdure.dead_letter_queue")
    assert (letter["attempt"], letter["fingerprint"]) == (3, "fp-boom")
    assert "attempt 3 of 3" in letter["cause"]
    assert await store.value("SELECT array_agg(attempt ORDER BY settled_at) FROM perdure.job_executions") == [
        1,
        2,
        3,
    ]


async def test_a_late_result_leaves_an_event(store: Store) -> None:
    await store.add(new_job())
    (lease,) = await store.claim()
    late = settle(lease, Completed())
    await store.end([lease], failure())
    await store.jobs.refuse([late], uuid4())
    (event,) = await store.sql("SELECT * FROM perdure.job_events")
    assert (event["event"], event["job_id"]) == ("result_refused", lease.job_id)


async def test_a_result_after_its_time_out_tells_of_no_worker_that_lost_its_claim(store: Store) -> None:
    await store.add(new_job())
    (lease,) = await store.claim()
    late = settle(lease, Completed())
    await store.end([lease], replace(failure(), timed_out=True))
    assert await store.jobs.refuse([late], uuid4()) == {lease.token}
    assert await store.value("SELECT event FROM perdure.job_events") == "result_late"


WAITING_ONLY = frozenset({JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE, JobState.RETRYABLE})


async def test_a_key_that_does_not_count_running_jobs_is_let_go_by_the_claim(store: Store) -> None:
    first, second = (new_job(unique=UniqueRule(key="u", states=WAITING_ONLY)) for _ in range(2))
    await store.add(first)
    assert await store.claim()
    await store.add(second)
    assert await store.value("SELECT job_id FROM perdure.unique_keys") == second.id


async def test_a_rescued_batch_goes_on_when_one_of_it_finds_its_key_taken(store: Store) -> None:
    clashing, successor = (new_job(unique=UniqueRule(key="u", states=WAITING_ONLY)) for _ in range(2))
    others = [new_job() for _ in range(3)]
    await store.add(clashing, *others)
    leases = await store.claim(10)
    await store.add(successor)
    settled = await store.end(leases, Crashed(cause="its worker died", alone=False, host_lost=True))
    assert len(settled.accepted) == 4
    assert await store.states(clashing, successor, *others) == ["discarded"] + ["available"] * 4
    (letter,) = await store.sql("SELECT job_id, cause FROM perdure.dead_letter_queue")
    assert letter["job_id"] == clashing.id
    assert "u was taken" in letter["cause"]
    (event,) = await store.sql("SELECT event, job_id FROM perdure.job_events")
    assert (event["event"], event["job_id"]) == ("unique_clash", clashing.id)


async def test_two_of_one_batch_that_want_the_same_key_back_are_told_apart(store: Store) -> None:
    rivals = [new_job(unique=UniqueRule(key="u", states=WAITING_ONLY)) for _ in range(2)]
    leases = []
    for job in rivals:
        await store.add(job)
        leases += await store.claim()
    await store.end(leases, Interrupted(cause="drained", started=False))
    assert await store.states(*rivals) == ["available", "discarded"]


async def test_a_key_whose_time_is_over_is_not_taken_back(store: Store) -> None:
    rule = UniqueRule(key="u", states=WAITING_ONLY, period=timedelta(milliseconds=1))
    first, second = new_job(unique=rule), new_job(unique=UniqueRule(key="u"))
    await store.add(first)
    leases = await store.claim()
    await store.add(second)
    await store.end(leases, failure())
    assert await store.states(first, second) == ["retryable", "available"]


@pytest.mark.parametrize(
    ("states", "left"),
    [
        ({"completed"}, {"completed"}),
        ({"discarded", "cancelled"}, {"discarded", "cancelled"}),
        (set(), set()),
    ],
)
async def test_a_key_is_held_after_the_end_where_its_states_say_so(
    store: Store, states: set[str], left: set[str]
) -> None:
    counted = WAITING_ONLY | {JobState.RUNNING} | {JobState(state) for state in states}
    endings: dict[str, Ending] = {
        "completed": Completed(),
        "discarded": failure(give_up=True),
        "cancelled": Cancelled(),
    }
    for state, ending in endings.items():
        await store.add(new_job(unique=UniqueRule(key=state, states=counted)))
        await store.end(await store.claim(), ending)
    assert {row["key"] for row in await store.sql("SELECT key FROM perdure.unique_keys")} == left


async def worker_holding(store: Store, jobs: int, **options: Any) -> WorkerId:
    worker = NewWorker(id=WorkerId(uuid4()), name="w", host="h", pid=1, **options)
    await PostgresWorkers(store.database, schema=store.schema).register(worker)
    await store.add(*(new_job() for _ in range(jobs)))
    leases = await store.claim(jobs)
    await store.sql(
        "UPDATE perdure.leases SET worker_id = $1 WHERE job_id = ANY ($2)",
        worker.id,
        [lease.job_id for lease in leases],
    )
    return worker.id


async def test_guardians_find_the_leases_of_the_dead_the_gone_and_the_hung(store: Store) -> None:
    workers, leases = (
        PostgresWorkers(store.database, schema=store.schema),
        PostgresLeases(store.database, schema=store.schema),
    )
    dead, stopped, gone, alive, hung = [await worker_holding(store, 2) for _ in range(5)]
    last = {beat.worker_id: beat.at for beat in await workers.heartbeats()}
    verdict = await workers.declare_dead({dead: last[dead]}, observer=alive, fresh_within=FRESH)
    assert list(verdict) == [dead]
    await workers.stop(stopped, cause="the end")
    await store.sql("DELETE FROM perdure.workers WHERE id = $1", gone)
    await store.sql("UPDATE perdure.leases SET deadline = now() - interval '1 s' WHERE worker_id = $1", hung)
    found = await leases.of_dead(limit=100)
    assert sorted(held.worker_id for held in found) == sorted([dead, stopped, gone] * 2)
    overdue = await leases.overdue(observer=alive, fresh_within=FRESH, steps=(), limit=100)
    assert {held.worker_id for held in overdue} == {hung}
    assert len(await leases.of_dead(limit=3)) == 3
    assert len(await leases.of_process(alive, 0, limit=10)) == 2
    assert await leases.of_process(alive, 1, limit=10) == []
    settled = await store.end(
        [held.lease for held in found], Crashed(cause="dead", alone=False, host_lost=True)
    )
    assert len(settled.accepted) == 6
    assert await leases.of_dead(limit=100) == []


async def test_a_dear_look_for_workers_without_a_row_is_not_repeated_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It walks over all leases that have ended, while they cannot be removed; those of known workers are found meanwhile."""
    leases = PostgresLeases(store.database, schema=store.schema)
    every_look_is_dear(monkeypatch)
    for _ in range(2):
        assert not await leases.of_dead(limit=10)
    stopped, gone = [await worker_holding(store, 1) for _ in range(2)]
    await PostgresWorkers(store.database, schema=store.schema).stop(stopped, cause="the end")
    await store.sql("DELETE FROM perdure.workers WHERE id = $1", gone)
    assert [held.worker_id for held in await leases.of_dead(limit=10)] == [stopped]
    new_leader = PostgresLeases(store.database, schema=store.schema)
    assert {held.worker_id for held in await new_leader.of_dead(limit=10)} == {stopped, gone}
    assert {held.worker_id for held in await new_leader.of_dead(limit=10)} == {stopped, gone}, (
        "found, so again"
    )


def every_look_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that, after two of them, the rest until the next one lasts longer than any test."""
    monkeypatch.setattr(resting, "QUICK_S", 0.0)
    monkeypatch.setattr(resting, "SHARE", 1_000_000)


PAST = "UPDATE perdure.leases SET deadline = now() - $2::interval WHERE worker_id = $1"


async def test_while_a_look_at_all_that_is_overdue_rests_what_is_newly_overdue_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the last look excused, since the clock had stepped after the claim."""
    alive = await worker_holding(store, 1)
    newly, excused, long_ago = [await worker_holding(store, 1) for _ in range(3)]
    every_look_is_dear(monkeypatch)
    stepped = Step(timedelta(minutes=1), timedelta(0))
    for steps, by, found in (((), timedelta(seconds=1), newly), ((stepped,), timedelta(seconds=61), excused)):
        resting_one, new_leader = [PostgresLeases(store.database, schema=store.schema) for _ in range(2)]

        async def overdue(by: PostgresLeases, *steps: Step) -> set[WorkerId]:
            looked = await by.overdue(observer=alive, fresh_within=FRESH, steps=steps, limit=100)
            return {held.worker_id for held in looked}

        await store.sql(PAST, found, by - timedelta(seconds=21))
        assert [await overdue(resting_one, *steps) for _ in range(2)] == [set(), set()]
        await store.sql(PAST, found, by)
        await store.sql(PAST, long_ago, timedelta(hours=1))
        assert await overdue(resting_one, *steps) == {found}
        assert await overdue(new_leader, *steps) == {found, long_ago}
        await store.sql(PAST, found, timedelta(hours=-1))
        await store.sql(PAST, long_ago, timedelta(hours=-1))


async def test_a_look_for_what_is_newly_overdue_that_came_too_late_leaves_it_to_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reaches back from when the database gets to it, and may have waited behind others; so it may not have reached the last one."""
    alive, newly = [await worker_holding(store, 1) for _ in range(2)]
    guardian = PostgresLeases(store.database, schema=store.schema)
    every_look_is_dear(monkeypatch)
    clock = iter((0.0, 0.1, 1.0, 1.1, 10.0, 13.0, 14.0, 14.1))
    monkeypatch.setattr("perdure.stores.postgres.leases.monotonic", lambda: next(clock))
    found = []
    for deadline_passed in (None, None, timedelta(seconds=12), timedelta(seconds=13)):
        if deadline_passed:
            await store.sql(PAST, newly, deadline_passed)
        looked = await guardian.overdue(observer=alive, fresh_within=FRESH, steps=(), limit=100)
        found.append({held.worker_id for held in looked})
    assert found == [set(), set(), set(), {newly}]


async def test_everything_is_looked_at_once_the_clock_has_stepped_or_while_nobody_could_look(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step made overdue lies further back than the last look; and a look of an observer that has not beaten lately is none."""
    alive, hung = [await worker_holding(store, 1) for _ in range(2)]
    every_look_is_dear(monkeypatch)
    stepped = (Step(timedelta(minutes=10), timedelta(seconds=1)),)
    guardian = PostgresLeases(store.database, schema=store.schema)

    async def overdue(*steps: Step) -> set[WorkerId]:
        looked = await guardian.overdue(observer=alive, fresh_within=FRESH, steps=steps, limit=100)
        return {held.worker_id for held in looked}

    assert [await overdue(), await overdue()] == [set(), set()]
    await store.sql(PAST, hung, timedelta(hours=1))
    assert await overdue() == set()
    beat = "UPDATE perdure.workers SET heartbeat_at = now() - $2::interval WHERE id = $1"
    await store.sql(beat, alive, timedelta(hours=1))
    assert await overdue(*stepped) == set()
    await store.sql(beat, alive, timedelta(0))
    assert await overdue(*stepped) == {hung}


async def test_what_was_found_overdue_is_found_until_it_has_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that could not be ended, since a transaction held it, or the database went away."""
    alive, hung = await worker_holding(store, 1), await worker_holding(store, 3)
    guardian = PostgresLeases(store.database, schema=store.schema)
    every_look_is_dear(monkeypatch)
    await store.sql("UPDATE perdure.leases SET deadline = now() - interval '1 h' WHERE worker_id = $1", hung)
    for limit, found in ((2, 2), (2, 2), (4, 3), (4, 3), (4, 3)):
        assert len(await guardian.overdue(observer=alive, fresh_within=FRESH, steps=(), limit=limit)) == found


async def test_the_end_of_a_parent_and_of_a_keyed_job_release_at_once(store: Store) -> None:
    parent, keyed, parked = new_job(), new_job(concurrency_key="k"), new_job(concurrency_key="k")
    child = after(parent)
    await store.add(parent, keyed, parked, child)
    leases = await store.claim(10)
    settled = await store.end(leases)
    assert sorted(place.job_id for place in settled.released) == sorted([parked.id, child.id])
    assert await store.value("SELECT count(*) FROM perdure.parked_jobs") == 0


async def test_every_outcome_of_the_domain_is_one_of_the_database(store: Store) -> None:
    outcomes = await store.value("SELECT enum_range(NULL::perdure.outcome)::text[]")
    states = await store.value("SELECT enum_range(NULL::perdure.job_state)::text[]")
    assert outcomes == [outcome.value for outcome in Outcome]
    assert states == [state.value for state in JobState]
