"""Reading: lists by filter, one job in full, reasons, queues, workers, dead letters, status."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from perdure.domain.criteria import compile_filter
from perdure.domain.errors import DatabaseUnavailable, InvalidFilter, InvalidOption, NotFound
from perdure.domain.explain import Hold
from perdure.domain.filters import parse
from perdure.domain.job import JobState, UniqueRule
from perdure.domain.settlement import Cancelled, Completed, Crashed, Ending, Interrupted
from perdure.domain.views import EdgeState
from perdure.services.read import Read
from perdure.stores.postgres import search
from perdure.stores.postgres.insights import PostgresInsights
from tests.support.system import System, failure, system_on

DAY = timedelta(days=1)
LONG = timedelta(minutes=1)
FITTING = """
SELECT j.id FROM perdure.jobs j CROSS JOIN LATERAL perdure.args_that_fit(j.args, $1::text::jsonb) ORDER BY j.id DESC
"""


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as system:
        yield system


async def ids(system: System, filter: str) -> list[object]:
    return [job.id for job in (await system.read.jobs(filter)).jobs]


async def holds(system: System, job_id: object) -> list[Hold]:
    return [reason.hold for reason in (await system.read.explain(job_id)).reasons]  # type: ignore[arg-type]


async def test_a_job_is_found_by_each_of_its_words(system: System) -> None:
    other = await system.add("app.other", queue="slow", priority=1)
    job = await system.add(
        "app.embed",
        queue="media",
        priority=4,
        labels=("gpu", "big"),
        args='{"user_id": 42, "size": {"width": 640}, "tags": ["red", "blue"], "ok": true, "name": "Zoë"}',
        concurrency_key="customer-1",
        unique=UniqueRule(key="embed-42"),
    )
    for words in (
        "kind:app.embed",
        "kind:app.em*",
        "kind~EMBED",
        "embed",
        "-kind:app.other",
        "queue:media,other",
        "label:gpu",
        "label:b*",
        "-label:small kind:*embed",
        "priority:>=4",
        "-priority:1",
        "state:available -priority:<3",
        "args.user_id:42",
        "args.user_id:4.2e1",
        "args.user_id:>41 args.user_id:<=42",
        "args.user_id:41,42",
        "args.size.width:>600",
        "args.tags:red",
        "args.tags.1:blue",
        "args.ok:true",
        'args.name:"Zoë"',
        "args.name~zo",
        "-args.user_id:43 queue:media",
        "key:customer-1",
        "key:embed-*",
        f"id:{job}",
        f"-id:{other}",
        "attempt:0 kind:app.embed",
        "since:1h queue:media until:2100-01-01",
    ):
        assert await ids(system, words) == [job], words
    for words in (
        "kind:APP.EMBED",
        'kind:"app.em*"',
        'args.user_id:"42"',
        "args.missing:1",
        "-args.user_id:42 queue:media",
        "state:running",
        "until:1h",
        "since:2100-01-01",
        "state:failed state:running",
        "error~boom",
    ):
        assert await ids(system, words) == [], words


async def test_errors_workers_and_fingerprints_are_searched_in_the_newest_attempt(system: System) -> None:
    job = await system.add()
    await system.add()
    await system.run(failure("it took too long: timeout"))
    for words in (
        "error~TIMEOUT",
        "error:ValueError",
        "timeout",
        "fingerprint:fp-it",
        "state:failed",
        "state:retryable attempt:>=1",
    ):
        assert await ids(system, words) == [job], words
    view = (await system.read.jobs("state:failed")).jobs[0]
    assert (view.error, view.attempt, view.max_attempts) == ("ValueError: it took too long: timeout", 1, 4)
    running = (await system.claim(await system.worker("w7")))[0].job_id
    assert await ids(system, "worker:w7") == [running]
    assert await ids(system, "worker:w*") == [running]


async def test_pages_follow_each_other_without_gap_or_repetition(system: System) -> None:
    jobs = await system.add_many(25)
    seen: list[object] = []
    cursor: str | None = None
    while True:
        page = await system.read.jobs("state:available", limit=10, cursor=cursor)
        seen += [job.id for job in page.jobs]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == sorted(jobs, reverse=True)
    assert len((await system.read.jobs(limit=25)).jobs) == 25


async def test_a_job_of_many_runs_is_listed_once_and_where_it_stands(system: System) -> None:
    job = await system.add()
    for _ in range(2):
        await system.act.cancel(job, actor="me")
        assert await ids(system, "state:cancelled") == [job]
        await system.act.retry(job, actor="me")
    assert await ids(system, "state:cancelled") == []
    assert await ids(system, "state:cancelled,available") == [job]
    assert (await system.read.jobs()).jobs[0].run == 3


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE perdure.jobs; --", '"%_\\', "\u202eevil\u202c", "$1 :x %s {0}", "٤٢"]
)
async def test_hostile_text_is_only_text(system: System, text: str) -> None:
    job = await system.add(args=msgspec.json.encode({"x": text, text: 1}).decode())
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert await ids(system, f"args.x:{quoted}") == [job]
    assert await ids(system, f"args.{quoted}:1") == [job]
    assert await ids(system, f"kind:{quoted}") == []
    assert await ids(system, f"-error~{quoted} -{quoted}") == [job]


async def test_what_no_database_can_hold_is_refused(system: System) -> None:
    for ask in (
        system.read.jobs("kind:a\0"),
        system.read.groups("\ud800"),
        system.read.dead_letters("stat:x"),
    ):
        with pytest.raises(InvalidFilter):
            await ask
    for option in (
        system.read.jobs(cursor="x"),
        system.read.dead_letters(cursor="2026-01-01~x"),
        system.read.jobs(limit=0),
        system.read.jobs(budget=timedelta(0)),
        system.read.queues("a\0"),
    ):
        with pytest.raises(InvalidOption):
            await option


async def test_what_is_not_there_is_told_so(system: System) -> None:
    for ask in (
        system.read.job(uuid4()),
        system.read.explain(uuid4()),
        system.read.queues("none"),
        system.read.worker("none"),
    ):
        with pytest.raises(NotFound):
            await ask
    assert await system.read.result_of(uuid4()) is None


async def test_fifty_thousand_jobs_are_searched_within_the_budget(system: System, database_url: str) -> None:
    await system.sql.execute(
        """
        SELECT count(*) FROM perdure.enqueue_jobs((
            SELECT jsonb_agg(jsonb_build_object('kind', 'app.work', 'args', jsonb_build_object('n', n))) FROM generate_series(1, 50000) n
        ))
        """
    )
    began = monotonic()
    page = await system.read.jobs("args.n:17", budget=timedelta(seconds=20))
    assert len(page.jobs) == 1
    assert page.complete
    first = await system.read.jobs(limit=100)
    assert len(first.jobs) == 100
    assert first.complete
    counts = {view.state: view.count for view in await system.read.counts()}
    assert counts[JobState.AVAILABLE] == 50_000
    assert counts[JobState.COMPLETED] == 0
    assert monotonic() - began < 20


async def test_a_search_cut_short_again_and_again_by_its_budget_finds_everything(system: System) -> None:
    jobs = set(await system.add_many(2_000, args='{"n": 1}'))
    found: list[object] = []
    cursor, cut_short, budget = None, 0, timedelta(milliseconds=1)
    while cursor is not None or not cut_short:
        page = await system.read.jobs("args.n:1", limit=1_000, cursor=cursor, budget=budget)
        found += [job.id for job in page.jobs]
        cut_short += not page.complete
        assert page.complete == (not page.note)
        cursor, budget = page.cursor, budget * 1.2
    assert found == sorted(jobs, reverse=True)
    assert cut_short > 0


async def test_a_long_stretch_that_takes_too_long_is_tried_again_in_shorter_ones(system: System) -> None:
    """So that a page gets further than the first short one, whatever the arguments cost."""
    wanted = [await system.add(args='{"n": 1}')]
    await system.add_many(4_000, args='{"n": 2}')
    insights = PostgresInsights(system.database)
    slow = insights._sql["next_fitting"]
    text = f"SELECT u.* FROM ({slow.text.rstrip().removesuffix(';')}) u WHERE :span < 20000 OR (SELECT pg_sleep(60)::text) IS NOT NULL"
    insights._sql = {**insights._sql, "next_fitting": replace(slow, text=text)}
    page = await Read(insights, system.past).jobs("args.n:1", limit=5, budget=timedelta(seconds=4))
    assert [job.id for job in page.jobs] == wanted
    assert page.complete


async def test_what_is_asked_of_arguments_beforehand_leaves_out_none_that_fit(system: System) -> None:
    values = [
        42,
        42.0,
        -7,
        "42",
        "0042",
        True,
        "true",
        None,
        "null",
        "a*b",
        "50%",
        [42, "x"],
        [[42]],
        {"b": 42},
        {"b": ["x", 1e3]},
        {},
        10**40,
    ]
    for value in values:
        await system.add(args=msgspec.json.encode({"a": value, "b": {"a": value}}).decode())
    every = {view.id: view for view in (await system.read.jobs(limit=1_000)).jobs}
    asked = [
        "42",
        "42.0",
        "0042",
        '"42"',
        "true",
        "null",
        '"a*b"',
        "a*",
        "50%",
        "x,42",
        "1000",
        "-7",
        str(10**40),
        '"{}"',
        "{*",
    ]
    found = 0
    for field in ("args.a", "args.b.a", "args.a.b", "args.a.0"):
        for value in asked:
            criteria = compile_filter(parse(f"{field}:{value}"))
            fitting = await system.sql.fetch(FITTING, msgspec.json.encode(criteria.args).decode())
            assert await ids(system, f"{field}:{value}") == [row["id"] for row in fitting], f"{field}:{value}"
            found += len(fitting)
    assert len(every) == len(values) < found


async def test_a_search_that_finds_little_says_how_far_it_came_and_goes_on(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOOKED_AT_MOST", 1_000)
    wanted = await system.add(args='{"n": 1}', concurrency_key="rare")
    await system.add_many(2_500, args='{"n": 2}')
    for asked in ("args.n:1", "key:rare", "state:available key:rare", "priority:3 key:rare"):
        page, pages = await system.read.jobs(asked, budget=LONG), 1
        assert (page.jobs, page.complete) == ((), False)
        assert "newest" in page.note
        while page.cursor is not None:
            page = await system.read.jobs(asked, cursor=page.cursor, budget=LONG)
            pages += 1
        assert [job.id for job in page.jobs] == [wanted]
        assert page.complete
        assert pages == 3


async def test_what_went_wrong_is_found_however_it_sent_its_job_back(system: System) -> None:
    """Behind any number of jobs that nobody has tried: retried, given up, cancelled, interrupted, snoozed, lost, released."""
    endings: dict[str, Ending] = {
        "needle": failure("needle", give_up=False),
        "gave up": failure("gave up", give_up=True),
        "not wanted": Cancelled(reason="not wanted"),
        "moved away": Interrupted(cause="moved away"),
        "process died": Crashed(cause="process died", alone=True),
    }
    jobs: dict[str, object] = {}
    for word, ending in endings.items():
        jobs[word] = await system.add(f"app.{len(jobs)}")
        await system.run(ending, kind=f"app.{len(jobs) - 1}")
    await system.add_many(300)
    for word, job in jobs.items():
        assert await ids(system, f'error~"{word}"') == [job], word
    assert set(await ids(system, "fingerprint:interrupted,crashed")) == {
        jobs["moved away"],
        jobs["process died"],
    }
    assert await ids(system, "-error~needle state:retryable") == []


async def test_completed_jobs_are_found_below_those_that_wait(system: System) -> None:
    done = await system.add()
    await system.run()
    await system.add_many(1_000)
    assert await ids(system, "state:completed") == [done]
    assert await ids(system, "state:completed,running") == [done]


async def test_dead_letters_too_are_searched_on_to_the_end(system: System) -> None:
    """A budget that ends a page leaves a cursor below what was looked at, so that asking on comes to an end."""
    wanted = {await system.dead("app.rare", message="needle")}
    await system.sql.execute(
        """
        INSERT INTO perdure.dead_letter_queue SELECT (jsonb_populate_record(d, jsonb_build_object(
            'job_id', gen_random_uuid(), 'dead_at', d.dead_at + n * interval '1 ms', 'cause', 'hay', 'error', '{}'::jsonb))).*
        FROM perdure.dead_letter_queue d CROSS JOIN generate_series(1, 3000) n
        """
    )
    found: list[object] = []
    cursor, cut_short, budget = None, 0, timedelta(milliseconds=1)
    for _ in range(500):
        page = await system.read.dead_letters("error~needle", cursor=cursor, budget=budget)
        found += [letter.job_id for letter in page.letters]
        cut_short += not page.complete
        assert page.complete == (not page.note)
        assert page.complete or page.cursor, "an unfinished page says where to go on"
        cursor, budget = page.cursor, budget * 1.2
        if cursor is None:
            break
    assert (found, cursor) == (sorted(wanted), None)
    assert cut_short > 0


async def test_a_question_that_is_no_page_says_when_its_time_is_up(system: System, database_url: str) -> None:
    await system.add()
    blocker = await asyncpg.connect(database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("LOCK TABLE perdure.leases IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(DatabaseUnavailable, match="did not come within"):
        await system.read.counts(budget=timedelta(milliseconds=100))
    page = await system.read.jobs(budget=timedelta(milliseconds=100))
    assert not page.complete
    assert page.note
    status = await system.read.status(budget=timedelta(milliseconds=100))
    assert status.counts is None
    assert any("counts" in note for note in status.notes)
    await transaction.rollback()
    await blocker.close()


async def test_one_job_is_shown_in_full(system: System) -> None:
    parent = await system.add("app.parent")
    job = await system.add(
        after=[parent], metadata={"trace": "t"}, args='{"big": 123456789012345678901234567890}'
    )
    child = await system.add("app.child", after=[job])
    pending = await system.read.job(job)
    assert pending.job.state is JobState.PENDING
    assert [(edge.job_id, edge.edge, edge.state) for edge in pending.parents] == [
        (parent, EdgeState.WAITING, JobState.AVAILABLE)
    ]
    assert [edge.job_id for edge in pending.children] == [child]
    await system.run(kind="app.parent")
    waiting = await system.read.job(job)
    assert waiting.place is not None
    assert (waiting.place.ahead, waiting.place.band, waiting.parents[0].edge) == (
        0,
        "medium",
        EdgeState.SATISFIED,
    )
    assert waiting.place.ready_at - waiting.job.since < timedelta(seconds=1)
    (lease,) = await system.claim(await system.worker("w9"))
    await system.act.cancel(job, actor="ann", reason="why")
    running = await system.read.job(job)
    assert running.lease is not None
    assert (running.lease.worker, running.lease.token, running.lease.cancel_reason) == (
        "w9",
        lease.token,
        "cancelled by ann: why",
    )
    await system.end(lease, Completed(result='{"n": 1.00}'))
    done = await system.read.job(job)
    assert done.job.state is JobState.COMPLETED
    assert bytes(done.result or b"") == b'{"n": 1.00}'
    assert [(attempt.attempt, attempt.worker) for attempt in done.attempts] == [(1, "w9")]
    assert [event.event for event in done.events] == ["cancel_requested"]
    encoded = msgspec.json.encode(done)
    assert b"123456789012345678901234567890" in encoded


async def test_a_dead_job_shows_its_letter_and_its_result_shows_the_error(system: System) -> None:
    job = await system.dead()
    detail = await system.read.job(job)
    assert detail.dead_letter is not None
    assert detail.dead_letter.error is not None
    assert detail.dead_letter.error.message == "boom"
    result = await system.read.result_of(job)
    assert result is not None
    assert (result.state, result.result, result.error and result.error.type) == (
        JobState.DISCARDED,
        None,
        "ValueError",
    )


async def test_a_result_is_given_once_the_job_has_completed(system: System) -> None:
    job = await system.add()
    before = await system.read.result_of(job)
    assert before is not None
    assert (before.state, before.result) == (JobState.AVAILABLE, None)
    await system.run(Completed(result='{"a": [1]}'))
    after = await system.read.result_of(job)
    assert after is not None
    assert (after.state, after.result) == (JobState.COMPLETED, '{"a": [1]}')
    await system.add()
    nothing = await system.read.result_of(await system.run(Completed()))
    assert nothing is not None
    assert nothing.result == "null"


async def test_each_reason_to_wait_is_told(system: System) -> None:
    job = await system.add()
    assert await holds(system, job) == [Hold.UNSERVED, Hold.QUEUED]
    assert "free slot" not in (await system.read.explain(job)).reasons[1].sentence
    await system.worker("elsewhere", queues=("other",))
    assert "serves queue default" in (await system.read.explain(job)).reasons[0].sentence
    await system.worker("w1", kinds=("app.other",))
    assert "knows kind app.work" in (await system.read.explain(job)).reasons[0].sentence
    worker = await system.worker("w2")
    assert await holds(system, job) == [Hold.QUEUED]
    assert "free slot" in (await system.read.explain(job)).reasons[0].sentence
    behind = await system.add()
    assert "behind 1 job of kind" in (await system.read.explain(behind)).reasons[0].sentence
    labelled = await system.add(labels=("gpu",))
    assert "labels it needs: gpu" in (await system.read.explain(labelled)).reasons[0].sentence
    await system.act.pause("default", actor="ann")
    assert await holds(system, job) == [Hold.PAUSED, Hold.QUEUED]
    await system.act.resume("default", actor="ann")
    later = await system.add(delay=DAY)
    assert await holds(system, later) == [Hold.SCHEDULED]
    assert "in 1d" in (await system.read.explain(later)).reasons[0].sentence
    await system.claim(worker)
    assert await holds(system, job) == [Hold.RUNNING]
    await system.sql.execute("UPDATE perdure.workers SET heartbeat_at = now() - interval '10 s'")
    assert "missed heartbeats" in (await system.read.explain(behind)).reasons[0].sentence


async def test_parents_that_are_waited_for_are_named(system: System) -> None:
    alive, doomed = await system.add("app.alive"), await system.add("app.doomed")
    await system.worker()
    child = await system.add(after=[alive, doomed])
    (reason,) = (await system.read.explain(child)).reasons
    assert reason.hold is Hold.PARENTS
    assert set(reason.job_ids) == {alive, doomed}
    await system.end(await system.lease_of(doomed), failure(give_up=True))
    (ended,) = (await system.read.explain(doomed)).reasons
    assert (ended.hold, ended.sentence) == (
        Hold.ENDED,
        "It has ended: discarded. Its attempts tell why; a retry gives it a new run.",
    )
    failed, waits = (await system.read.explain(child)).reasons
    assert (failed.hold, failed.job_ids, waits.job_ids) == (Hold.PARENTS_FAILED, (doomed,), (alive,))


async def test_a_full_key_names_its_holders_and_a_suspect_is_told(system: System) -> None:
    holder, parked = await system.add_many(2, concurrency_key="k")
    worker = await system.worker()
    await system.claim(worker)
    assert await system.claim(worker) == []
    reasons = (await system.read.explain(parked)).reasons
    assert [(r.hold, r.job_ids) for r in reasons[:1]] == [(Hold.KEY_FULL, (holder,))]
    suspect = await system.add("app.bomb")
    await system.run(Crashed(cause="died", alone=False), kind="app.bomb")
    assert Hold.SUSPECT in await holds(system, suspect)


async def test_queues_show_depths_and_what_nobody_serves(system: System) -> None:
    await system.add_many(3)
    await system.add("app.lonely")
    await system.add(delay=DAY)
    await system.add(queue="media", labels=("gpu",))
    await system.worker(labels=("gpu",))
    await system.act.pause("media", actor="ann")
    default, media = await system.read.queues()
    assert default.depths[JobState.AVAILABLE] == 4
    assert default.depths[JobState.SCHEDULED] == 1
    assert default.unserved == ("app.lonely",)
    assert default.kinds == ("app.lonely", "app.work")
    assert default.workers == 1
    assert default.oldest_available_s is not None
    assert (media.paused, media.paused_by, media.unserved) == (True, "ann", ("app.work",))
    assert (await system.read.queues("media"))[0].name == "media"
    msgspec.json.encode(default)


async def test_workers_are_shown_with_their_silence(system: System) -> None:
    worker = await system.worker("w7", capacity=4)
    await system.add()
    (lease,) = await system.claim(worker)
    view = await system.read.worker("w7")
    assert (view.worker.id, view.worker.running, view.load, view.suspect) == (worker, 1, 0.25, False)
    await system.end(lease, failure())
    view = await system.read.worker("w7")
    assert (view.worker.running, view.load) == (0, 0.0)
    await system.sql.execute("UPDATE perdure.workers SET heartbeat_at = now() - interval '7 s'")
    assert (await system.read.worker(worker)).suspect
    await system.workers.stop(worker, cause="done")
    assert await system.read.workers(alive_only=True) == ()
    assert len(await system.read.workers()) == 1


async def test_dead_letters_are_grouped_by_cause_and_paged(system: System) -> None:
    for number in range(5):
        await system.dead(f"app.k{number % 2}", message="boom")
    other = await system.dead(message="crash", args='{"user": 7}')
    big, small = await system.read.groups()
    assert (big.fingerprint, big.count, big.kinds) == ("fp-boom", 5, ("app.k0", "app.k1"))
    assert (small.count, small.sample_job_id, small.error and small.error.message) == (1, other, "crash")
    assert [group.count for group in await system.read.groups("fingerprint:fp-cr")] == [1]
    first = await system.read.dead_letters("fingerprint:fp-boom", limit=3)
    rest = await system.read.dead_letters("fingerprint:fp-boom", limit=3, cursor=first.cursor)
    assert (len(first.letters), len(rest.letters), rest.cursor) == (3, 2, None)
    assert len({letter.job_id for letter in (*first.letters, *rest.letters)}) == 5
    (letter,) = (await system.read.dead_letters("args.user:7 since:1h")).letters
    assert letter.job_id == other
    assert (await system.read.dead_letters("state:completed")).letters == ()


async def test_status_is_one_screen(system: System, database_url: str) -> None:
    await system.add_many(2)
    await system.run()
    await system.dead("app.other")
    blocker = await asyncpg.connect(database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.fetch("SELECT 1")
    await asyncio.sleep(0.05)
    status = await system.read.status()
    await transaction.rollback()
    await blocker.close()
    assert status.notes == ()
    assert status.counts is not None
    counts = {view.state: view.count for view in status.counts}
    assert (counts[JobState.AVAILABLE], counts[JobState.COMPLETED], counts[JobState.DISCARDED]) == (1, 1, 1)
    assert {(rate.outcome.value, rate.count) for rate in status.last_minute or ()} == {
        ("completed", 1),
        ("failed", 1),
    }
    assert (status.workers_active, status.workers_suspect, status.dead_letters) == (2, 0, 1)
    assert status.oldest_available_s is not None
    assert status.oldest_transaction_s is not None
    assert status.oldest_transaction_s >= 0.04
    assert status.leader is None
    await system.sql.execute(
        "INSERT INTO perdure.leaders (name, holder, term, expires_at) SELECT 'duties', id, 3, now() + interval '1 m' FROM perdure.workers LIMIT 1"
    )
    leader = (await system.read.status()).leader
    assert leader is not None
    assert (leader.term, leader.worker, leader.leads) == (3, "w1", True)


async def test_an_empty_system_has_a_status_too(system: System) -> None:
    empty = await system.read.status()
    assert empty.oldest_available_s is None
    assert empty.counts is not None
    assert sum(view.count for view in empty.counts) == 0
