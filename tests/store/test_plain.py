"""Plain jobs: stored the quick way exactly as `enqueue_jobs` would, and left to it wherever there is a doubt."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from perdure.domain.bulk import in_bulk
from perdure.domain.errors import DatabaseUnavailable, InvalidInput, InvalidOption, RollbackDetected
from perdure.domain.job import Dependency, Disposition, JobId, NewJob, UniqueRule
from perdure.ports import Place
from perdure.services.enqueue import BETWEEN_RINGS_S, MANY, Enqueue
from perdure.stores.postgres.connections import PooledDatabase, connect
from perdure.stores.postgres.copying import PART
from perdure.stores.postgres.dispatch import TOLD_STREAMS, doorbell, ring_for, streams_of
from perdure.stores.postgres.plain import PlainJobs
from perdure.stores.postgres.sole_caller import SoleCallerDatabase
from tests.support.database import Store, new_id, new_job
from tests.support.new_jobs import job_of

BODY = "SELECT to_jsonb(j) - '{id,enqueued_at,xid}'::text[] FROM perdure.jobs j WHERE j.id = $1"
PLACE = """
SELECT to_jsonb(a) - '{job_id,available_at,xid,rank}'::text[] || jsonb_build_object(
    'head_start', round((extract(epoch FROM a.available_at) * 1000000 - a.rank) / 1000000))
