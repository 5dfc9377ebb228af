"""The leader's look at jobs that wait for a slot of their key: cheap and bounded, however many wait."""

from time import monotonic

from tests.support.database import Store

BODIES = """
INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args, concurrency_key, concurrency_limit)
SELECT perdure.new_job_id(), 1, 3, 4, '{}', CASE WHEN $2 THEN 'key ' || n ELSE 'key' END, 1 FROM generate_series(1, $1::integer) AS n
"""
PARKED = """
INSERT INTO perdure.parked_jobs (job_id, rank, available_at, lane, band, run, attempt, crashes, interruptions, suspicion, concurrency_key)
SELECT j.id, 1, now(), 1, 1, 1, 0, 0, 0, 0, j.concurrency_key FROM perdure.jobs j
"""
TAKEN = """
INSERT INTO perdure.leases (job_id, worker_id, rank, available_at, deadline, available_xid, process, lane, band, run, attempt, crashes,
    interruptions, suspicion, slot, concurrency_key)
SELECT gen_random_uuid(), gen_random_uuid(), 1, now(), 'infinity', pg_current_xact_id(), 1, 1, 1, 1, 1, 0, 0, 0, 1, k.key
FROM (SELECT DISTINCT p.concurrency_key AS key FROM perdure.parked_jobs p) k
"""


async def parked(store: Store, count: int, *, keys: bool) -> None:
    await store.sql(BODIES, count, keys)
    await store.sql(PARKED)
    await store.sql(TAKEN)
    await store.sql("ANALYZE perdure.parked_jobs, perdure.leases, perdure.jobs")


async def test_jobs_of_very_many_keys_do_not_use_up_the_locks_of_the_server(store: Store) -> None:
    await parked(store, 30_000, keys=True)
    assert not await store.jobs.unpark()
    await store.sql("DELETE FROM perdure.leases WHERE concurrency_key IN ('key 7', 'key 29000')")
    assert len(await store.jobs.unpark()) == 2


async def test_very_many_jobs_of_one_key_cost_no_more_than_few(store: Store) -> None:
    """The look is taken four times a second."""
    await parked(store, 200_000, keys=False)
    took = []
    for _ in range(5):
        began = monotonic()
        assert not await store.jobs.unpark()
        took.append(monotonic() - began)
    assert min(took) < 0.03, took
    await store.sql("DELETE FROM perdure.leases")
    assert len(await store.jobs.unpark()) == 1
