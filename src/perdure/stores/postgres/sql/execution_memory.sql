-- The memory of executions: reads history once, from its beginning to its end, in the order of its transactions.

-- name: horizon()
-- Which system this is, and the number of the oldest transaction that may still commit: what lies before it stays as it is.
SELECT i.id AS installation, i.era, perdure.in_order(pg_snapshot_xmin(pg_current_snapshot())) AS ends, now() AS now
FROM perdure.installation i;

-- name: cursor(collection, era)
-- Where reading goes on. None: it never began, or began before a restore.
SELECT m.position, m.token, m.remembered, m.updated_at FROM perdure.execution_memory m WHERE m.collection = :collection AND m.era = :era;

-- name: begin(collection, era, position, token, remembered)
-- Take the first step from the beginning. Of two who read at once, the one that is ahead is believed.
INSERT INTO perdure.execution_memory AS m (collection, era, position, token, remembered)
VALUES (:collection, :era, :position, :token, :remembered)
ON CONFLICT (collection) DO UPDATE SET era = excluded.era, position = excluded.position, token = excluded.token,
    remembered = excluded.remembered, updated_at = now()
WHERE m.era <> excluded.era OR (m.position, m.token) < (excluded.position, excluded.token)
RETURNING m.collection;

-- name: advance(collection, era, position, token, remembered)
-- Go on from here the next time, unless the cursor is ahead, or was taken away because everything is to be read again.
UPDATE perdure.execution_memory m SET position = :position, token = :token, remembered = :remembered, updated_at = now()
WHERE m.collection = :collection AND m.era = :era AND (m.position, m.token) < (:position::bigint, :token::uuid)
RETURNING m.collection;

-- name: begin_again(collection)
-- Read the history from its beginning the next time.
DELETE FROM perdure.execution_memory m WHERE m.collection = :collection RETURNING m.collection;

-- name: attempts_after(position, token, ends, sample, most)
-- The next attempts that ended; a job that was cancelled while it waited had none. Of those that completed at once a share is taken, by
-- the random bits of the job's id, so that each reading takes the same.
SELECT perdure.in_order(e.settle_xid) AS position, e.token, e.job_id, e.run, e.attempt, e.outcome::text AS outcome, e.state::text AS state,
    e.settled_at, e.available_at, e.claimed_at, e.finished_at, e.cause, e.error::text AS error, e.worker_id, e.isolated, l.kind, l.queue, l.labels,
    j.args::text AS args, w.name AS worker, w.host,
    e.outcome = 'completed' AND (e.attempt > 1 OR e.run > 1 OR e.crashes > 0 OR e.interruptions > 0) AS resolves
FROM perdure.job_executions e
JOIN perdure.lanes l ON l.lane = e.lane
LEFT JOIN perdure.jobs j ON j.id = e.job_id
LEFT JOIN perdure.workers w ON w.id = e.worker_id
WHERE perdure.in_order(e.settle_xid) >= :position AND perdure.in_order(e.settle_xid) < :ends
    AND (perdure.in_order(e.settle_xid), e.token) > (:position, :token) AND e.token IS NOT NULL
    AND (e.outcome NOT IN ('completed', 'snoozed', 'released') OR e.outcome = 'completed' AND (e.attempt > 1 OR e.run > 1 OR e.crashes > 0
        OR e.interruptions > 0 OR get_byte(uuid_send(e.job_id), 15) * 256 + get_byte(uuid_send(e.job_id), 14) < :sample::float8 * 65536))
ORDER BY 1, e.token LIMIT :most;

-- name: attempts_behind(position, token, ends, sample, most)
-- How many attempts are left to be read, at most so many, and when the first of them ended.
SELECT count(*) AS behind, min(b.settled_at) AS since FROM (
    SELECT e.settled_at FROM perdure.job_executions e
    WHERE perdure.in_order(e.settle_xid) >= :position AND perdure.in_order(e.settle_xid) < :ends
        AND (perdure.in_order(e.settle_xid), e.token) > (:position, :token) AND e.token IS NOT NULL
        AND (e.outcome NOT IN ('completed', 'snoozed', 'released') OR e.outcome = 'completed' AND (e.attempt > 1 OR e.run > 1 OR e.crashes > 0
            OR e.interruptions > 0 OR get_byte(uuid_send(e.job_id), 15) * 256 + get_byte(uuid_send(e.job_id), 14) < :sample::float8 * 65536))
    LIMIT :most
) b;

-- name: attempts_of_job(job_id)
-- The attempts of one job, the newest first.
SELECT perdure.in_order(e.settle_xid) AS position, e.token, e.job_id, e.run, e.attempt, e.outcome::text AS outcome, e.state::text AS state,
    e.settled_at, e.available_at, e.claimed_at, e.finished_at, e.cause, e.error::text AS error, e.worker_id, e.isolated, l.kind, l.queue, l.labels,
    j.args::text AS args, w.name AS worker, w.host, false AS resolves
FROM perdure.job_executions e
JOIN perdure.lanes l ON l.lane = e.lane
LEFT JOIN perdure.jobs j ON j.id = e.job_id
LEFT JOIN perdure.workers w ON w.id = e.worker_id
WHERE e.job_id = :job_id AND e.token IS NOT NULL
ORDER BY e.run DESC, e.settled_at DESC, e.attempt DESC LIMIT 20;

-- name: resolved(job_ids)
-- For jobs that completed: the tokens of their attempts that had not, and who had the job run again, if anybody.
SELECT d.run, d.attempt, d.settled_at, t.tokens, coalesce(v.event, 'retry') AS how, coalesce(v.actor, '') AS actor, coalesce(v.reason, '') AS reason
FROM (
    SELECT DISTINCT ON (c.job_id) c.job_id, c.run, c.attempt, c.settled_at FROM perdure.job_executions c
    WHERE c.job_id = ANY (:job_ids::uuid[]) AND c.state = 'completed' ORDER BY c.job_id, c.settled_at DESC
) d
CROSS JOIN LATERAL (
    SELECT array_agg(f.token) AS tokens, max(f.run) AS last_run, max(f.settled_at) AS last_at FROM perdure.job_executions f
    WHERE f.job_id = d.job_id AND f.token IS NOT NULL AND f.outcome <> 'completed' AND f.settled_at <= d.settled_at
) t
LEFT JOIN LATERAL (
    SELECT e.event, e.actor, e.reason FROM perdure.job_events e
    WHERE e.job_id = d.job_id AND e.event IN ('replayed', 'retried') AND e.at <= d.settled_at AND e.at >= t.last_at
    ORDER BY e.at DESC LIMIT 1
) v ON true
WHERE t.tokens IS NOT NULL;
