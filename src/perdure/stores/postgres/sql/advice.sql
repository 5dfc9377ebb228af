-- How the attempts of a kind went, for advice on it.

-- name: attempts(kind, span_ms, most)
-- The newest ended attempts of a kind within a span, with the labels of their workers and what their jobs were given.
SELECT e.job_id, e.run, e.attempt, e.outcome, e.settled_at, extract(epoch FROM e.finished_at - e.started_at)::float8 AS ran_s,
    extract(epoch FROM e.retry_at - e.settled_at)::float8 AS retry_s, e.error ->> 'type' AS error, e.error ->> 'message' AS message,
    coalesce(w.labels, '{}') AS labels, j.timeout_ms, j.args::text AS args
FROM (
    SELECT x.* FROM perdure.job_executions x
    WHERE x.settled_at >= now() - :span_ms::bigint * interval '1 millisecond' AND x.token IS NOT NULL
        AND x.lane = ANY (ARRAY(SELECT l.lane FROM perdure.lanes l WHERE l.kind = :kind::text))
        AND x.outcome IN ('completed', 'failed', 'timed_out', 'crashed')
    ORDER BY x.settled_at DESC LIMIT :most
) e
LEFT JOIN perdure.jobs j ON j.id = e.job_id
LEFT JOIN perdure.workers w ON w.id = e.worker_id;

-- name: known(kind)
-- Whether any lane is of a kind.
SELECT EXISTS (SELECT FROM perdure.lanes l WHERE l.kind = :kind::text) AS known;
