-- Commands on jobs, queues and workers. Each row that moves is locked by its deletion; each change leaves an event.

-- name: cancel_waiting(job_ids, actor, reason)
-- End waiting jobs as cancelled, parked ones too: settle the edges of their children and let their unique keys go. A child
-- comes back where it became available, without a state.
-- from: pending, scheduled, retryable, available   to: cancelled
WITH blocked AS (
    DELETE FROM perdure.blocked_jobs b WHERE b.job_id = ANY (:job_ids::uuid[]) RETURNING b.*
), later AS (
    DELETE FROM perdure.scheduled_jobs s WHERE s.job_id = ANY (:job_ids) RETURNING s.*
), ready AS (
    DELETE FROM perdure.available_jobs a WHERE a.job_id = ANY (:job_ids) RETURNING a.*
), parked AS (
    DELETE FROM perdure.parked_jobs p WHERE p.job_id = ANY (:job_ids) RETURNING p.*
), gone AS MATERIALIZED (
    SELECT b.job_id, b.lane, b.run, 0::smallint AS attempt, 0::smallint AS crashes, 0::smallint AS interruptions, 'pending' AS was,
        NULL::timestamptz AS available_at, NULL::xid8 AS available_xid, NULL::jsonb AS waited FROM blocked b
    UNION ALL
    SELECT s.job_id, s.lane, s.run, s.attempt, s.crashes, s.interruptions, CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END,
        NULL, NULL, jsonb_build_object('run_at', s.run_at, 'scheduled_at', s.since, 'scheduled_xid', s.xid) FROM later s
    UNION ALL
    SELECT a.job_id, a.lane, a.run, a.attempt, a.crashes, a.interruptions, 'available', a.available_at, a.xid, NULL FROM ready a
    UNION ALL
    SELECT p.job_id, p.lane, p.run, p.attempt, p.crashes, p.interruptions, 'available', p.available_at, p.xid, NULL FROM parked p
), history AS (
    -- The clock, for the transaction may have begun before the attempt ended that made the job wait: its end comes after that in the history.
    INSERT INTO perdure.job_executions (job_id, lane, run, attempt, crashes, interruptions, outcome, state, available_at, available_xid, settled_at, cause)
    SELECT g.job_id, g.lane, g.run, g.attempt, g.crashes, g.interruptions, 'cancelled', 'cancelled', g.available_at, g.available_xid,
        clock_timestamp(), concat_ws(': ', 'cancelled by ' || :actor, nullif(:reason::text, '')) FROM gone g
), keys AS (
    DELETE FROM perdure.unique_keys u USING gone g WHERE u.job_id = g.job_id AND NOT perdure.counts_in(u.states, 'cancelled')
), events AS (
    INSERT INTO perdure.job_events (event, job_id, actor, reason, detail)
    SELECT 'cancelled', g.job_id, :actor::text, :reason, jsonb_build_object('from', g.was, 'run', g.run) || coalesce(g.waited, '{}') FROM gone g
), parents AS (
    SELECT array_agg(g.job_id) AS ids FROM gone g WHERE EXISTS (SELECT FROM perdure.job_dependencies d WHERE d.parent_id = g.job_id)
)
SELECT g.job_id, g.was AS state, NULL::integer AS lane FROM gone g
UNION ALL
SELECT e.job_id, NULL, e.lane FROM parents p CROSS JOIN LATERAL perdure.settle_edges(p.ids, 'cancelled') e WHERE p.ids IS NOT NULL;

-- name: cancel_running(job_ids, actor, reason, channel)
-- Ask the workers of running jobs to stop them: told at once to those who listen, and to all with their next heartbeat. A
-- lease that was asked already comes back with `fresh` false and is left as it is.
WITH held AS MATERIALIZED (
    SELECT l.job_id, l.token, l.worker_id, l.run FROM perdure.leases l WHERE l.job_id = ANY (:job_ids::uuid[]) ORDER BY l.job_id FOR SHARE
), asked AS (
    INSERT INTO perdure.cancel_requests AS c (job_id, token, worker_id, reason)
    SELECT h.job_id, h.token, h.worker_id, concat_ws(': ', 'cancelled by ' || :actor::text, nullif(:reason::text, '')) FROM held h
    ON CONFLICT (job_id) DO UPDATE
    SET token = excluded.token, worker_id = excluded.worker_id, reason = excluded.reason, requested_at = excluded.requested_at
    WHERE c.token <> excluded.token
    RETURNING c.job_id, c.worker_id
), events AS (
    INSERT INTO perdure.job_events (event, job_id, worker_id, actor, reason, detail)
    SELECT 'cancel_requested', h.job_id, h.worker_id, :actor, :reason, jsonb_build_object('token', h.token, 'run', h.run)
    FROM held h JOIN asked a ON a.job_id = h.job_id
), told AS MATERIALIZED (
    SELECT pg_notify(:channel::text, w.worker_id::text) FROM (SELECT DISTINCT a.worker_id FROM asked a) w
)
SELECT h.job_id, EXISTS (SELECT FROM asked a WHERE a.job_id = h.job_id) AS fresh, (SELECT count(*) FROM told) AS told FROM held h;

