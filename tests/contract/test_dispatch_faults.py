"""Redis may be emptied, filled with rubbish, killed, or be no use at all: no job is lost and none is handed out twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from time import monotonic
from uuid import UUID

import pytest
from redis.asyncio import Redis

from perdure.domain.errors import RedisUnavailable
from perdure.domain.rank import Band, queue_key
from perdure.stores.postgres.dispatch import listening_dispatch
from perdure.stores.redis import dispatch as redis_dispatch
from perdure.stores.redis.dispatch import RedisDispatch
from perdure.stores.redis.keys import Keys
from tests.contract.conftest import open_dispatch
from tests.support.database import SCOPE, Store, claimer, new_job
from tests.support.fleet import until
from tests.support.servers import RedisServer

KEYS = Keys("perdure")
Fault = Callable[[Redis], Awaitable[object]]


@asynccontextmanager
async def connected(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        yield redis


async def command(redis: Redis, *words: str) -> None:
    await redis.execute_command(*words)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def dispatch_on(store: Store, redis_url: str) -> AsyncIterator[RedisDispatch]:
    async with AsyncExitStack() as stack:
        dispatch = await open_dispatch(stack, store, redis_url)
        assert isinstance(dispatch, RedisDispatch)
        yield dispatch


async def work_until(dispatch: RedisDispatch, store: Store, wanted: int, done: list[UUID]) -> None:
    """Claim and complete, as one of several workers, until all jobs together are done."""
    me = claimer()
    while len(done) < wanted:
        leases = await dispatch.claim(me, SCOPE, limit=5)
        settled = await store.end(leases) if leases else None
        assert settled is None or len(settled.accepted) == len(leases)
        done += [lease.job_id for lease in leases]
        await asyncio.sleep(0 if leases else 0.01)


async def drained_despite(fault: Callable[[], Awaitable[object]], store: Store, redis_url: str) -> None:
    """With three workers and a producer under way, the fault happens in the middle; all jobs are done once."""
    done: list[UUID] = []
    async with AsyncExitStack() as stack:
        dispatches = [await stack.enter_async_context(dispatch_on(store, redis_url)) for _ in range(3)]
        jobs = [new_job(priority=1 + n % 5) for n in range(600)]
        await dispatches[0].announce(await store.add(*jobs[:300]))
        workers = [asyncio.create_task(work_until(dispatch, store, 600, done)) for dispatch in dispatches]
        while len(done) < 100:  # noqa: ASYNC110 - a bounded poll
            await asyncio.sleep(0.005)
        await fault()
        for n in range(300, 600, 50):
            await dispatches[0].announce(await store.add(*jobs[n : n + 50]))
        await asyncio.wait_for(asyncio.gather(*workers), 30)
    assert sorted(done) == sorted(job.id for job in jobs)
    assert await store.value("SELECT count(*) FROM perdure.job_executions WHERE state = 'completed'") == 600


async def test_a_time_out_that_no_integer_can_hold_with_its_grace_stops_no_claim(
    store: Store, redis_url: str
) -> None:
    async with dispatch_on(store, redis_url) as dispatch:
        jobs = [new_job(), new_job()]
        await dispatch.announce(await store.add(*jobs))
        await store.sql("UPDATE perdure.jobs SET timeout_ms = 2147483647 WHERE id = $1", jobs[0].id)
        leases = await dispatch.claim(claimer(), SCOPE, limit=5)
        assert {lease.job_id for lease in leases} == {job.id for job in jobs}


async def test_a_flush_in_the_middle_loses_nothing(store: Store, redis_url: str) -> None:
    async with connected(redis_url) as redis:
        await drained_despite(redis.flushdb, store, redis_url)


async def test_a_kill_in_the_middle_loses_nothing(store: Store, private_redis: RedisServer) -> None:
    async def kill() -> None:
        await asyncio.to_thread(private_redis.kill)

    await drained_despite(kill, store, private_redis.url)


async def test_a_kill_and_a_restart_in_the_middle_lose_nothing(
    store: Store, private_redis: RedisServer
) -> None:
    async def restart() -> None:
        await asyncio.to_thread(private_redis.kill)
        await asyncio.to_thread(private_redis.restart)

    await drained_despite(restart, store, private_redis.url)


async def test_rubbish_in_the_lists_is_dropped(store: Store, redis_url: str) -> None:
    (other,) = await store.add(new_job("app.other"))
    async with dispatch_on(store, redis_url) as dispatch, connected(redis_url) as redis:
        places = await store.add(*(new_job() for _ in range(20)))
        await dispatch.announce(places)
        waiting = KEYS.waiting(places[0].lane, Band.MEDIUM)
        rubbish: list[bytes | str] = [
            b"\xff\xfe",
            "",
            "rubbish",
            "12:no-uuid",
            f"{10**30}:{places[0].job_id}",
            f"{places[0].rank + 1}:{places[0].job_id}",
            f"{other.rank}:{other.job_id}",
            f"1:{UUID(int=1)}",
        ]
        await redis.lpush(waiting, *rubbish)
        dispatch._passed[SCOPE] = monotonic()
        leases = [lease for _ in range(10) for lease in await dispatch.claim(claimer(), SCOPE, limit=7)]
        assert sorted(lease.job_id for lease in leases) == sorted(place.job_id for place in places)
        assert await redis.llen(waiting) == 0
        assert dispatch.failures == 0
    assert await store.state(other.job_id) == "available"


async def test_a_key_of_another_type_is_a_failure_like_any_other(store: Store, redis_url: str) -> None:
    async with dispatch_on(store, redis_url) as dispatch, connected(redis_url) as redis:
        (place,) = await store.add(new_job())
        await redis.set(KEYS.waiting(place.lane, Band.HIGH), "not a list")
        (lease,) = await dispatch.claim(claimer(), SCOPE, limit=5)
        assert lease.job_id == place.job_id


async def test_a_restored_dump_hands_nothing_out_again(store: Store, redis_url: str) -> None:
    async with dispatch_on(store, redis_url) as dispatch, connected(redis_url) as redis:
        old = await store.add(*(new_job() for _ in range(50)))
        await dispatch.announce(old)
        waiting = KEYS.waiting(old[0].lane, Band.MEDIUM)
        dump = await redis.lrange(waiting, 0, -1)
        assert len(dump) == 50
        while leases := await dispatch.claim(claimer(), SCOPE, limit=20):
            await store.end(leases)
        await redis.rpush(waiting, *dump)
        new = await store.add(new_job())
        await dispatch.announce(new)
        dispatch._passed[SCOPE] = monotonic()
        leases = await dispatch.claim(claimer(), SCOPE, limit=20)
        assert [lease.job_id for lease in leases] == [new[0].job_id]
        assert await dispatch.claim(claimer(), SCOPE, limit=20) == []
        assert await store.value("SELECT max(attempt) FROM perdure.job_executions") == 1


async def replica(redis: Redis) -> None:
    await command(redis, "REPLICAOF", "127.0.0.1", "1")


async def out_of_memory(redis: Redis) -> None:
    await redis.config_set("maxmemory", "1")


async def hanging(redis: Redis) -> None:
    await command(redis, "CLIENT", "PAUSE", "3000", "ALL")


@pytest.mark.parametrize("fault", [replica, out_of_memory])
async def test_a_server_that_answers_and_takes_no_writes_stays_aside(
    store: Store, private_redis: RedisServer, fault: Fault
) -> None:
    """Else it would be taken up and left aside again twice a second."""
    async with dispatch_on(store, private_redis.url) as dispatch:
        async with connected(private_redis.url) as redis:
            await fault(redis)
        await dispatch.announce(await store.add(new_job()))

        async def looked_often() -> bool:
            assert not dispatch._link.usable
            return dispatch.failures >= 3

        await until(looked_often, within_s=20, what="three looks have failed")
        async with connected(private_redis.url) as redis:
            await command(redis, "REPLICAOF", "NO", "ONE")
            await redis.config_set("maxmemory", "0")
        await until_back(dispatch)


@pytest.mark.parametrize("fault", [replica, out_of_memory, hanging])
async def test_a_server_that_is_no_use_is_left_aside_and_taken_up_again(
    store: Store, private_redis: RedisServer, fault: Fault
) -> None:
    async with dispatch_on(store, private_redis.url) as dispatch:
        async with connected(private_redis.url) as redis:
            await fault(redis)
        first = new_job()
        await dispatch.announce(await store.add(first))
        before = monotonic()
        (lease,) = await dispatch.claim(claimer(), SCOPE, limit=5)
        assert lease.job_id == first.id
        assert dispatch.failures >= 1
        await store.add(new_job())
        assert len(await dispatch.claim(claimer(), SCOPE, limit=5)) == 1
        assert monotonic() - before < 3
        await asyncio.to_thread(private_redis.restart)
        await until_back(dispatch)
        await dispatch.announce(await store.add(new_job(), new_job()))
        assert await dispatch.depths() == {Band.HIGH: 0, Band.MEDIUM: 2, Band.LOW: 0}


async def until_back(dispatch: RedisDispatch) -> None:
    async with asyncio.timeout(10):
        while not dispatch._link.usable:  # noqa: ASYNC110 - asking is what makes it look
            await asyncio.sleep(0.02)


async def test_while_redis_is_away_postgresql_rings_and_counts(
    store: Store, private_redis: RedisServer
) -> None:
    async with dispatch_on(store, private_redis.url) as one, dispatch_on(store, private_redis.url) as other:
        await store.add(new_job())
        await store.end(await one.claim(claimer(), SCOPE, limit=1))
        await asyncio.to_thread(private_redis.kill)
        await one.claim(claimer(), SCOPE, limit=1)
        waiting = asyncio.create_task(one.wait(timedelta(seconds=10)))
        await asyncio.sleep(0.05)
        await other.announce(await store.add(new_job(priority=5)))
        assert await asyncio.wait_for(waiting, 5) is True
        assert (await other.depths())[Band.HIGH] == 1
        await other.release(claimer().worker_id)


async def test_a_server_that_is_away_at_the_start_is_taken_up_later(
    store: Store, private_redis: RedisServer
) -> None:
    await asyncio.to_thread(private_redis.stop)
    async with dispatch_on(store, private_redis.url) as dispatch:
        await store.add(new_job())
        assert len(await dispatch.claim(claimer(), SCOPE, limit=1)) == 1
        await asyncio.to_thread(private_redis.start)
        await until_back(dispatch)


async def test_a_second_without_a_look_at_postgresql_is_the_longest(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was never announced starts although Redis has work all the time."""
    monkeypatch.setattr(redis_dispatch, "FULL_PASS_S", 0.1)
    async with dispatch_on(store, redis_url) as dispatch:
        unannounced = new_job(priority=5)
        await store.add(unannounced)
        claimed: list[UUID] = []
        until = monotonic() + 5
        while unannounced.id not in claimed and monotonic() < until:
            await dispatch.announce(await store.add(new_job(), new_job()))
            claimed += [lease.job_id for lease in await dispatch.claim(claimer(), SCOPE, limit=1)]
        assert unannounced.id in claimed


