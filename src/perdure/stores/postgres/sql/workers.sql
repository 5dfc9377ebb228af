-- The rows of the workers and their heartbeats.

-- name: register(id, name, host, pid, type, queues, kinds, labels, capacity, processes, version)
-- Write the row of a worker that starts.
INSERT INTO perdure.workers (id, name, host, pid, type, queues, kinds, labels, capacity, processes, version)
VALUES (:id, :name, :host, :pid, :type, :queues, :kinds, :labels, :capacity, :processes, :version)
ON CONFLICT (id) DO NOTHING;

-- name: impatience()
-- What follows in this transaction waits for nobody's open transaction.
SELECT set_config('lock_timeout', '100ms', true);

-- name: make_known(queues)
-- The queues that a worker serves are known also before their first job: they can be paused. A first job that is not committed yet
-- is waited for.
INSERT INTO perdure.queues (name) SELECT DISTINCT q.name FROM unnest(:queues::text[]) AS q (name) ORDER BY 1 ON CONFLICT DO NOTHING;

-- name: beat(id, kinds, processes, deaf)
-- Say that the worker lives. No row comes back when it has been declared dead; then it must register anew. The gap to the
-- heartbeat before is told by the database's clock, so that a step of it is noticed. A suspect is none any more.
WITH before AS MATERIALIZED (
    SELECT w.heartbeat_at, w.suspected_at FROM perdure.workers w WHERE w.id = :id AND w.state IN ('active', 'draining')
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, reason)
    SELECT 'worker_recovered', :id, 'perdure', format('silent for %s s', round(extract(epoch FROM now() - b.heartbeat_at)))
    FROM before b WHERE b.suspected_at IS NOT NULL
)
UPDATE perdure.workers w SET heartbeat_at = now(), kinds = :kinds, processes = :processes, deaf = :deaf, suspected_at = NULL
FROM before b WHERE w.id = :id AND w.state IN ('active', 'draining')
RETURNING w.state, now() - b.heartbeat_at AS gap, w.cordoned_at IS NOT NULL AS cordoned, w.claim_share AS share,
    CASE WHEN w.evacuate_by IS NOT NULL THEN greatest(w.evacuate_by - now(), interval '0') END AS grace;

-- name: alive(id)
-- Whether a worker lives, as its processes ask when their supervisor may be frozen.
SELECT EXISTS (SELECT FROM perdure.workers w WHERE w.id = :id AND w.state IN ('active', 'draining')) AS alive;

-- name: cancel_requests(id)
-- The leases that this worker is asked to stop.
SELECT c.job_id, c.token, c.reason FROM perdure.cancel_requests c WHERE c.worker_id = :id;

-- name: heartbeats()
-- The last heartbeats of the workers that live, and their ages by the database's clock.
SELECT w.id, w.host, w.heartbeat_at, now() - w.heartbeat_at AS silent_for FROM perdure.workers w WHERE w.state IN ('active', 'draining');

-- name: suspect(ids, heartbeats)
-- Note which workers have missed heartbeats, and raise an alert, once each.
WITH suspected AS (
    UPDATE perdure.workers w SET suspected_at = now()
    FROM unnest(:ids::uuid[], :heartbeats::timestamptz[]) AS s (id, heartbeat_at)
    WHERE w.id = s.id AND w.heartbeat_at = s.heartbeat_at AND w.state IN ('active', 'draining') AND w.suspected_at IS NULL
    RETURNING w.id, w.heartbeat_at
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, reason, detail)
    SELECT 'worker_suspected', s.id, 'perdure', format('silent for %s s', round(extract(epoch FROM now() - s.heartbeat_at))),
        jsonb_build_object('severity', 3) FROM suspected s
)
SELECT s.id FROM suspected s;

-- name: alarm(event, reason, detail)
-- Raise an alert about the fleet.
INSERT INTO perdure.job_events (event, actor, reason, detail) VALUES (:event, 'perdure', :reason, :detail::jsonb);

-- name: declare_dead(ids, heartbeats, observer, fresh_ms)
-- Mark workers dead whose last heartbeat is still the one that was judged, while the observer's own is fresh by the same clock; an
-- alert tells of each.
WITH dead AS (
UPDATE perdure.workers w
SET state = 'dead', stopped_at = now(),
    cause = format('silent: last heartbeat %s, %s s ago', w.heartbeat_at, round(extract(epoch FROM now() - w.heartbeat_at)))
FROM unnest(:ids::uuid[], :heartbeats::timestamptz[]) AS s (id, heartbeat_at)
WHERE w.id = s.id AND w.heartbeat_at = s.heartbeat_at AND w.state IN ('active', 'draining') AND EXISTS (
    SELECT FROM perdure.workers o WHERE o.id = :observer AND o.state IN ('active', 'draining')
        AND o.heartbeat_at BETWEEN now() - :fresh_ms::bigint * interval '1 millisecond' AND now() + :fresh_ms * interval '1 millisecond'
)
RETURNING w.id, w.cause
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, reason, detail)
    SELECT 'worker_dead', d.id, 'perdure', d.cause, jsonb_build_object('severity', 4) FROM dead d
)
SELECT d.id FROM dead d;

-- name: drain(id)
-- Ask a worker to finish what it runs and to take nothing new.
UPDATE perdure.workers SET state = 'draining' WHERE id = :id AND state = 'active' RETURNING id;

-- name: stop(id, cause)
-- Say goodbye.
UPDATE perdure.workers SET state = 'stopped', stopped_at = now(), cause = :cause
WHERE id = :id AND state IN ('active', 'draining') RETURNING id;

-- name: list(alive_only)
-- All workers, the newest first, with the number of leases that each holds.
SELECT w.*, (SELECT count(*) FROM perdure.leases l WHERE l.worker_id = w.id) AS running
FROM perdure.workers w
WHERE NOT :alive_only OR w.state IN ('active', 'draining')
ORDER BY w.started_at DESC, w.id;

-- name: get(id)
-- One worker.
SELECT w.*, (SELECT count(*) FROM perdure.leases l WHERE l.worker_id = w.id) AS running
FROM perdure.workers w WHERE w.id = :id;

-- name: forget(older_ms)
-- Drop the rows of workers that ended long ago and hold nothing.
DELETE FROM perdure.workers w
WHERE w.state IN ('stopped', 'dead') AND w.stopped_at < now() - :older_ms::bigint * interval '1 millisecond'
    AND NOT EXISTS (SELECT FROM perdure.leases l WHERE l.worker_id = w.id)
RETURNING w.id;
