-- How well the workers are.

-- name: living()
-- The workers that live, with their ages and scores, by the database's clock; what they run is what they told last, for to count their
-- leases is to walk over all that have ended while no dead row can be removed.
SELECT w.*, coalesce(s.running, 0) AS running, now() AS at, now() - w.started_at AS age
FROM perdure.workers w
LEFT JOIN LATERAL (
    SELECT x.running FROM perdure.worker_samples x WHERE x.worker_id = w.id AND x.at > now() - interval '1 hour' ORDER BY x.at DESC LIMIT 1
) s ON true
WHERE w.state IN ('active', 'draining') ORDER BY w.started_at, w.id;

-- name: recent(most)
-- The newest samples of each living worker, each oldest first; older than an hour they tell nothing of now.
SELECT s.* FROM perdure.workers w CROSS JOIN LATERAL (
    SELECT x.* FROM perdure.worker_samples x
    WHERE x.worker_id = w.id AND x.at > now() - interval '1 hour' ORDER BY x.at DESC LIMIT :most
) s
WHERE w.state IN ('active', 'draining') ORDER BY s.worker_id, s.at;

-- name: fleet()
-- The ages that workers have reached, and how many of them have failed: declared dead, and not because most of the fleet fell silent
-- with them, for that was no failure of theirs.
SELECT array_agg(extract(epoch FROM coalesce(w.stopped_at, now()) - w.started_at)::float8) AS ages,
    count(*) FILTER (WHERE w.state = 'dead' AND NOT EXISTS (
        SELECT FROM perdure.job_events e WHERE e.event = 'fleet_silent'
            AND e.at BETWEEN w.stopped_at - interval '5 minutes' AND w.stopped_at
    )) AS failures
FROM perdure.workers w;

-- name: note(ids, scores, healthy, shares, shadows, parts)
-- Keep the scores and shares of living workers; an alert tells of each that fell ill or recovered. Only the last ten scores stay.
WITH before AS MATERIALIZED (
    SELECT w.id, w.healthy, n.score, n.healthy AS is_healthy, n.share, n.shadow, n.parts
    FROM unnest(:ids::uuid[], :scores::real[], :healthy::boolean[], :shares::real[], :shadows::boolean[], :parts::text[])
        AS n (id, score, healthy, share, shadow, parts)
    JOIN perdure.workers w ON w.id = n.id AND w.state IN ('active', 'draining')
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, reason, detail)
    SELECT CASE WHEN b.is_healthy THEN 'worker_healthy' ELSE 'worker_sick' END, b.id, 'perdure', b.parts,
        jsonb_build_object('severity', CASE WHEN b.is_healthy THEN 1 ELSE 3 END, 'health', b.score, 'shadow', b.shadow)
    FROM before b WHERE b.healthy <> b.is_healthy
)
UPDATE perdure.workers w
SET health_scores = (w.health_scores || b.score)[greatest(1, cardinality(w.health_scores) - 8):], healthy = b.is_healthy, claim_share = b.share
FROM before b WHERE w.id = b.id;