FROM perdure.available_jobs a WHERE a.job_id = $1
"""
PAYLOAD = "SELECT concat_ws(':', lane, band, rank) FROM perdure.available_jobs WHERE job_id = $1"
YEAR = timedelta(days=365)
HEARD_S = 10
SHAPES: list[dict[str, Any]] = [
    {},
    {"priority": 1, "args": '{"a": [1, "é"]}'},
    {"priority": 5, "timeout": None, "crash_limit": 2, "max_attempts": 1},
    {"labels": ("gpu", "big"), "kind": "app.other", "queue": "media", "timeout": timedelta(microseconds=1)},
]


@pytest.fixture
async def plain(store: Store, database_url: str) -> AsyncIterator[PlainJobs]:
    database = await PooledDatabase.open(database_url, application_name="test", most=2)
    singles = SoleCallerDatabase(database_url, application_name="test")  # objects to two callers at a time
    yield PlainJobs(singles, database)
    await singles.close()
    await database.close()


@pytest.fixture
async def enqueue(store: Store, plain: PlainJobs) -> AsyncIterator[Enqueue]:
    service = Enqueue(store.jobs, plain, store.dispatch)
    yield service
    await service.close()


def long_ago() -> JobId:
    return JobId(UUID(int=new_id().int - (int(YEAR.total_seconds()) * 1000 << 80)))


async def rows_of(store: Store, job: NewJob) -> tuple[object, object]:
    return await store.value(BODY, job.id), await store.value(PLACE, job.id)


@pytest.mark.parametrize("options", SHAPES)
async def test_each_way_leaves_the_rows_that_enqueue_jobs_leaves(
    store: Store, plain: PlainJobs, options: dict[str, Any]
) -> None:
    slow, one, *several, many = (new_job(**options) for _ in range(5))
    await store.jobs.enqueue([slow])
    lone = await plain.lone(one)
    assert lone is not None
    placed = await plain.few(several)
    copied = await plain.many(in_bulk([many]))
    assert copied is not None
    for job, place in ((one, lone), (several[0], placed[several[0].id]), (many, copied[0])):
        assert await rows_of(store, job) == await rows_of(store, slow)
        stored = await store.sql(
            "SELECT lane, band, rank, job_id FROM perdure.available_jobs WHERE job_id = $1", job.id
        )
        assert place == tuple(stored[0])


@given(
    st.builds(
        job_of,
        id=st.just(new_id()),
        queue=st.just("q"),
        kind=st.just("k"),
        depends_on=st.sampled_from([(), (Dependency(parent_id=new_id()),)]),
        unique=st.sampled_from([None, UniqueRule(key="u")]),
        concurrency_key=st.sampled_from([None, "c"]),
        metadata=st.sampled_from([{}, {"a": 1}]),
        delay=st.sampled_from([None, timedelta(0)]),
    )
)
def test_only_a_job_without_ties_or_delay_is_plain(job: NewJob) -> None:
    tied = bool(job.depends_on or job.unique or job.concurrency_key or job.metadata) or job.delay is not None
    assert job.is_plain is not tied


async def test_singles_leave_a_lane_that_is_not_known_yet_to_enqueue_jobs(
    store: Store, plain: PlainJobs
) -> None:
    job = new_job(queue="new")
    assert await plain.lone(job) is None
    assert await plain.few([job]) == {}
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 0


async def test_a_bulk_call_makes_the_lanes_that_it_is_the_first_to_use(
    store: Store, plain: PlainJobs
) -> None:
    jobs = [new_job(queue=f"new-{n % 3}", labels=("gpu",) * (n % 2)) for n in range(12)]
    assert await plain.many(in_bulk(jobs)) is not None
    twins = [structs.replace(job, id=new_id()) for job in jobs]
    await store.jobs.enqueue(twins)
    assert await store.value("SELECT count(*) FROM perdure.lanes WHERE queue LIKE 'new-%'") == 6
    for job, twin in zip(jobs, twins, strict=True):
        assert await rows_of(store, job) == await rows_of(store, twin)


async def test_calls_that_make_the_same_lanes_at_once_all_store_their_jobs(
    store: Store, enqueue: Enqueue
) -> None:
    calls = [[new_job(queue=f"new-{n % 5}") for n in range(MANY)][:: (-1) ** turn] for turn in range(8)]
    await asyncio.gather(*(enqueue.many(jobs, on_duplicate="raise") for jobs in calls))
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 8 * MANY


async def test_a_name_that_no_lane_may_have_is_refused_by_the_general_way(
    store: Store, plain: PlainJobs, enqueue: Enqueue
) -> None:
    jobs = [new_job(queue="x" * 201) for _ in range(MANY)]
    assert await plain.many(in_bulk(jobs)) is None
    with pytest.raises(InvalidInput):
        await enqueue.many(jobs, on_duplicate="raise")
    assert await store.value("SELECT count(*) FROM perdure.lanes WHERE queue LIKE 'xx%'") == 0


async def test_an_id_that_is_there_already_is_answered_so_and_its_neighbours_are_stored(
    store: Store, enqueue: Enqueue
) -> None:
    first = new_job()
    await enqueue.one(first, on_duplicate="raise")
    fresh = [new_job() for _ in range(MANY)]
    answers = await asyncio.gather(*(enqueue.one(job, on_duplicate="raise") for job in [*fresh, first]))
    assert [answer.disposition for answer in answers] == [Disposition.CREATED] * MANY + [Disposition.EXISTS]
    again = await enqueue.many([*fresh, new_job()], on_duplicate="raise")
    assert [answer.disposition for answer in again] == [Disposition.EXISTS] * MANY + [Disposition.CREATED]
    assert await store.value("SELECT count(*) FROM perdure.available_jobs") == MANY + 2


async def test_an_id_out_of_time_is_refused_alone_among_singles_and_with_all_in_a_call(
    store: Store, enqueue: Enqueue
) -> None:
    await enqueue.one(new_job(), on_duplicate="raise")
    old, good = new_job(id=long_ago()), new_job()
    one, other = await asyncio.gather(
        enqueue.one(old, on_duplicate="raise"),
        enqueue.one(good, on_duplicate="raise"),
        return_exceptions=True,
    )
    assert isinstance(one, InvalidOption)
    assert not isinstance(other, BaseException)
    with pytest.raises(InvalidOption):
        await enqueue.many([*(new_job() for _ in range(MANY)), old], on_duplicate="raise")
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 2


async def test_what_postgresql_cannot_store_is_refused_and_takes_nobody_along(
    store: Store, enqueue: Enqueue
) -> None:
    await enqueue.one(new_job(), on_duplicate="raise")
    bad, good = new_job(args='{"a": "\\u0000"}'), new_job()
    one, other = await asyncio.gather(
        enqueue.one(bad, on_duplicate="raise"),
        enqueue.one(good, on_duplicate="raise"),
        return_exceptions=True,
    )
    assert isinstance(one, Exception)
    assert not isinstance(other, BaseException)


async def test_a_call_of_several_shapes_and_parts_leaves_each_job_with_its_own_rows(
    store: Store, plain: PlainJobs
) -> None:
    for options in SHAPES:
        await store.jobs.enqueue([new_job(**options)])
    jobs = [new_job(**{"args": f'{{"n": {n}}}', **SHAPES[n % 4]}) for n in range(2 * PART)]
    placed = await plain.many(in_bulk(jobs))
    assert placed is not None
    assert {place.job_id for place in placed} == {job.id for job in jobs}
    for job in jobs[-4:]:
        twin = structs.replace(job, id=new_id())
        await store.jobs.enqueue([twin])
        assert await rows_of(store, job) == await rows_of(store, twin)


async def test_jobs_of_one_call_have_rising_ranks_so_that_a_watermark_tells_them_apart(
    store: Store, plain: PlainJobs
) -> None:
    await store.jobs.enqueue([new_job()])
    jobs = [new_job() for _ in range(MANY)]
    await plain.many(in_bulk(jobs))
    await plain.many(in_bulk([later := new_job()]))
    rows = await store.sql("SELECT job_id, rank FROM perdure.available_jobs ORDER BY rank, job_id")
    assert [row["job_id"] for row in rows][1:] == [job.id for job in (*jobs, later)]
    assert len({row["rank"] for row in rows}) == MANY + 2


async def test_jobs_of_one_call_have_ranks_of_their_own_though_two_shapes_share_a_lane(
    store: Store, plain: PlainJobs
) -> None:
    await store.jobs.enqueue([new_job()])
    jobs = [new_job(timeout=timedelta(seconds=1 + n % 2)) for n in range(2 * MANY)]
    await plain.many(in_bulk(jobs))
    rows = await store.sql("SELECT job_id FROM perdure.available_jobs ORDER BY rank")
    assert [row["job_id"] for row in rows][1:] == [job.id for job in jobs]
    assert await store.value("SELECT count(DISTINCT rank) FROM perdure.available_jobs") == 2 * MANY + 1


@pytest.mark.parametrize(
    "options", [{"max_attempts": 40_000}, {"timeout": YEAR}, {"args": '{"a": "\ud800"}'}]
)
async def test_what_has_no_binary_form_is_left_to_enqueue_jobs_and_the_connection_goes_on(
    store: Store, plain: PlainJobs, options: dict[str, Any]
) -> None:
    await store.jobs.enqueue([new_job()])
    assert await plain.many(in_bulk([new_job(), new_job(**options)])) is None
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 1
    assert await plain.many(in_bulk([new_job()])) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 0},
        {"priority": 6},
        {"max_attempts": 0},
        {"max_attempts": 40_000},
        {"timeout": timedelta(milliseconds=2_073_600_001)},
        {"timeout": YEAR},
        {"crash_limit": 0},
        {"args": "[]"},
        {"args": " []"},
    ],
)
async def test_what_no_job_may_be_is_stored_by_no_way_and_named(
    store: Store, plain: PlainJobs, enqueue: Enqueue, options: dict[str, Any]
) -> None:
    await store.jobs.enqueue([new_job()])
    wrong, good = new_job(**options), new_job()
    assert await plain.lone(wrong) is None
    assert await plain.lone(wrong, ring=[]) is None
    assert set(await plain.few([wrong, good])) == {good.id}
    assert await plain.many(in_bulk([wrong, new_job()])) is None
    with pytest.raises(InvalidInput):
        await enqueue.one(wrong, on_duplicate="raise")
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 2


@pytest.fixture
async def rings(store: Store, database_url: str) -> AsyncIterator[asyncio.Queue[str]]:
    """The rings of the doorbell."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    connection = await connect(database_url, application_name="test")
    await connection.add_listener(doorbell("perdure"), lambda *message: heard.put_nowait(str(message[3])))
    yield heard
    await connection.close()