-- name: hasten(job_ids, actor, reason)
-- Make scheduled and retryable jobs available now, in the same run; a standing request to cancel them is void.
-- from: scheduled, retryable   to: available
WITH taken AS (
    DELETE FROM perdure.scheduled_jobs s WHERE s.job_id = ANY (:job_ids::uuid[]) RETURNING s.*
), requests AS (
    DELETE FROM perdure.cancel_requests c USING taken t WHERE c.job_id = t.job_id
), events AS (
    INSERT INTO perdure.job_events (event, job_id, actor, reason, detail)
    SELECT 'retried', t.job_id, :actor::text, :reason::text,
        jsonb_build_object('from', CASE WHEN t.retry THEN 'retryable' ELSE 'scheduled' END, 'run', t.run, 'run_at', t.run_at,
            'scheduled_at', t.since, 'scheduled_xid', t.xid) FROM taken t
), ready AS (
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, attempt, crashes, interruptions, suspicion, gated)
    SELECT t.job_id, perdure.rank_of(now(), t.priority), t.lane, perdure.band_of(t.priority, t.suspicion), t.run, t.attempt, t.crashes,
        t.interruptions, t.suspicion, t.gated FROM taken t
)
SELECT t.job_id, CASE WHEN t.retry THEN 'retryable' ELSE 'scheduled' END AS state FROM taken t;

-- name: lock_jobs(job_ids)
-- Hold the right to open new runs of these jobs until the transaction ends; what follows sees what others have opened.
SELECT perdure.lock_keys(ARRAY(SELECT 'run of ' || u.job_id FROM unnest(:job_ids::uuid[]) AS u (job_id)));

-- name: reopen(job_ids, delays_ms, letters_only, event, actor, reason)
-- Open a new run of discarded or cancelled jobs, with all counts at zero: available at once, or scheduled after a delay. The
-- unique key is taken again while its period lasts; where another job holds it (`duplicate`), or a parent has not completed (`blocked`), nothing
-- happens. With `letters_only` only dead letters are reopened. Runs are opened under `lock_jobs` only.
-- from: discarded, cancelled   to: available
-- from: discarded   to: scheduled
WITH wanted AS MATERIALIZED (
    SELECT u.job_id, u.delay_ms, s.state, s.run, j.lane, j.priority, j.unique_states, j.unique_until,
        CASE WHEN j.unique_until IS NULL OR j.unique_until > now() THEN j.unique_key END AS unique_key,
        (j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)) AS gated,
        EXISTS (
            SELECT FROM perdure.job_dependencies d LEFT JOIN LATERAL perdure.standing(d.parent_id) p ON true
            WHERE d.child_id = u.job_id AND d.state <> 'satisfied' AND p.state IS DISTINCT FROM 'completed'
        ) AS blocked
    FROM unnest(:job_ids::uuid[], :delays_ms::bigint[]) AS u (job_id, delay_ms)
    JOIN perdure.jobs j ON j.id = u.job_id
    CROSS JOIN LATERAL perdure.standing(u.job_id) s
    WHERE s.state IN ('discarded', 'cancelled')
        AND (NOT :letters_only::boolean OR EXISTS (SELECT FROM perdure.dead_letter_queue q WHERE q.job_id = u.job_id))
), keyed AS (
    INSERT INTO perdure.unique_keys AS k (key, job_id, states, expires_at)
    SELECT DISTINCT ON (w.unique_key) w.unique_key, w.job_id, w.unique_states, w.unique_until FROM wanted w
    WHERE w.unique_key IS NOT NULL AND NOT w.blocked ORDER BY w.unique_key, w.job_id
    ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, states = excluded.states, expires_at = excluded.expires_at
    WHERE k.job_id = excluded.job_id OR k.expires_at <= now()
    RETURNING k.key, k.job_id
), opened AS MATERIALIZED (
    SELECT w.* FROM wanted w
    WHERE NOT w.blocked AND (w.unique_key IS NULL OR EXISTS (SELECT FROM keyed k WHERE k.job_id = w.job_id))
), letters AS (
    DELETE FROM perdure.dead_letter_queue q USING opened o WHERE q.job_id = o.job_id
), requests AS (
    DELETE FROM perdure.cancel_requests c USING opened o WHERE c.job_id = o.job_id
), edges AS (
    UPDATE perdure.job_dependencies d SET state = 'satisfied' FROM opened o WHERE d.child_id = o.job_id AND d.state <> 'satisfied'
), later AS (
    INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, run, gated)
    SELECT o.job_id, now() + o.delay_ms * interval '1 millisecond', o.lane, o.priority, o.run + 1, o.gated FROM opened o WHERE o.delay_ms > 0
), ready AS (
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, gated)
    SELECT o.job_id, perdure.rank_of(now(), o.priority), o.lane, perdure.band_of(o.priority, 0::smallint), o.run + 1, o.gated
    FROM opened o WHERE o.delay_ms <= 0
), events AS (
    INSERT INTO perdure.job_events (event, job_id, actor, reason, detail)
    SELECT :event::text, o.job_id, :actor::text, :reason::text, jsonb_build_object('from', o.state, 'run', o.run + 1, 'delay_ms', o.delay_ms)
    FROM opened o
)
SELECT w.job_id, w.state, w.unique_key AS key,
    CASE WHEN w.blocked THEN 'blocked' WHEN o.job_id IS NULL THEN 'duplicate' WHEN o.delay_ms > 0 THEN 'scheduled' ELSE 'available' END AS outcome,
    CASE WHEN o.job_id IS NULL AND NOT w.blocked THEN coalesce(
        (SELECT k.job_id FROM perdure.unique_keys k WHERE k.key = w.unique_key AND k.job_id <> w.job_id),
        (SELECT k.job_id FROM keyed k WHERE k.key = w.unique_key)) END AS holder
