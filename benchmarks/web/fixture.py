"""A system with a past to show: jobs that ended over the last hours, jobs that wait, letters, workers, and traffic on top."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from benchmarks.state.history import ENQUEUE, LANES, MARK, SETTLE, WORKER

BATCH = 200_000
HOURS = 20
TICK_S = 0.5
PARTITIONS = "SELECT perdure.make_partition(t, now() - d * interval '1 day') FROM unnest(ARRAY['jobs', 'job_executions']) t, generate_series(0, 1) d"
CLAIM = """
WITH heads AS (
    SELECT c.job_id FROM perdure.lanes n CROSS JOIN LATERAL (
        SELECT a.job_id FROM perdure.available_jobs a WHERE a.lane = n.lane AND a.band = 1 ORDER BY a.rank, a.job_id LIMIT $1 / 5
    ) c
), taken AS (
    DELETE FROM perdure.available_jobs WHERE job_id = ANY (ARRAY(SELECT h.job_id FROM heads h)) RETURNING *
)
INSERT INTO perdure.leases (job_id, worker_id, process, lane, band, rank, run, attempt, crashes, interruptions, suspicion, available_at,
    available_xid, deadline)
SELECT t.job_id, $2, 0, t.lane, t.band, t.rank, t.run, t.attempt + 1, 0, 0, 0, t.available_at, t.xid, now() + interval '1 hour'
FROM taken t
"""
INDEXES = """
SELECT i.indexrelid::regclass::text AS name, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') AS made_by
FROM pg_index i WHERE i.indrelid = 'perdure.job_executions'::regclass
"""
PAST = """
WITH made AS (
    SELECT n, lane, at, token, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid AS id,
        n % 50 = 0 AS fails, n % 500 = 0 AS dies
    FROM (
        SELECT n, 1 + n % 5 AS lane, now() - interval '1 minute' - ($3::float8 * (1 - n::float8 / $4)) * interval '1 hour' AS at,
            gen_random_uuid() AS token, md5(n::text) AS h
        FROM generate_series($1::bigint, $2::bigint) n
    ) g
), bodies AS (
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args, enqueued_at)
    SELECT id, lane, 1 + n % 5, 4, jsonb_build_object('user_id', n % 1000, 'path', 's3://bucket/' || md5(n::text), 'width', n % 4000), at FROM made
), history AS (
    INSERT INTO perdure.job_executions (job_id, token, worker_id, process, lane, run, attempt, crashes, interruptions, outcome, state,
        available_at, claimed_at, started_at, finished_at, settled_at, available_xid, claim_xid, cause, error, result)
    SELECT id, token, $5::uuid, 0, lane, 1, 1, 0, 0, CASE WHEN fails THEN 'failed' ELSE 'completed' END::perdure.outcome,
        CASE WHEN dies THEN 'discarded' WHEN fails THEN 'retryable' ELSE 'completed' END::perdure.job_state,
        at, at + interval '5 ms', at + interval '6 ms', at + interval '30 ms', at + interval '35 ms', pg_current_xact_id(), pg_current_xact_id(),
        CASE WHEN dies THEN 'attempt 1 of 1 failed' END,
        CASE WHEN fails THEN jsonb_build_object('type', 'ConnectionResetError', 'message', 'reset by peer ' || n % 40, 'traceback', '', 'fingerprint', 'c0ffee' || n % 40) END,
        CASE WHEN NOT fails THEN '{"width": 640}'::jsonb END
    FROM made
), letters AS (
    INSERT INTO perdure.dead_letter_queue (job_id, lane, run, attempt, crashes, interruptions, outcome, fingerprint, cause, error, dead_at)
    SELECT id, lane, 1, 1, 0, 0, 'failed', 'c0ffee' || n % 40, 'attempt 1 of 1 failed',
        jsonb_build_object('type', 'ConnectionResetError', 'message', 'reset by peer ' || n % 40, 'traceback', '', 'fingerprint', 'c0ffee' || n % 40), at
    FROM made WHERE dies
)
INSERT INTO perdure.scheduled_jobs (job_id, lane, priority, run_at, run, attempt, retry)
SELECT id, lane, 1 + n % 5, now() + interval '1 hour', 1, 1, true FROM made WHERE fails AND NOT dies
"""


async def write(url: str, *, live: int, past: int) -> float:
    """Write it, in the sizes that are asked for; gives the seconds that it took."""
    began, worker = time.monotonic(), uuid4()
    connection = await asyncpg.connect(url)
    await connection.execute(LANES)
    await connection.execute(PARTITIONS)
    await connection.execute(WORKER, worker)
    async with _fast(connection):
        for first in range(1, past + 1, BATCH):
            await connection.execute(PAST, first, min(first + BATCH - 1, past), float(HOURS), past, worker)
        for begun in range(0, live, BATCH):
            await connection.execute(ENQUEUE, min(BATCH, live - begun), False)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute(MARK)
    await connection.close()
    return time.monotonic() - began


@asynccontextmanager
async def _fast(connection: Any) -> AsyncIterator[None]:
    """The indexes of the history are made when it is there, and a server that only we use does not flush meanwhile."""
    indexes = await connection.fetch(INDEXES)
    await connection.execute("SET synchronous_commit = off")
    await connection.execute("SET maintenance_work_mem = '512MB'")
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    yield
    for index in indexes:
        await connection.execute(index["made_by"])
    await connection.execute("CHECKPOINT")
    await connection.execute("RESET synchronous_commit")


@asynccontextmanager
async def traffic(url: str, rate: int) -> AsyncIterator[list[int]]:
    """So many jobs a second come, are claimed and end, as long as this lasts; gives how many did."""
    done = [0]
    if not rate:
        yield done
        return
    connection = await asyncpg.connect(url)
    task = asyncio.create_task(_work(connection, max(1, round(rate * TICK_S)), done))
    try:
        yield done
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def _work(connection: Any, jobs: int, done: list[int]) -> None:
    worker = uuid4()
    await connection.execute(WORKER, worker)
    due = time.monotonic()
    while True:
        await connection.execute(ENQUEUE, jobs, False)
        await connection.execute(CLAIM, jobs, worker)
        await connection.execute(SETTLE, jobs)
        await connection.execute(MARK)
        done[0] += jobs
        due += TICK_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