async def test_a_lone_job_is_announced_by_the_call_that_stores_it_once_it_can_be_seen(
    store: Store, plain: PlainJobs, rings: asyncio.Queue[str]
) -> None:
    await store.jobs.enqueue([new_job()])
    job = new_job(priority=5)
    assert await plain.lone(job, ring=[]) is not None
    async with asyncio.timeout(HEARD_S):
        assert await rings.get() == await store.value(PAYLOAD, job.id)
    assert await rows_of(store, job) != (None, None)
    assert await plain.lone(job, ring=[]) is None  # it is there already
    async with asyncio.timeout(HEARD_S):
        await rings.get()  # a hint, from which nothing follows
    await plain.lone(quiet := new_job())
    await plain.lone(loud := new_job(), ring=[])
    async with asyncio.timeout(HEARD_S):
        assert (
            await rings.get() == await store.value(PAYLOAD, loud.id) != await store.value(PAYLOAD, quiet.id)
        )


async def test_a_ring_tells_of_other_jobs_too_or_of_all_when_they_are_too_many(
    store: Store, plain: PlainJobs, rings: asyncio.Queue[str]
) -> None:
    await store.jobs.enqueue([new_job()])
    other = await plain.lone(new_job(priority=5))
    assert other is not None
    own = await plain.lone(new_job(), ring=[other])
    await plain.lone(new_job(), ring=[Place(lane, 1, 0, new_id()) for lane in range(TOLD_STREAMS + 1)])
    async with asyncio.timeout(HEARD_S):
        told = streams_of(await rings.get())
        assert told == [place[:3] for place in (own, other) if place is not None]
        assert await rings.get() == ""