FROM wanted w LEFT JOIN opened o ON o.job_id = w.job_id;

-- name: drop_letters(job_ids, actor, reason)
-- Acknowledge dead letters: they leave the queue, and their jobs stay discarded.
WITH gone AS (
    DELETE FROM perdure.dead_letter_queue q WHERE q.job_id = ANY (:job_ids::uuid[]) RETURNING q.job_id, q.fingerprint, q.cause, q.run
), events AS (
    INSERT INTO perdure.job_events (event, job_id, actor, reason, detail)
    SELECT 'dead_letter_discarded', g.job_id, :actor::text, :reason::text,
        jsonb_build_object('fingerprint', g.fingerprint, 'cause', g.cause, 'run', g.run) FROM gone g
)
SELECT g.job_id FROM gone g;

-- name: states(job_ids)
-- Where these jobs stand; those that do not exist are left out.
SELECT u.job_id, s.state FROM unnest(:job_ids::uuid[]) AS u (job_id) CROSS JOIN LATERAL perdure.standing(u.job_id) s;

-- name: pause(queue, actor, reason)
-- Leave a queue out of all claims; no row when it is paused already or not known.
WITH paused AS (
    UPDATE perdure.queues q SET paused_at = now(), paused_by = :actor::text WHERE q.name = :queue AND q.paused_at IS NULL RETURNING q.name
), events AS (
    INSERT INTO perdure.job_events (event, queue, actor, reason) SELECT 'queue_paused', p.name, :actor, :reason::text FROM paused p
)
SELECT p.name FROM paused p;

-- name: resume(queue, actor, reason)
-- Let a paused queue be claimed from again.
WITH resumed AS (
    UPDATE perdure.queues q SET paused_at = NULL, paused_by = NULL WHERE q.name = :queue AND q.paused_at IS NOT NULL RETURNING q.name
), events AS (
    INSERT INTO perdure.job_events (event, queue, actor, reason) SELECT 'queue_resumed', r.name, :actor::text, :reason::text FROM resumed r
)
SELECT r.name FROM resumed r;

-- name: queue(queue)
-- Whether a queue is known.
SELECT q.name FROM perdure.queues q WHERE q.name = :queue;

-- name: drain_worker(worker_id, actor, reason, channel)
-- Ask a worker to finish what it runs and to take nothing new; it is told at once and with its next heartbeat.
WITH drained AS (
    UPDATE perdure.workers w SET state = 'draining' WHERE w.id = :worker_id AND w.state = 'active' RETURNING w.id
), events AS (
    INSERT INTO perdure.job_events (event, worker_id, actor, reason) SELECT 'worker_draining', d.id, :actor::text, :reason::text FROM drained d
)
SELECT d.id, pg_notify(:channel::text, d.id::text) FROM drained d;

-- name: worker_state(worker_id)
-- What a worker is doing.
SELECT w.state FROM perdure.workers w WHERE w.id = :worker_id;

-- name: stale_requests(most)
-- Requests to cancel whose lease has ended: their jobs may have gone on to wait or to run again.
SELECT c.job_id, c.reason FROM perdure.cancel_requests c
WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = c.job_id AND l.token = c.token)
ORDER BY c.job_id LIMIT :most;

-- name: sweep_cancel_requests(job_ids)
-- Forget those requests to cancel whose lease is gone.
DELETE FROM perdure.cancel_requests c
WHERE c.job_id = ANY (:job_ids::uuid[]) AND NOT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = c.job_id AND l.token = c.token)
RETURNING c.job_id;
