-- Keeping new work from a worker, and moving away what it holds.

-- name: cordon(worker_id, actor, reason, channel)
-- Have a worker take nothing new; what it runs goes on. It is told at once and with its next heartbeat.
WITH cordoned AS (
    UPDATE perdure.workers w SET cordoned_at = now()
    WHERE w.id = :worker_id AND w.state = 'active' AND w.cordoned_at IS NULL RETURNING w.id
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, reason) SELECT 'worker_cordoned', c.id, :actor::text, :reason::text FROM cordoned c
)
SELECT c.id, pg_notify(:channel::text, c.id::text) FROM cordoned c;

-- name: uncordon(worker_id, actor, reason, channel)
-- Let a cordoned worker take new work again; an evacuation cannot be called off, for the worker ends by it.
WITH uncordoned AS (
    UPDATE perdure.workers w SET cordoned_at = NULL
    WHERE w.id = :worker_id AND w.state = 'active' AND w.cordoned_at IS NOT NULL RETURNING w.id
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, reason) SELECT 'worker_uncordoned', u.id, :actor::text, :reason::text FROM uncordoned u
)
SELECT u.id, pg_notify(:channel::text, u.id::text) FROM uncordoned u;

-- name: evacuate(worker_id, grace_ms, most, actor, reason, channel)
-- Ask a worker to hand its jobs over by a deadline and to end, unless so many others are being evacuated. Two who ask in the
-- same moment can pass that limit by one.
WITH evacuated AS (
    UPDATE perdure.workers w
    SET state = 'draining', cordoned_at = coalesce(w.cordoned_at, now()), evacuate_by = now() + :grace_ms::bigint * interval '1 millisecond'
    WHERE w.id = :worker_id AND w.state IN ('active', 'draining') AND w.evacuate_by IS NULL
        AND (SELECT count(*) FROM perdure.workers o WHERE o.evacuate_by IS NOT NULL AND o.evacuated_at IS NULL AND o.state IN ('active', 'draining')) < :most::bigint
    RETURNING w.id
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, reason, detail)
    SELECT 'worker_evacuating', e.id, :actor::text, :reason::text, jsonb_build_object('grace_ms', :grace_ms::bigint) FROM evacuated e
)
SELECT e.id, pg_notify(:channel::text, e.id::text) FROM evacuated e;

-- name: asked_within(pause_ms, actor)
-- Whether this actor has asked for an evacuation within so long.
SELECT EXISTS (
    SELECT FROM perdure.job_events e
    WHERE e.at > now() - :pause_ms::bigint * interval '1 millisecond' AND e.event = 'worker_evacuating' AND e.actor = :actor::text
) AS asked;

-- name: standing(worker_id)
-- Why a worker was not changed: what it does, and whether it is cordoned or being evacuated.
SELECT w.state, w.cordoned_at IS NOT NULL AS cordoned, w.evacuate_by IS NOT NULL AS evacuated FROM perdure.workers w WHERE w.id = :worker_id;

-- name: holdings(worker_id)
-- The jobs that a worker holds, by what a worker needs to take them over.
SELECT n.queue, n.kind, n.labels, count(*) AS jobs
FROM perdure.leases l JOIN perdure.lanes n ON n.lane = l.lane
WHERE l.worker_id = :worker_id GROUP BY n.queue, n.kind, n.labels ORDER BY count(*) DESC, n.queue, n.kind;

-- name: overstayed(slack_ms, most)
-- The leases that evacuated workers still hold after their deadline: they cannot be reached, or do not let go. Those that a handler's
-- own transaction is about to end are passed over, as by the rescuer.
SELECT l.*, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit
FROM perdure.workers w
CROSS JOIN LATERAL (SELECT * FROM perdure.leases l WHERE l.worker_id = w.id ORDER BY l.deadline LIMIT :most FOR KEY SHARE SKIP LOCKED) l
JOIN perdure.jobs j ON j.id = l.job_id
WHERE w.state IN ('active', 'draining') AND w.evacuate_by < now() - :slack_ms::bigint * interval '1 millisecond'
LIMIT :most;

-- name: finish()
-- Note which evacuated workers hold nothing any more, once each.
WITH empty AS (
    UPDATE perdure.workers w SET evacuated_at = now()
    WHERE w.evacuate_by IS NOT NULL AND w.evacuated_at IS NULL AND NOT EXISTS (SELECT FROM perdure.leases l WHERE l.worker_id = w.id)
    RETURNING w.id, w.state
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, detail)
    SELECT 'worker_evacuated', e.id, 'perdure', jsonb_build_object('state', e.state) FROM empty e
)
SELECT e.id FROM empty e;