async def test_lists_are_bounded_and_expire(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_dispatch, "LIST_MAX", 10)
    async with dispatch_on(store, redis_url) as dispatch, connected(redis_url) as redis:
        places = await store.add(*(new_job() for _ in range(50)))
        await dispatch.announce(places)
        assert (await dispatch.depths())[Band.MEDIUM] == 10
        assert 0 < await redis.ttl(KEYS.waiting(places[0].lane, Band.MEDIUM)) <= redis_dispatch.LIST_TTL_S
        assert await redis.llen(KEYS.doorbell(places[0].lane)) <= redis_dispatch.RINGS_MAX
        claimed = [lease for _ in range(8) for lease in await dispatch.claim(claimer(), SCOPE, limit=20)]
        assert len(claimed) == 50


async def test_announcements_of_any_size_keep_their_order(store: Store, redis_url: str) -> None:
    async with dispatch_on(store, redis_url) as dispatch:
        jobs = [new_job() for _ in range(7_000)]
        earlier, later = await store.add(*jobs[:1_000]), await store.add(*jobs[1_000:])
        await dispatch.announce(later)
        await dispatch.announce(earlier)
        dispatch._passed[SCOPE] = monotonic()
        leases = await dispatch.claim(claimer(), SCOPE, limit=6_500)
        assert [lease.job_id for lease in leases] == [job.id for job in jobs[:6_500]]


