-- Moves what is scheduled nearer, for tests that must not wait. Nothing but tests runs these statements.

-- name: advance(by_ms)
-- Let that much time pass for what waits for a moment: jobs, and unique keys that run out.
WITH moved AS (
    UPDATE perdure.scheduled_jobs SET run_at = run_at - :by_ms::bigint * interval '1 millisecond' RETURNING job_id
), blocked AS (
    UPDATE perdure.blocked_jobs SET run_at = run_at - :by_ms * interval '1 millisecond' WHERE run_at IS NOT NULL RETURNING job_id
), keys AS (
    UPDATE perdure.unique_keys SET expires_at = expires_at - :by_ms * interval '1 millisecond' WHERE expires_at IS NOT NULL
)
SELECT (SELECT count(*) FROM moved) + (SELECT count(*) FROM blocked) AS jobs;

-- name: make_due(job_id)
-- Let one job wait no longer; no row comes back when it waits for no moment.
UPDATE perdure.scheduled_jobs SET run_at = now() WHERE job_id = :job_id RETURNING job_id;

-- name: next_due(kinds)
-- In how many milliseconds the next job of these kinds is due.
SELECT CASE WHEN count(*) > 0 THEN greatest(0, ceil(extract(epoch FROM min(s.run_at) - now()) * 1000))::bigint END AS in_ms
FROM perdure.scheduled_jobs s JOIN perdure.lanes l ON l.lane = s.lane
WHERE l.kind = ANY (:kinds::text[]);
