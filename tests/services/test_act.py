"""Acting: what each command changes, what it refuses, and that races end in one legal outcome."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from perdure.domain.errors import (
    DuplicateJob,
    IllegalTransition,
    InvalidFilter,
    InvalidOption,
    NotFound,
)
from perdure.domain.job import Dependency, JobState, OnParentFailure, UniqueRule
from perdure.domain.settlement import Cancelled, Completed
from perdure.domain.views import ActOutcome, ActReport
from perdure.services.act import Act
from tests.support.system import System, failure, system_on

DAY = timedelta(days=1)
BY: dict[str, Any] = {"actor": "ann", "reason": "because"}


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


async def events(system: System, **of: object) -> list[str]:
    ((column, value),) = of.items()
    rows = await system.sql.fetch(
        f"SELECT event, actor, reason FROM perdure.job_events WHERE {column} = $1 ORDER BY at", value
    )
    assert all((row["actor"], row["reason"]) == ("ann", "because") for row in rows)
    return [row["event"] for row in rows]


async def in_state(system: System, state: JobState) -> object:
    """A job that stands in this state."""
    if state is JobState.PENDING:
        return await system.add(after=[await system.add("app.parent")])
    if state is JobState.SCHEDULED:
        return await system.add(delay=DAY)
    job = await system.add()
    match state:
        case JobState.RUNNING:
            await system.claim()
        case JobState.RETRYABLE:
            await system.run(failure())
        case JobState.COMPLETED:
            await system.run(Completed(result="1"))
        case JobState.CANCELLED:
            await system.act.cancel(job, actor="somebody else")
        case JobState.DISCARDED:
            await system.run(failure(give_up=True))
        case _:
            pass
    return job


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("verb", ["cancel", "retry", "replay", "discard"])
async def test_each_verb_does_its_work_or_refuses_with_a_typed_error(
    system: System, verb: str, state: JobState
) -> None:
    job = await in_state(system, state)
    expected = {
        "cancel": {
            JobState.PENDING: "cancelled",
            JobState.SCHEDULED: "cancelled",
            JobState.AVAILABLE: "cancelled",
            JobState.RETRYABLE: "cancelled",
            JobState.RUNNING: "running",
        },
        "retry": dict.fromkeys(
            [JobState.SCHEDULED, JobState.RETRYABLE, JobState.CANCELLED, JobState.DISCARDED], "available"
        ),
        "replay": {JobState.DISCARDED: "available"},
        "discard": {JobState.DISCARDED: "discarded"},
    }[verb]
    act = getattr(system.act, verb)
    before = await system.count("job_events"), await system.count("job_executions")
    if state not in expected:
        for dry_run in (True, False):
            with pytest.raises(IllegalTransition, match=f"is {state} and cannot be"):
                await act(job, dry_run=dry_run, **BY)
        assert (await system.count("job_events"), await system.count("job_executions")) == before
        assert await system.state(job) == state  # type: ignore[arg-type]
        return
    preview: ActReport = await act(job, dry_run=True, **BY)
    assert (preview.matched, preview.changed, preview.dry_run, preview.sample[0].id) == (1, 0, True, job)
    assert await system.state(job) == state  # type: ignore[arg-type]
    report: ActReport = await act(job, **BY)
    assert (report.matched, report.changed) == (1, 1)
    assert await system.state(job) == expected[state]  # type: ignore[arg-type]
    assert await system.count("job_events", "job_id = $1 AND actor = 'ann' AND reason = 'because'", job) == 1


async def test_what_does_not_exist_is_not_found(system: System) -> None:
    for act in (system.act.cancel, system.act.retry, system.act.replay, system.act.discard, system.act.drain):
        for dry_run in (True, False):
            with pytest.raises(NotFound):
                await act(uuid4(), dry_run=dry_run, **BY)
    for switch in (system.act.pause, system.act.resume):
        for dry_run in (True, False):
            with pytest.raises(NotFound):
                await switch("none", dry_run=dry_run, **BY)


async def test_cancelling_lets_children_and_unique_keys_go(system: System) -> None:
    parent = await system.add(unique=UniqueRule(key="k"))
    edge = {policy: Dependency(parent_id=parent, on_failure=policy) for policy in OnParentFailure}
    child = {policy: await system.add(depends_on=(each,)) for policy, each in edge.items()}
    await system.act.cancel(parent, **BY)
    states = {policy: await system.state(job) for policy, job in child.items()}
    assert states == {
        OnParentFailure.HOLD: "pending",
        OnParentFailure.CANCEL: "cancelled",
        OnParentFailure.RUN: "available",
    }
    assert await system.count("unique_keys") == 0
    (row,) = await system.sql.fetch("SELECT * FROM perdure.job_executions WHERE job_id = $1", parent)
    assert (row["state"], row["outcome"], row["cause"], row["token"]) == (
        "cancelled",
        "cancelled",
        "cancelled by ann: because",
        None,
    )


async def test_a_parked_job_is_cancelled_too(system: System) -> None:
    _, parked = await system.add_many(2, concurrency_key="k")
    worker = await system.worker()
    await system.claim(worker)
    await system.claim(worker)
    assert await system.count("parked_jobs") == 1
    await system.act.cancel(parked, **BY)
    assert await system.state(parked) == "cancelled"


async def test_a_running_job_is_asked_to_stop_once_and_its_worker_told(
    system: System, database_url: str
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("perdure_control", lambda *message: heard.put_nowait(str(message[3])))
    job = await system.add()
    worker = await system.worker()
    (lease,) = await system.claim(worker)
    first = await system.act.cancel(job, **BY)
    again = await system.act.cancel(job, **BY)
    assert (first.outcomes, again.outcomes) == ({ActOutcome.REQUESTED: 1}, {ActOutcome.UNCHANGED: 1})
    assert await asyncio.wait_for(heard.get(), 5) == str(worker)
    beat = await system.workers.beat(worker, kinds=["app.work"], processes=1)
    assert beat is not None
    assert beat.cancel == ((job, lease.token),)
    assert await events(system, job_id=job) == ["cancel_requested"]
    await system.end(lease, Cancelled(reason="asked"))
    assert await system.control.carry_on_cancel_requests(limit=100) == 1
    assert await system.count("cancel_requests") == 0
    await listener.close()


async def test_a_wish_to_cancel_outlives_the_lease_that_it_was_for(system: System) -> None:
    job = await system.add()
    (lease,) = await system.claim()
    await system.act.cancel(job, **BY)
    await system.end(lease, failure())
    assert await system.state(job) == "retryable"
    assert await system.control.carry_on_cancel_requests(limit=100) == 1
    assert await system.state(job) == "cancelled"


async def test_a_wish_to_cancel_follows_the_job_to_its_next_lease(system: System) -> None:
    job = await system.add()
    (lease,) = await system.claim()
    await system.act.cancel(job, **BY)
    await system.end(lease, failure(retry_in=0))
    await system.jobs.stage(limit=10)
    other = await system.worker("w2")
    (again,) = await system.claim(other)
    assert await system.control.carry_on_cancel_requests(limit=100) == 0
    beat = await system.workers.beat(other, kinds=[], processes=1)
    assert beat is not None
    assert beat.cancel == ((job, again.token),)


async def test_a_retry_makes_a_standing_wish_to_cancel_void(system: System) -> None:
    job = await system.add()
    (lease,) = await system.claim()
    await system.act.cancel(job, **BY)
    await system.end(lease, failure())
    await system.act.retry(job, **BY)
    assert await system.control.carry_on_cancel_requests(limit=100) == 0
    assert await system.state(job) == "available"


async def test_a_retry_keeps_the_run_and_a_new_run_begins_at_zero(system: System) -> None:
    retryable = await system.add()
    await system.run(failure())
    await system.act.retry(retryable, **BY)
    view = (await system.read.job(retryable)).job
    assert (view.run, view.attempt) == (1, 1)
    await system.run(failure(give_up=True))
    await system.act.retry(retryable, **BY)
    view = (await system.read.job(retryable)).job
    assert (view.run, view.attempt, view.state) == (2, 0, JobState.AVAILABLE)
    assert await system.count("dead_letter_queue") == 0
    assert await events(system, job_id=retryable) == ["retried", "retried"]


async def test_a_new_run_takes_its_unique_key_again_or_names_the_holder(system: System) -> None:
    job = await system.dead(unique=UniqueRule(key="k"))
    holder = await system.add(unique=UniqueRule(key="k"))
    for act in (system.act.retry, system.act.replay):
        with pytest.raises(DuplicateJob) as caught:
            await act(job, **BY)
        assert (caught.value.key, caught.value.holder) == ("k", holder)
    assert await system.state(job) == "discarded"
    assert await system.count("dead_letter_queue") == 1
    await system.act.cancel(holder, **BY)
    await system.act.retry(job, **BY)
    assert await system.count("unique_keys", "key = 'k' AND job_id = $1", job) == 1


async def test_a_child_that_waits_is_released_when_its_parent_completes_in_a_later_run(
    system: System,
) -> None:
    parent = await system.dead("app.parent")
    child = await system.add(after=[parent])
    assert await system.state(child) == "pending"
    await system.act.replay(parent, **BY)
    await system.run(kind="app.parent")
    assert await system.state(child) == "available"


async def test_a_child_never_starts_before_its_parents_by_a_retry(system: System) -> None:
    parent = await system.add("app.parent")
    child = await system.add(after=[parent])
    await system.act.cancel(child, **BY)
    with pytest.raises(IllegalTransition) as caught:
        await system.act.retry(child, **BY)
    assert "retry those first" in caught.value.next_step
    await system.run(kind="app.parent")
    await system.act.retry(child, **BY)
    assert await system.state(child) == "available"
    assert await system.count("job_dependencies", "state <> 'satisfied'") == 0


async def test_an_acknowledged_letter_leaves_the_queue_and_its_job_can_still_be_retried(
    system: System,
) -> None:
    job = await system.dead()
    await system.act.discard(job, **BY)
    assert (await system.state(job), await system.count("dead_letter_queue")) == ("discarded", 0)
    with pytest.raises(IllegalTransition) as caught:
        await system.act.replay(job, **BY)
    assert "acknowledged" in caught.value.next_step
    await system.act.retry(job, **BY)
    assert await system.state(job) == "available"


async def test_everything_that_matches_is_cancelled_in_batches(system: System) -> None:
    waiting = await system.add_many(1_200)
    other = await system.add("app.other")
    running = [lease.job_id for lease in await system.claim(limit=3)]
    seen: list[int] = []
    preview = await system.act.cancel_matching("kind:app.work", dry_run=True, **BY)
    assert (preview.matched, preview.changed, len(preview.sample)) == (1_200, 0, 10)
    assert await system.count("job_events") == 0
    report = await system.act.cancel_matching(
        "kind:app.work", progress=lambda r: seen.append(r.matched), **BY
    )
    assert report.outcomes == {ActOutcome.CANCELLED: 1_197, ActOutcome.REQUESTED: 3}
    assert seen == [500, 1_000, 1_200]
    assert report.complete
    assert await system.state(other) == "available"
    assert await system.state(waiting[-1]) == "cancelled"
    assert await system.count("cancel_requests") == len(running)
    assert await system.count("job_events", "actor = 'ann'") == 1_200


async def test_a_bulk_retry_means_failed_jobs_unless_states_are_named(system: System) -> None:
    later, failed = await system.add(delay=DAY), await system.add()
    await system.run(failure())
    cancelled = await system.add()
    await system.act.cancel(cancelled, actor="x")
    report = await system.act.retry_matching("kind:app.work", **BY)
    assert report.outcomes == {ActOutcome.AVAILABLE: 1}
    assert [await system.state(job) for job in (later, failed, cancelled)] == [
        "scheduled",
        "available",
        "cancelled",
    ]
    report = await system.act.retry_matching("state:cancelled,scheduled,completed", most=1, **BY)
    assert (report.matched, await system.state(cancelled)) == (1, "available")


async def test_refusals_in_bulk_are_counted_and_named(system: System) -> None:
    first = await system.dead(unique=UniqueRule(key="k"))
    second = await system.dead(unique=UniqueRule(key="k"))
    free = await system.dead()
    report = await system.act.replay("", **BY)
    assert report.outcomes == {ActOutcome.AVAILABLE: 2, ActOutcome.DUPLICATE: 1}
    (refused,) = report.acted
    assert {refused.job_id, refused.holder} == {first, second}
    assert await system.state(free) == "available"


async def test_a_replay_with_a_rate_is_spread_over_time_by_itself(system: System) -> None:
    jobs = [await system.dead(message="boom") for _ in range(6)]
    spared = await system.dead(message="other")
    act = Act(system.control, system.insights, StillClock())
    report = await act.replay("fingerprint:fp-boom", rate=2, **BY)
    assert (report.matched, report.finishes_in) == (6, timedelta(seconds=2.5))
    states = [await system.state(job) for job in jobs]
    assert (states.count("available"), states.count("scheduled")) == (1, 5)
    gaps = await system.sql.fetch(
        "SELECT extract(epoch FROM run_at - since)::float8 AS s FROM perdure.scheduled_jobs ORDER BY run_at"
    )
    assert [round(row["s"], 3) for row in gaps] == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert (await system.state(spared), await system.count("dead_letter_queue")) == ("discarded", 1)
    assert await system.sql.fetchval("SELECT bool_and(run = 2 AND NOT retry) FROM perdure.scheduled_jobs")


async def test_a_sample_of_a_group_is_replayed(system: System) -> None:
    jobs = [await system.dead() for _ in range(5)]
    report = await system.act.replay("", sample=2, **BY)
    assert report.outcomes == {ActOutcome.AVAILABLE: 2}
    assert [await system.state(job) for job in jobs] == ["discarded"] * 3 + ["available"] * 2


async def test_letters_that_match_are_acknowledged(system: System) -> None:
    for message in ("a", "a", "b"):
        await system.dead(message=message)
    assert (await system.act.discard("error~a", dry_run=True, **BY)).matched == 3
    report = await system.act.discard("fingerprint:fp-a", **BY)
    assert report.outcomes == {ActOutcome.DROPPED: 2}
    assert [group.fingerprint for group in await system.read.groups()] == ["fp-b"]


async def test_a_queue_is_paused_and_resumed_once(system: System) -> None:
    await system.add()
    assert (await system.act.pause("default", dry_run=True, **BY)).changed == 0
    for act, event in ((system.act.pause, "queue_paused"), (system.act.resume, "queue_resumed")):
        assert (await act("default", **BY)).outcomes == {ActOutcome.DONE: 1}
        assert (await act("default", **BY)).outcomes == {ActOutcome.UNCHANGED: 1}
        assert (await events(system, queue="default"))[-1] == event
        assert len(await system.claim()) == (event == "queue_resumed")


async def test_a_queue_that_is_served_and_had_no_job_yet_is_paused(system: System) -> None:
    """As before a release that will fill it; a name that nobody serves is a slip."""
    await system.worker()
    assert (await system.act.pause("default", dry_run=True, **BY)).matched == 1
    assert (await system.act.pause("default", **BY)).outcomes == {ActOutcome.DONE: 1}
    await system.add()
    assert await system.claim() == []
    with pytest.raises(NotFound):
        await system.act.pause("defualt", **BY)


async def test_a_worker_drains(system: System) -> None:
    worker = await system.worker()
    assert (await system.act.drain(worker, dry_run=True, **BY)).changed == 0
    assert (await system.act.drain(worker, **BY)).outcomes == {ActOutcome.DONE: 1}
    assert (await system.act.drain(worker, **BY)).outcomes == {ActOutcome.UNCHANGED: 1}
    beat = await system.workers.beat(worker, kinds=[], processes=1)
    assert beat is not None
    assert beat.state.value == "draining"
    assert await events(system, worker_id=worker) == ["worker_draining"]
    await system.workers.stop(worker, cause="done")
    with pytest.raises(NotFound):
        await system.act.drain(worker, **BY)


@pytest.mark.parametrize(
    "reason",
    [
        "O'Neill \"; DROP TABLE perdure.jobs; --",
        "\u202eright to left\u202c",
        "two\nlines\t$1 :x %s",
        "é" * 2_000,
    ],
)
async def test_any_reason_is_kept_as_it_was_given(system: System, reason: str) -> None:
    job = await system.add()
    await system.act.cancel(job, actor=reason[:20].replace("\n", " ").replace("\t", " "), reason=reason)
    assert await system.sql.fetchval("SELECT reason FROM perdure.job_events WHERE job_id = $1", job) == reason


async def test_reasons_that_cannot_be_kept_are_refused_and_nothing_happens(system: System) -> None:
    job = await system.add()
    wrongs: tuple[dict[str, Any], ...] = (
        {"actor": "", "reason": ""},
        {"actor": "a\0"},
        {"actor": "a", "reason": "\0"},
        {"actor": "a", "reason": "\ud800"},
        {"actor": "a", "reason": "x" * 2_001},
    )
    for wrong in wrongs:
        with pytest.raises(InvalidOption):
            await system.act.cancel(job, **wrong)
    for wrong_rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidOption):
            await system.act.replay("", rate=wrong_rate, **BY)
    with pytest.raises(InvalidOption):
        await system.act.replay("", sample=0, **BY)
    with pytest.raises(InvalidFilter):
        await system.act.cancel_matching("stat:failed", **BY)
    assert (await system.state(job), await system.count("job_events")) == ("available", 0)


async def test_cancel_against_claim_and_completion_ends_in_one_outcome(system: System) -> None:
    workers = [await system.worker(f"w{n}") for n in range(3)]
    jobs = await system.add_many(150)

    async def work(worker: object) -> None:
        for _ in range(40):
            for lease in await system.claim(worker, limit=3):  # type: ignore[arg-type]
                await system.end(lease, Completed(result="1"))

    answers: list[str] = []

    async def cancel() -> None:
        for job in reversed(jobs):
            try:
                answers.extend((await system.act.cancel(job, **BY)).outcomes)
            except IllegalTransition as error:
                answers.append(error.state)

    await asyncio.gather(cancel(), *(work(worker) for worker in workers))
    states = [await system.state(job) for job in jobs]
    assert set(states) <= {"completed", "cancelled"}
    assert states.count("cancelled") == answers.count(ActOutcome.CANCELLED)
    assert set(answers) <= {ActOutcome.CANCELLED, ActOutcome.REQUESTED, "completed"}
    assert await system.count("job_executions", "state IN ('completed', 'cancelled')") == 150


async def test_a_cancel_that_waits_for_a_claim_finds_the_job_running(
    system: System, database_url: str
) -> None:
    job = await system.add()
    await system.worker()
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute(
            """
            WITH taken AS (DELETE FROM perdure.available_jobs RETURNING *)
            INSERT INTO perdure.leases (job_id, worker_id, process, lane, band, rank, run, attempt, crashes, interruptions, suspicion,
                available_at, available_xid, deadline)
            SELECT job_id, gen_random_uuid(), 0, lane, band, rank, run, 1, 0, 0, 0, available_at, xid, 'infinity' FROM taken
            """
        )
        cancelling = asyncio.create_task(system.act.cancel(job, **BY))
        await wait_until_blocked(system)
    assert (await cancelling).outcomes == {ActOutcome.REQUESTED: 1}
    assert await system.state(job) == "running"
    await other.close()


async def test_a_cancel_of_a_child_that_is_being_released_finds_it_available(
    system: System, database_url: str
) -> None:
    parent = await system.add("app.parent")
    child = await system.add(after=[parent])
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.fetch("SELECT * FROM perdure.settle_edges(ARRAY[$1::uuid], 'completed')", parent)
        cancelling = asyncio.create_task(system.act.cancel(child, **BY))
        await wait_until_blocked(system)
    assert (await cancelling).outcomes == {ActOutcome.CANCELLED: 1}
    assert await system.state(child) == "cancelled"
    await other.close()


async def test_a_job_is_reopened_once_however_many_ask(system: System) -> None:
    jobs = [await system.dead() for _ in range(3)]

    async def ask(job: object, act: str) -> str:
        try:
            await getattr(system.act, act)(job, **BY)
        except IllegalTransition as error:
            return error.state
        return "reopened"

    for job in jobs:
        answers = await asyncio.gather(*(ask(job, act) for act in ("retry", "replay", "retry", "replay")))
        assert answers.count("reopened") == 1
        assert set(answers) == {"reopened", "available"}
        assert await system.count("available_jobs", "job_id = $1 AND run = 2", job) == 1


async def test_nothing_is_half_written_when_a_command_dies_in_the_middle(system: System) -> None:
    """The event is the last thing that a command writes; when it cannot be written, nothing may have moved."""
    dead = await system.dead("app.dead", unique=UniqueRule(key="k"))
    later = await system.add(delay=DAY)
    waiting = await system.add()
    before = await system.count("job_executions")
    await system.sql.execute("ALTER TABLE perdure.job_events ADD CONSTRAINT broken CHECK (actor <> 'ann')")
    for act, job in (
        (system.act.cancel, waiting),
        (system.act.cancel, later),
        (system.act.retry, later),
        (system.act.retry, dead),
        (system.act.replay, dead),
        (system.act.discard, dead),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await act(job, **BY)
    assert [await system.state(job) for job in (dead, later, waiting)] == [
        "discarded",
        "scheduled",
        "available",
    ]
    assert await system.count("job_executions") == before
    assert (await system.count("dead_letter_queue"), await system.count("unique_keys")) == (1, 0)


class StillClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return 0.0


async def wait_until_blocked(system: System) -> None:
    """Return when some session waits for a lock of another."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(10):
        for pause in repeat(0.01):
            if await system.sql.fetchval(waiting):
                return
            await asyncio.sleep(pause)


@pytest.mark.parametrize("groups_max", [500, 2])
async def test_a_preview_of_dead_letters_counts_all_that_match(
    system: System, monkeypatch: pytest.MonkeyPatch, groups_max: int
) -> None:
    """By the sizes of their groups, or one by one where those are many."""
    monkeypatch.setattr("perdure.services.act.GROUPS_MAX", groups_max)
    for message in ("boom", "boom", "bang"):
        await system.dead(message=message)
    await system.dead("app.other")
    for words, count in (("", 4), ("kind:app.work", 3), ("error~bang", 1), ("kind:nobody", 0)):
        for preview in (
            await system.act.replay(words, actor="ada", dry_run=True),
            await system.act.discard(words, actor="ada", reason="old", dry_run=True),
        ):
            assert (preview.matched, len(preview.sample)) == (count, count), words
    assert await system.count("dead_letter_queue") == 4