async def test_release_forgets_what_the_processes_of_a_worker_took(store: Store, redis_url: str) -> None:
    async with dispatch_on(store, redis_url) as dispatch, connected(redis_url) as redis:
        await dispatch.announce(await store.add(new_job(), new_job()))
        me = claimer(process=3)
        dispatch._passed[SCOPE] = monotonic()
        await dispatch.claim(me, SCOPE, limit=1)
        assert await redis.llen(KEYS.processing(me.worker_id, 3)) == 1
        await dispatch.release(me.worker_id)
        assert await redis.keys(f"{KEYS.prefix}worker:*") == []


async def test_schemas_share_a_redis_without_meeting(store: Store, redis_url: str) -> None:
    async with dispatch_on(store, redis_url) as dispatch:
        places = await store.add(new_job())
        await dispatch.announce(places)
        deciding = listening_dispatch(store.url, application_name="tests claim")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(deciding._database.close)  # type: ignore[attr-defined]
            other = await RedisDispatch.open(redis_url, deciding, schema="other")
            stack.push_async_callback(other.close)
            assert (await other.depths())[Band.MEDIUM] == 0
        assert (await dispatch.depths())[Band.MEDIUM] == 1


@pytest.mark.parametrize(
    ("policy", "forbidden"),
    [("allkeys-lru", False), ("allkeys-random", True), ("volatile-lru", False), ("volatile-ttl", True)],
)
async def test_an_evicting_redis_is_refused_by_name(
    store: Store, private_redis: RedisServer, policy: str, forbidden: bool
) -> None:
    async with connected(private_redis.url) as redis:
        await redis.config_set("maxmemory-policy", policy)
        if forbidden:
            await command(redis, "ACL", "SETUSER", "default", "-config")
    with pytest.raises(RedisUnavailable, match=policy) as refusal:
        await RedisDispatch.open(private_redis.url, store.dispatch, schema="perdure")
    assert "noeviction" in refusal.value.next_step


