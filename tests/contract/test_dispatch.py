"""What every dispatch promises, whatever hands the jobs out."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.domain.errors import WorkerGone
from perdure.domain.job import PRIORITIES, NewJob
from perdure.domain.lease import Lease
from perdure.domain.rank import Band, rank_of
from perdure.domain.settlement import Completed, Crashed, Interrupted, settle
from perdure.domain.worker import WorkerId
from perdure.ports import Claimer, Dispatch, Place, Scope
from tests.contract.conftest import AnyStore, Bench
from tests.support.database import SCOPE, Store, claimer, new_job

SOON = timedelta(seconds=10)


async def claim(bench: Bench, limit: int = 100, scope: Scope = SCOPE) -> list[UUID]:
    return [lease.job_id for lease in await bench.dispatch.claim(claimer(), scope, limit=limit)]


async def claim_all(dispatch: Dispatch, *, limit: int) -> list[UUID]:
    me, mine = claimer(), list[UUID]()
    while leases := await dispatch.claim(me, SCOPE, limit=limit):
        mine += [lease.job_id for lease in leases]
    return mine


async def work(bench: Bench, *, limit: int, idle_rounds: int = 40) -> list[Lease]:
    """Claim and settle until nothing comes for a while, as a worker does."""
    dispatch, me, done, idle = await bench.another(), claimer(), list[Lease](), 0
    while idle < idle_rounds:
        leases = await dispatch.claim(me, SCOPE, limit=limit)
        if not leases:
            idle += 1
            await asyncio.sleep(0.01)
            continue
        idle = 0
        await asyncio.sleep(0)
        settled = await bench.store.jobs.settle([settle(lease, Completed()) for lease in leases])
        await dispatch.announce(settled.released)
        done += leases
    return done


async def aged(bench: Bench, job: NewJob, by: timedelta) -> None:
    """Enqueue a job that became available that long ago."""
    (place,) = await bench.store.add(job)
    rank = place.rank - by // timedelta(microseconds=1)
    await bench.store.rerank(job.id, rank)
    await bench.dispatch.announce([Place(place.lane, place.band, rank, place.job_id)])


async def test_however_many_claimers_pull_each_job_is_handed_out_once(bench: Bench) -> None:
    jobs = [new_job(priority=priority) for priority in PRIORITIES for _ in range(60)]
    await bench.add(*jobs)
    dispatches = [await bench.another() for _ in range(6)]
    parts = await asyncio.gather(*(claim_all(dispatch, limit=7) for dispatch in dispatches))
    assert sorted(chain.from_iterable(parts)) == sorted(job.id for job in jobs)


async def test_the_best_priority_comes_first_and_a_band_is_first_in_first_out(bench: Bench) -> None:
    jobs = [new_job(priority=priority) for priority in (1, 3, 5, 2, 4, 1, 3, 5, 2, 4)]
    for job in jobs:
        await bench.add(job)
    expected = [job.id for band in ((4, 5), (2, 3), (1,)) for job in jobs if job.shape.priority in band]
    assert await claim(bench, 4) + await claim(bench, 100) == expected


async def test_a_low_job_goes_before_a_later_high_one_once_it_has_waited_out_the_head_start(
    bench: Bench,
) -> None:
    high, older, younger = new_job(priority=5), new_job(priority=1), new_job(priority=1)
    await aged(bench, high, timedelta(0))
    await aged(bench, younger, timedelta(seconds=170))
    await aged(bench, older, timedelta(seconds=190))
    assert await claim(bench) == [older.id, high.id, younger.id]


async def test_a_job_that_goes_back_keeps_its_place(bench: Bench) -> None:
    first, second = new_job(), new_job()
    await bench.add(first)
    (lease,) = await bench.dispatch.claim(claimer(), SCOPE, limit=1)
    await bench.add(second)
    settled = await bench.store.end([lease], Interrupted(cause="a deploy"))
    await bench.dispatch.announce(settled.released)
    assert await claim(bench) == [first.id, second.id]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
            st.sampled_from(PRIORITIES),
        ),
        min_size=1,
        max_size=50,
    )
)
def test_sql_and_python_rank_alike(database_url: str, ready: list[tuple[datetime, int]]) -> None:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT perdure.rank_of(r.at, r.priority) FROM unnest(%s::timestamptz[], %s::smallint[]) AS r (at, priority)",
            ([at for at, _ in ready], [priority for _, priority in ready]),
        ).fetchall()
    assert [row[0] for row in rows] == [rank_of(at, priority) for at, priority in ready]


async def test_no_claim_gives_more_than_it_was_asked_for(bench: Bench) -> None:
    await bench.add(*(new_job() for _ in range(6)), *(new_job(concurrency_key=f"k{n}") for n in range(6)))
    assert await claim(bench, 0) == []
    sizes = [len(await claim(bench, 5)) for _ in range(3)]
    assert sizes == [5, 5, 2]


@pytest.mark.parametrize(
    "scope",
    [
        Scope(queues=("other",), kinds=("app.work",)),
        Scope(queues=("default",), kinds=("app.other",)),
        Scope(queues=("default",), kinds=("app.work",), labels=("gpu",)),
    ],
)
async def test_only_jobs_of_the_scope_are_given(bench: Bench, scope: Scope) -> None:
    jobs = [new_job(), new_job(queue="other"), new_job("app.other"), new_job(labels=("gpu",))]
    await bench.add(*jobs)
    mine = [
        job.id
        for job in jobs
        if job.shape.queue in scope.queues
        and job.shape.kind in scope.kinds
        and set(job.shape.labels) <= set(scope.labels)
    ]
    assert await claim(bench, scope=scope) == mine


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(bench: Bench) -> None:
    job = new_job()
    await bench.store.pause("default")
    await bench.add(job)
    paused = await bench.another()
    assert await paused.claim(claimer(), SCOPE, limit=5) == []
    await bench.store.resume("default")
    (lease,) = await paused.claim(claimer(), SCOPE, limit=5)
    assert lease.job_id == job.id


async def test_a_job_whose_kind_nobody_knows_waits_untouched(bench: Bench) -> None:
    unknown = new_job("app.unknown")
    await bench.add(unknown)
    assert await claim(bench) == []
    assert await bench.store.state(unknown.id) == "available"
    assert await bench.store.failures(unknown.id) == 0


async def test_a_lost_announcement_costs_no_job(bench: Bench) -> None:
    job = new_job()
    await bench.store.add(job)
    assert await claim(bench) == [job.id]


async def test_a_doubled_announcement_gives_one_lease(bench: Bench) -> None:
    job = new_job()
    places = await bench.add(job)
    await bench.dispatch.announce([*places, *places])
    assert await claim(bench) == [job.id]
    await bench.dispatch.announce(places)
    assert await claim(bench) == []


@pytest.mark.parametrize("concurrency_key", [None, "k"], ids=["plain", "keyed"])
@pytest.mark.parametrize("isolated", [False, True])
async def test_who_was_given_up_for_dead_claims_nothing(
    bench: Bench, isolated: bool, concurrency_key: str | None
) -> None:
    """Its processes may not know yet; what they claimed would be taken for lost in a crash at once."""
    job, me = new_job(concurrency_key=concurrency_key), claimer(isolated=isolated)
    await bench.add(job)
    for ended in ("dead", "stopped"):
        await bench.store.set_worker(me.worker_id, ended)
        with pytest.raises(WorkerGone, match=str(me.worker_id)):
            await bench.dispatch.claim(me, SCOPE, limit=5)
    with pytest.raises(WorkerGone):
        await bench.dispatch.claim(Claimer(worker_id=WorkerId(uuid4()), process=0), SCOPE, limit=5)
    assert await claim(bench) == [job.id]


async def test_who_drains_claims_nothing_and_is_not_gone(bench: Bench) -> None:
    job, me = new_job(), claimer()
    await bench.add(job)
    await bench.store.set_worker(me.worker_id, "draining")
    assert await bench.dispatch.claim(me, SCOPE, limit=5) == []
    assert await claim(bench) == [job.id]


async def test_who_dies_between_the_look_and_the_slot_gets_no_slot(store: Store) -> None:
    """Keyed jobs are leased in a second statement, which asks again; so does the confirmation of what Redis hands out."""
    job, me = new_job(concurrency_key="k"), claimer()
    places = await store.add(job)
    await store.sql("UPDATE perdure.workers SET state = 'dead' WHERE id = $1", me.worker_id)
    with pytest.raises(asyncpg.PostgresError, match="may not claim"):
        await store.dispatch._claim_gated(me, [job.id], 1)
    with pytest.raises(WorkerGone):
        await store.dispatch.confirm(me, places)
    assert await store.state(job.id) == "available"


async def test_suspects_go_to_isolated_claimers_alone(bench: Bench) -> None:
    suspects, others = [new_job() for _ in range(3)], [new_job() for _ in range(2)]
    await bench.add(*suspects)
    leases = await bench.dispatch.claim(claimer(), SCOPE, limit=3)
    settled = await bench.store.end(leases, Crashed(cause="its process died", alone=False))
    await bench.dispatch.announce(settled.released)
    await bench.add(*others)
    assert await claim(bench) == [job.id for job in others]
    alone = claimer(isolated=True)
    given_alone = [await bench.dispatch.claim(alone, SCOPE, limit=1) for _ in range(4)]
    assert [[lease.job_id for lease in leases] for leases in given_alone] == [
        *([job.id] for job in suspects),
        [],
    ]


async def slots_were_exact(store: AnyStore, limits: dict[str, int]) -> None:
    """No slot of a key was held twice at once, by the order of transactions, and none beyond the limit existed."""
    slots = await store.slots()
    for slot, following in pairwise(slots):
        if (slot.key, slot.number) == (following.key, following.number):
            assert slot.settled < following.claimed
    assert all(1 <= slot.number <= slot.limit <= limits[slot.key] for slot in slots)


@pytest.mark.parametrize(
    "limits", [{"a": 1}, {"a": 3, "b": 1, "c": 7}], ids=["one key, one slot", "three keys"]
)
async def test_concurrency_keys_are_exact_and_drain_under_many_claimers(
    bench: Bench, limits: dict[str, int]
) -> None:
    jobs = [
        new_job(concurrency_key=key, concurrency_limit=limit)
        for key, limit in limits.items()
        for _ in range(40)
    ]
    await bench.add(*jobs, *(new_job() for _ in range(20)))
    parts = await asyncio.gather(*(work(bench, limit=5) for _ in range(6)))
    done = Counter(lease.job_id for lease in chain.from_iterable(parts))
    assert set(done.values()) == {1}
    assert len(done) == len(jobs) + 20
    await slots_were_exact(bench.store, limits)


async def test_jobs_of_one_key_with_different_limits_all_run(bench: Bench) -> None:
    jobs = [new_job(concurrency_key="k", concurrency_limit=1 + n % 4) for n in range(60)]
    await bench.add(*jobs)
    parts = await asyncio.gather(*(work(bench, limit=3) for _ in range(4)))
    assert sorted(lease.job_id for lease in chain.from_iterable(parts)) == sorted(job.id for job in jobs)
    await slots_were_exact(bench.store, {"k": 4})


async def test_a_job_with_a_small_limit_is_not_starved_by_others_of_its_key(bench: Bench) -> None:
    """A slot that it may use is enough; the key need not fall idle."""
    wide = [new_job(concurrency_key="k", concurrency_limit=2) for _ in range(2)]
    narrow = new_job(concurrency_key="k", concurrency_limit=1)
    await bench.add(*wide)
    held = await bench.dispatch.claim(claimer(), SCOPE, limit=2)
    await bench.add(narrow)
    assert await claim(bench) == []
    (first,) = [lease for lease in held if lease.job_id == wide[0].id]
    settled = await bench.store.end([first])
    await bench.dispatch.announce(settled.released)
    assert await claim(bench) == [narrow.id]


async def test_many_jobs_of_a_full_key_do_not_hold_up_those_behind_them(bench: Bench) -> None:
    crowd = [new_job(concurrency_key="k") for _ in range(200)]
    behind = new_job()
    await bench.add(*crowd)
    await bench.add(behind)
    claimed = [job_id for _ in range(4) for job_id in await claim(bench, 1)]
    assert claimed == [crowd[0].id, behind.id]


async def test_a_key_with_one_slot_is_first_in_first_out(bench: Bench) -> None:
    jobs = [new_job(concurrency_key="k") for _ in range(15)]
    for job in jobs:
        await bench.add(job)
    leases: Sequence[Lease] = await work(bench, limit=4, idle_rounds=5)
    assert [lease.job_id for lease in leases] == [job.id for job in jobs]


async def test_a_key_with_one_slot_is_first_in_first_out_among_several_workers(bench: Bench) -> None:
    """Each of them meets other jobs of the key first, and parks them; what is let out again keeps its place."""
    jobs = [new_job(concurrency_key="k") for _ in range(60)]
    for job in jobs[:30]:
        await bench.add(job)

    async def late() -> None:
        for job in jobs[30:]:
            await bench.add(job)

    await asyncio.gather(late(), *(work(bench, limit=limit) for limit in (1, 2, 3, 5, 8)))
    started = [slot.job_id for slot in await bench.store.slots() if slot.number == 1]
    assert started == [job.id for job in jobs]


async def test_different_limits_on_one_key_leave_no_slot_unused(bench: Bench) -> None:
    """A job whose limit is reached is passed over by those behind it whose limit is not."""
    narrow = [new_job(concurrency_key="k", concurrency_limit=1) for _ in range(3)]
    wide = [new_job(concurrency_key="k", concurrency_limit=3) for _ in range(3)]
    await bench.add(*narrow, *wide)
    leases = await bench.dispatch.claim(claimer(), SCOPE, limit=10)
    assert {lease.job_id for lease in leases} == {narrow[0].id, wide[0].id, wide[1].id}
    (last,) = [lease for lease in leases if lease.job_id == wide[1].id]
    settled = await bench.store.end([last])
    await bench.dispatch.announce(settled.released)
    assert await claim(bench) == [wide[2].id]


async def test_wait_ends_with_a_ring_and_with_the_time(bench: Bench) -> None:
    await bench.dispatch.claim(claimer(), SCOPE, limit=1)
    assert await bench.dispatch.wait(timedelta(milliseconds=20)) is False
    ringer = await bench.another()
    waiting = asyncio.create_task(bench.dispatch.wait(SOON))
    await asyncio.sleep(0.05)
    await ringer.announce(await bench.store.add(new_job()))
    assert await asyncio.wait_for(waiting, 5) is True


async def test_rings_for_jobs_that_are_gone_do_not_pile_up(bench: Bench) -> None:
    for _ in range(20):
        await bench.add(new_job())
    while await claim(bench):
        pass
    await bench.dispatch.wait(timedelta(milliseconds=20))
    assert await bench.dispatch.wait(timedelta(milliseconds=20)) is False


async def test_depths_count_what_waits_in_each_band(bench: Bench) -> None:
    await bench.add(*(new_job(priority=priority) for priority in (1, 2, 3, 4, 5, 5)))
    depths = await bench.dispatch.depths()
    assert {band: depths[band] for band in (Band.HIGH, Band.MEDIUM, Band.LOW)} == {
        Band.HIGH: 3,
        Band.MEDIUM: 2,
        Band.LOW: 1,
    }


async def test_release_of_a_worker_leaves_its_jobs_alone(bench: Bench) -> None:
    await bench.add(new_job(), new_job())
    me = claimer()
    (lease,) = await bench.dispatch.claim(me, SCOPE, limit=1)
    await bench.dispatch.release(me.worker_id)
    assert await bench.store.state(lease.job_id) == "running"
    assert len(await claim(bench)) == 1


async def test_a_claim_gives_fewer_than_it_may_only_where_no_more_can_start(bench: Bench) -> None:
    """Jobs whose key is taken stand at the head of the queue, more than one look meets."""
    await bench.add(*(new_job(concurrency_key="k") for _ in range(12)), *(new_job() for _ in range(6)))
    assert len(await claim(bench, 4)) == 4
    assert len(await claim(bench, 4)) == 3
