"""A history to look back on and to save: jobs that came, ran, failed and ended, written in bulk as the product writes them.

Of ten jobs one waits for a parent at first, and one for a time.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import asyncpg

from perdure.stores.postgres.statements import statements

BATCH = 10_000

ENQUEUE = """
WITH made AS MATERIALIZED (
    SELECT perdure.new_job_id() AS id, n, $2::boolean AND n % 10 = 0 AS child, $2 AND n % 10 = 5 AS later FROM generate_series(1, $1::integer) n
), bodies AS (
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, depth, args, metadata)
    SELECT id, 1 + n % 5, 1 + n % 5, 4, child::integer, jsonb_build_object('user_id', n % 1000, 'path', 's3://bucket/' || md5(n::text), 'width', n % 4000),
        NULL
    FROM made
), children AS (
    INSERT INTO perdure.blocked_jobs (job_id, waiting, lane, priority) SELECT id, 1, 1 + n % 5, 1 + n % 5 FROM made WHERE child
), edges AS (
    INSERT INTO perdure.job_dependencies (child_id, parent_id)
    SELECT c.id, p.id FROM made c JOIN made p ON p.n = c.n - 1 WHERE c.child
), later AS (
    INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority) SELECT id, now(), 1 + n % 5, 1 + n % 5 FROM made WHERE later
)
INSERT INTO perdure.available_jobs (job_id, rank, lane, band)
SELECT id, (extract(epoch FROM now()) * 1000000)::bigint + n, 1 + n % 5, 1 FROM made WHERE NOT child AND NOT later
"""
FREE = """
SELECT count(*) FROM perdure.settle_edges(ARRAY(
    SELECT d.parent_id FROM perdure.job_dependencies d JOIN perdure.blocked_jobs b ON b.job_id = d.child_id
    WHERE EXISTS (SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND e.state = 'completed')
), 'completed')
"""
CLAIM = """
WITH taken AS (
    DELETE FROM perdure.available_jobs WHERE job_id IN (SELECT job_id FROM perdure.available_jobs ORDER BY rank LIMIT $1) RETURNING *
)
INSERT INTO perdure.leases (job_id, worker_id, process, lane, band, rank, run, attempt, crashes, interruptions, suspicion, available_at,
    available_xid, deadline)
SELECT t.job_id, $2, 0, t.lane, t.band, t.rank, t.run, t.attempt + 1, 0, 0, 0, t.available_at, t.xid, now() + interval '1 hour'
FROM taken t
"""
SETTLE = """
WITH gone AS (
    DELETE FROM perdure.leases WHERE job_id IN (SELECT job_id FROM perdure.leases ORDER BY rank LIMIT $1) RETURNING *
), history AS (
    INSERT INTO perdure.job_executions (job_id, token, worker_id, process, lane, run, attempt, crashes, interruptions, outcome, state,
        available_at, claimed_at, started_at, finished_at, available_xid, claim_xid, retry_at, cause, error, result)
    SELECT g.job_id, g.token, g.worker_id, 0, g.lane, g.run, g.attempt, 0, 0,
        CASE WHEN fails THEN 'failed' ELSE 'completed' END::perdure.outcome,
        CASE WHEN fails AND dies THEN 'discarded' WHEN fails THEN 'retryable' ELSE 'completed' END::perdure.job_state,
        g.available_at, g.claimed_at, g.claimed_at, now(), g.available_xid, g.claim_xid, CASE WHEN fails AND NOT dies THEN now() END,
        CASE WHEN dies AND fails THEN 'attempt 4 of 4 failed' END,
        CASE WHEN fails THEN '{"type": "ConnectionResetError", "message": "reset by peer", "traceback": "", "fingerprint": "c0ffee"}'::jsonb END,
        CASE WHEN NOT fails THEN '{"width": 640}'::jsonb END
    FROM gone g CROSS JOIN LATERAL (SELECT hashtext(g.token::text) % 50 = 0 AS fails, hashtext(g.job_id::text) % 10 = 0 AS dies) d
    RETURNING job_id, lane, run, attempt, state, error
), letters AS (
    INSERT INTO perdure.dead_letter_queue (job_id, lane, run, attempt, crashes, interruptions, outcome, fingerprint, cause, error)
    SELECT h.job_id, h.lane, h.run, h.attempt, 0, 0, 'failed', 'c0ffee', 'attempt 4 of 4 failed', h.error FROM history h
    WHERE h.state = 'discarded'
)
INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, attempt)
SELECT h.job_id, (extract(epoch FROM now()) * 1000000)::bigint, h.lane, 1, h.run, h.attempt FROM history h WHERE h.state = 'retryable'
"""
LANES = """
INSERT INTO perdure.queues (name) VALUES ('media') ON CONFLICT DO NOTHING;
INSERT INTO perdure.lanes (lane, queue, kind) OVERRIDING SYSTEM VALUE SELECT n, 'media', 'app.kind' || n FROM generate_series(1, 5) n
ON CONFLICT DO NOTHING;
"""
MARK = """
INSERT INTO perdure.moments (at, cut, newest, open_since)
SELECT clock_timestamp(), pg_current_snapshot(), (SELECT id FROM perdure.jobs ORDER BY id DESC LIMIT 1), now() - interval '1 second'
RETURNING at
"""
WORKER = """
INSERT INTO perdure.workers (id, name, host, pid, type, queues, kinds, labels, capacity, processes, version)
VALUES ($1, 'bench', 'here', 1, 'standard', '{media}', '{}', '{}', 100, 1, '')
"""


@dataclass(frozen=True, kw_only=True)
class History:
    """How much was written, and in what time; `calm` are moments at which few or no jobs waited for a parent or a time."""

    jobs: int
    executions: int
    seconds: float
    calm: list[datetime]


async def write_history(connection: Any, jobs: int, *, live: int = 0) -> History:
    """Write `jobs` jobs in batches, each batch with a moment; `live` of them wait at the end, and a batch runs."""
    began, worker = time.monotonic(), uuid4()
    stage, calm = statements("jobs")["stage"].numbered(), list[datetime]()
    await connection.execute(LANES)
    await connection.execute(WORKER, worker)
    waiting = 0
    for _ in range(max(1, jobs // BATCH)):
        await connection.execute(ENQUEUE, min(BATCH, jobs), True)
        waiting += min(BATCH, jobs)
        await connection.execute(MARK)
        await connection.fetch(stage, BATCH)
        if waiting > live:
            await connection.execute(CLAIM, min(BATCH, jobs), worker)
            await connection.execute(MARK)
            await connection.execute(SETTLE, min(BATCH, jobs) * 9 // 10)
            await connection.execute(MARK)
            await connection.fetch(FREE)
            calm.append(await connection.fetchval(MARK))
    executions = await connection.fetchval("SELECT count(*) FROM perdure.job_executions")
    await connection.execute("VACUUM ANALYZE")
    return History(jobs=jobs, executions=executions, seconds=time.monotonic() - began, calm=calm)


async def main(url: str, jobs: int) -> None:
    connection = await asyncpg.connect(url)
    print(await write_history(connection, jobs))
    await connection.close()


if __name__ == "__main__":
    import sys

    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