async def test_each_of_two_jobs_in_a_row_is_announced_whether_or_not_it_rings_by_itself(
    store: Store, database_url: str, rings: asyncio.Queue[str]
) -> None:
    database = await PooledDatabase.open(database_url, application_name="test", most=2)
    singles = SoleCallerDatabase(database_url, application_name="test")
    plain = PlainJobs(singles, database, rings=True)
    service = Enqueue(store.jobs, plain, store.dispatch)
    await store.jobs.enqueue([new_job()])
    for _ in range(2):
        await service.one(new_job(), on_duplicate="raise")
    async with asyncio.timeout(HEARD_S):
        heard = [await rings.get(), await rings.get()]
    ranks = await store.sql("SELECT rank FROM perdure.available_jobs ORDER BY rank OFFSET 1")
    assert [int(one.rpartition(":")[2]) for one in heard] == [row["rank"] for row in ranks]
    await service.close()
    await singles.close()
    await database.close()


async def test_an_error_that_nobody_foresaw_meets_the_callers_of_its_batch_alone(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await PooledDatabase.open(database_url, application_name="test", most=2)
    singles = SoleCallerDatabase(database_url, application_name="test")
    plain = PlainJobs(singles, database, rings=False)
    service = Enqueue(store.jobs, plain, store.dispatch)
    await store.jobs.enqueue([new_job()])
    refused = new_job()
    few, slow = plain.few, asyncio.Event()

    async def refusing(jobs: Sequence[NewJob]) -> Mapping[UUID, Place]:
        if refused in jobs:
            slow.set()
            await asyncio.sleep(0)  # others come meanwhile
            raise RuntimeError("a limit of somebody's role")
        return await few(jobs)

    monkeypatch.setattr(plain, "few", refusing)
    service._is_taken = True  # as while the commit of another lone job is under way
    first = asyncio.create_task(service.one(refused, on_duplicate="raise"))
    await asyncio.sleep(0)
    service._is_taken = False
    service._begin()
    await slow.wait()
    second = asyncio.create_task(service.one(later := new_job(), on_duplicate="raise"))
    with pytest.raises(RuntimeError, match="role"):
        await first
    assert (await second).job_id == later.id
    await service.close()
    await singles.close()
    await database.close()


async def _until(end: str, rings: asyncio.Queue[str]) -> AsyncIterator[str]:
    while (ring := await rings.get()) != end:
        yield ring


async def test_jobs_in_a_row_are_announced_by_one_of_them_each_once(
    store: Store, database_url: str, rings: asyncio.Queue[str]
) -> None:
    """A producer that goes on enqueueing rings for what it has not told yet, and none is left out."""
    database = await PooledDatabase.open(database_url, application_name="test", most=2)
    singles = SoleCallerDatabase(database_url, application_name="test")
    service = Enqueue(store.jobs, PlainJobs(singles, database, rings=True), store.dispatch)
    await store.jobs.enqueue([new_job()])
    began = monotonic()
    for _ in range(50):
        await service.one(new_job(), on_duplicate="raise")
    await service.close()
    took = monotonic() - began
    await singles.close()
    await database.close()
    end = ring_for([Place(1, 1, 0, new_id())])
    await store.dispatch.announce([Place(1, 1, 0, new_id())])
    async with asyncio.timeout(HEARD_S):
        heard = [ring async for ring in _until(end, rings)]
    told = [rank for ring in heard for _, _, rank in streams_of(ring)]
    ranks = [row["rank"] for row in await store.sql("SELECT rank FROM perdure.available_jobs OFFSET 1")]
    assert len(heard) <= took / BETWEEN_RINGS_S + 2
    assert len(told) == len(set(told))
    assert set(told) <= set(ranks)
    assert min(told) == min(ranks)


@pytest.mark.parametrize("store", ["perdure", "other"], indirect=True)
async def test_lanes_do_not_begin_at_one(store: Store) -> None:
    """What a producer remembers of a schema that was dropped should name no lane of the one in its place."""
    await store.jobs.enqueue([new_job()])
    assert await store.value("SELECT min(lane) FROM perdure.lanes") > 1


class Kept:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.broken: RollbackDetected | None = None
        self.ids: list[UUID] = []

    def note(self, ids: Sequence[UUID]) -> None:
        self.ids += ids


async def test_the_watch_is_told_of_whatever_was_stored_once_and_of_nothing_else(
    store: Store, database_url: str
) -> None:
    database = await PooledDatabase.open(database_url, application_name="test", most=2)
    singles = SoleCallerDatabase(database_url, application_name="test")
    kept, known = Kept(), new_job()
    service = Enqueue(store.jobs, PlainJobs(singles, database, rings=True), store.dispatch, kept)
    await store.jobs.enqueue([known])
    alone, together = [new_job() for _ in range(30)], [new_job() for _ in range(10)]
    many, few = [new_job() for _ in range(MANY)], [new_job(), new_job()]
    for job in alone:
        await service.one(job, on_duplicate="raise")
    await asyncio.gather(*(service.one(job, on_duplicate="raise") for job in together))
    await service.many(many, on_duplicate="raise")
    await service.many([*few, known], on_duplicate="raise")
    await service.close()
    await singles.close()
    await database.close()
    assert sorted(kept.ids) == sorted(job.id for job in [*alone, *together, *many, *few])


class Faltering:
    """Dispatch whose first ring fails, after somebody stored one more job meanwhile."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]], error: Exception) -> None:
        self.meanwhile = meanwhile
        self.error = error

    async def announce(self, places: Sequence[Place]) -> None:
        await self.meanwhile()
        raise self.error


@pytest.mark.parametrize("error", [DatabaseUnavailable("it went away"), RuntimeError("nobody foresaw it")])
async def test_the_watch_is_told_of_what_was_stored_while_a_ring_failed(
    store: Store, database_url: str, error: Exception
) -> None:
    database = await PooledDatabase.open(database_url, application_name="test", most=2)
    singles = SoleCallerDatabase(database_url, application_name="test")
    kept, first, later = Kept(), new_job(), new_job()
    faltering = Faltering(lambda: service.one(later, on_duplicate="raise"), error)
    plain = PlainJobs(singles, database, rings=False)
    service = Enqueue(store.jobs, plain, faltering, kept)  # type: ignore[arg-type] # nothing else is asked for
    await store.jobs.enqueue([new_job()])
    await service.one(first, on_duplicate="raise")
    await service.close()
    await singles.close()
    await database.close()
    assert kept.ids == [first.id, later.id]


async def test_nothing_is_stored_while_the_database_is_not_what_it_was(
    store: Store, database_url: str
) -> None:
    database = await PooledDatabase.open(database_url, application_name="test", most=2)
    singles = SoleCallerDatabase(database_url, application_name="test")
    kept = Kept()
    service = Enqueue(store.jobs, PlainJobs(singles, database, rings=True), store.dispatch, kept)
    await store.jobs.enqueue([new_job()])
    kept.broken = RollbackDetected("it went back")
    jobs = [new_job() for _ in range(MANY)]
    service._is_taken = True  # as while the commit of a lone job is under way
    with pytest.raises(RollbackDetected):
        await asyncio.wait_for(service.one(jobs[0], on_duplicate="raise"), HEARD_S)
    service._is_taken = False
    for refused in (
        service.one(jobs[0], on_duplicate="raise"),
        service.many(jobs, on_duplicate="raise"),
        service.many(jobs[:2], on_duplicate="raise"),
    ):
        with pytest.raises(RollbackDetected):
            await refused
    answers = await asyncio.gather(
        *(service.one(job, on_duplicate="raise") for job in jobs), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {RollbackDetected}
    await service.close()
    await singles.close()
    await database.close()
    assert await store.value("SELECT count(*) FROM perdure.jobs") == 1


async def test_a_lone_job_has_the_rank_of_its_moment_however_long_ago_the_database_was_asked(
    store: Store, plain: PlainJobs
) -> None:
    async def now() -> int:
        return int(await store.value("SELECT perdure.rank_of(now(), 3::smallint)"))

    await store.jobs.enqueue([new_job()])
    before = await now()
    places = [await plain.lone(new_job()) for _ in range(3)]
    after = await now()
    ranks = [place.rank for place in places if place is not None]
    assert before <= ranks[0] < ranks[1] < ranks[2] <= after
    (shape, berth), later = next(iter(plain._known.items())), 0.5
    plain._known[shape] = replace(berth, heard_at=berth.heard_at - later)
    place = await plain.lone(new_job())
    assert place is not None
    assert place.rank - ranks[2] >= later * 1_000_000
