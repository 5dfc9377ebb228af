-- name: progress()
-- How far each kind has come: cheap enough to be asked twice a second over some thousand jobs.
SELECT l.kind,
    count(*) AS jobs,
    count(*) FILTER (WHERE e.state = 'completed') AS completed,
    count(*) FILTER (WHERE e.state = 'discarded') AS discarded,
    coalesce(sum(e.failures), 0)::bigint AS failures
FROM perdure.jobs j
JOIN perdure.lanes l ON l.lane = j.lane
LEFT JOIN LATERAL (
    SELECT (array_agg(x.state ORDER BY x.run DESC, x.settled_at DESC))[1] AS state,
        count(*) FILTER (WHERE x.outcome IN ('failed', 'timed_out')) AS failures
    FROM perdure.job_executions x WHERE x.job_id = j.id
) e ON true
GROUP BY l.kind;

-- name: held(worker_id)
-- How many leases each process of a worker holds.
SELECT process, count(*) AS leases FROM perdure.leases WHERE worker_id = :worker_id GROUP BY process;

-- name: ledger()
-- The figures of the whole history, for each kind and (kind NULL) in total. A rescued attempt ended with its process;
-- jobs that were given back before they started are not attempts.
WITH told AS (
    SELECT l.kind, e.job_id, e.run, e.outcome, e.state, e.settled_at, e.claimed_at,
        extract(epoch FROM coalesce(e.started_at, e.claimed_at) - e.available_at)::float8 AS waited_s,
        extract(epoch FROM e.finished_at - e.started_at)::float8 AS ran_s
    FROM perdure.job_executions e JOIN perdure.lanes l ON l.lane = e.lane
    WHERE e.token IS NOT NULL AND e.outcome <> 'released'
)
SELECT kind,
    count(DISTINCT job_id) AS jobs,
    count(*) AS attempts,
    count(*) FILTER (WHERE outcome IN ('failed', 'timed_out') AND state = 'retryable') AS retries,
    count(*) FILTER (WHERE outcome IN ('crashed', 'interrupted') AND state <> 'discarded') AS rescued,
    count(*) FILTER (WHERE state = 'discarded') AS dead_letters,
    count(DISTINCT job_id) FILTER (WHERE run > 1) AS replayed,
    count(*) FILTER (WHERE state = 'completed') AS completed,
    extract(epoch FROM max(settled_at) - min(claimed_at))::float8 AS span_s,
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY waited_s) AS waits_s,
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY ran_s) AS runs_s
FROM told
GROUP BY GROUPING SETS ((kind), ())
ORDER BY kind NULLS LAST;

-- name: timing(job_id)
-- When a job was enqueued, and when its newest attempt that ended was due and began.
SELECT j.enqueued_at, e.available_at, coalesce(e.started_at, e.claimed_at) AS started_at
FROM perdure.jobs j JOIN perdure.job_executions e ON e.job_id = j.id
WHERE j.id = :job_id AND e.token IS NOT NULL
ORDER BY e.run DESC, e.settled_at DESC
LIMIT 1;

-- name: overtaken(job_id)
-- How many jobs of the same kind were available before this one and were claimed after it, and the median of their waits.
SELECT count(*) AS jobs,
    coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM e.claimed_at - e.available_at)), 0)::float8 AS waited_s
FROM perdure.job_executions e, (
    SELECT x.lane, x.available_at, x.claimed_at FROM perdure.job_executions x
    WHERE x.job_id = :job_id AND x.token IS NOT NULL ORDER BY x.run, x.settled_at LIMIT 1
) one
WHERE e.lane = one.lane AND e.available_at < one.available_at AND e.claimed_at > one.claimed_at;

-- name: handed_over(worker_id)
-- How what a worker held when its evacuation began was settled: given back and completed by another, or completed by itself; all
-- else took an attempt from a job, or left it undone.
WITH given AS (
    SELECT e.outcome, e.outcome IN ('released', 'interrupted') AND EXISTS (
        SELECT FROM perdure.job_executions o WHERE o.job_id = e.job_id AND o.outcome = 'completed' AND o.worker_id <> e.worker_id
    ) AS moved
    FROM perdure.job_executions e
    WHERE e.worker_id = :worker_id AND e.settled_at >= (
        SELECT min(v.at) FROM perdure.job_events v WHERE v.event = 'worker_evacuating' AND v.worker_id = :worker_id
    )
)
SELECT count(*) FILTER (WHERE moved) AS moved,
    count(*) FILTER (WHERE outcome = 'completed') AS finished,
    count(*) FILTER (WHERE NOT moved AND outcome <> 'completed') AS amiss
FROM given;

-- name: done_by(worker_id)
-- How many jobs a worker has completed.
SELECT count(*) AS jobs FROM perdure.job_executions WHERE worker_id = :worker_id AND outcome = 'completed';