async def test_a_redis_that_tells_nothing_is_used(store: Store, private_redis: RedisServer) -> None:
    async with connected(private_redis.url) as redis:
        await command(redis, "ACL", "SETUSER", "default", "-config", "-info")
    async with dispatch_on(store, private_redis.url) as dispatch:
        assert dispatch.failures == 0


async def old_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much of Redis 6.2 as is needed to be refused."""
    while line := await reader.readline():
        words = []
        for _ in range(int(line[1:])):
            await reader.readline()
            words.append((await reader.readline()).strip().upper())
        reply = b"redis_version:6.2.14\r\n"
        writer.write(b"$%d\r\n%s\r\n" % (len(reply), reply) if words[0] == b"INFO" else b"+OK\r\n")
    writer.close()


async def test_an_old_redis_is_refused(store: Store) -> None:
    server = await asyncio.start_server(old_server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(RedisUnavailable, match=r"6\.2\.14 is too old"):
            await RedisDispatch.open(f"redis://127.0.0.1:{port}/0", store.dispatch, schema="perdure")


async def test_an_address_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(RedisUnavailable, match="address"):
        await RedisDispatch.open("ftp://nowhere", store.dispatch, schema="perdure")


def test_queues_have_the_names_that_others_know() -> None:
    assert [queue_key(priority) for priority in range(1, 6)] == [
        "job:queue:low",
        "job:queue:medium",
        "job:queue:medium",
        "job:queue:high",
        "job:queue:high",
    ]
