-- Restores in place: plans, their phases, and the steps that change jobs. Each step may be repeated: it looks for what is left to do.

-- name: file(cut_at, cut, newest, open_since, source, scope, queues, kinds, graph, undoes, policy, rerun_kinds, actor, reason)
-- Write a plan down, without its jobs yet. Queues and kinds become lanes; a graph and an undoing become jobs.
INSERT INTO perdure.restores (cut_at, cut, newest, open_since, source, scope, policy, rerun_kinds, actor, reason, undoes, lanes, jobs)
SELECT :cut_at::timestamptz, :cut::text::pg_snapshot, :newest::uuid, :open_since::timestamptz, :source, :scope::jsonb, :policy::jsonb,
    :rerun_kinds::text[], :actor, :reason, :undoes::uuid,
    CASE WHEN :queues::text[] IS NOT NULL OR :kinds::text[] IS NOT NULL THEN ARRAY(
        SELECT l.lane FROM perdure.lanes l
        WHERE (:queues IS NULL OR l.queue = ANY (:queues)) AND (:kinds IS NULL OR l.kind = ANY (:kinds)) ORDER BY l.lane) END,
    CASE WHEN :graph::uuid IS NOT NULL THEN ARRAY(SELECT g.id FROM perdure.graph_of(:graph) AS g (id) ORDER BY 1)
        WHEN :undoes IS NOT NULL THEN ARRAY(
            SELECT i.job_id FROM perdure.restore_items i WHERE i.restore_id = :undoes AND i.outcome = 'done' ORDER BY 1) END
RETURNING id, lanes = '{}' OR jobs = '{}' AS is_empty;

-- name: patience()
-- Let the next statements of this transaction look at a long history.
SELECT set_config('work_mem', '64MB', true), set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: draw(id, phase)
-- Decide anew what a restore in this phase does with each job; what it has done already stays.
SELECT perdure.draw_restore(r.id) FROM perdure.restores r WHERE r.id = :id AND r.phase = :phase;

-- name: withdraw(id)
-- Forget a plan that nobody carries out.
DELETE FROM perdure.restores r WHERE r.id = :id AND r.phase = 'planned' RETURNING r.id;

-- name: moved(id)
-- How many jobs would now be dealt with otherwise than the plan says.
SELECT m.moved, coalesce(m.sample, '{}') AS sample FROM perdure.restore_moved(:id) m;

-- name: get(id)
-- One restore with what came of its jobs.
SELECT r.*, r.cut::text AS cut_text, r.before::text AS before_text, r.scope::text AS scope_text, r.policy::text AS policy_text,
    r.cases::text AS cases_text, clock_timestamp() AS now, coalesce((
        SELECT jsonb_agg(jsonb_build_object('circumstance', o.circumstance, 'action', o.action, 'outcome', o.outcome, 'jobs', o.jobs,
            'sample', o.sample) ORDER BY o.circumstance, o.action, o.outcome)
        FROM (
            SELECT i.circumstance, i.action, coalesce(i.outcome, 'to do') AS outcome, count(*) AS jobs,
                (array_agg(i.job_id ORDER BY i.job_id))[1:20] AS sample
            FROM perdure.restore_items i WHERE i.restore_id = r.id GROUP BY 1, 2, 3
        ) o
    ), '[]')::text AS outcomes_text
FROM perdure.restores r WHERE r.id = :id;

-- name: newest(most)
-- The restores and plans, the newest first.
SELECT r.id FROM perdure.restores r ORDER BY r.planned_at DESC, r.id LIMIT :most;

-- name: items(id, after, most)
-- The jobs that a restore changes, with what is done to each, in the order of their ids.
SELECT i.job_id, i.circumstance, i.action, i.outcome, i.state_then, i.state_now FROM perdure.restore_items i
WHERE i.restore_id = :id AND i.job_id > :after::uuid ORDER BY i.job_id LIMIT :most;

-- name: stalled(silent_ms)
-- The restore that was begun and that nobody has carried on for a while.
SELECT r.id FROM perdure.restores r
WHERE r.phase IN ('holding', 'draining', 'fencing', 'writing', 'checking') AND r.touched_at < now() - :silent_ms::bigint * interval '1 millisecond';

-- name: forget(kept_ms)
-- Forget plans and restores of long ago, and plans that nobody carried out.
WITH gone AS (
    DELETE FROM perdure.restores r
    WHERE r.phase NOT IN ('holding', 'draining', 'fencing', 'writing', 'checking', 'broken')
        AND coalesce(r.ended_at, r.planned_at) < now() - :kept_ms::bigint * interval '1 millisecond'
    RETURNING r.id
)
SELECT count(*) AS forgotten FROM gone;

-- name: begin(id, digest, drain_ms, tolerance, actor, reason)
-- Begin to carry a plan out, if it is the one that was looked at.
WITH begun AS (
    UPDATE perdure.restores r SET phase = 'holding', begun_at = now(), touched_at = now(), tolerance = :tolerance,
        drain_by = now() + :drain_ms::bigint * interval '1 millisecond'
    WHERE r.id = :id AND r.phase = 'planned' AND r.digest = :digest RETURNING r.*
), events AS (
    INSERT INTO perdure.job_events (event, actor, reason, detail)
    SELECT 'restore_begun', :actor::text, :reason::text, jsonb_build_object('restore', b.id, 'cut_at', b.cut_at, 'source', b.source,
        'scope', b.scope, 'digest', b.digest) FROM begun b
)
SELECT b.id FROM begun b;

-- name: touch(id)
-- Say that somebody carries a restore on, and keep others from doing so until the transaction ends.
UPDATE perdure.restores r SET touched_at = now() WHERE r.id = :id RETURNING r.phase;

-- name: pass_on(id, phase_now, phase_next)
-- Go over to the next phase; before the first job is changed, remember the cut that an undoing restores.
UPDATE perdure.restores r SET phase = :phase_next, touched_at = now(),
    before = CASE WHEN :phase_next = 'writing' THEN pg_current_snapshot() ELSE r.before END,
    before_at = CASE WHEN :phase_next = 'writing' THEN clock_timestamp() ELSE r.before_at END
WHERE r.id = :id AND r.phase = :phase_now RETURNING r.id;

-- name: end(id, phase_now, phase_next, report)
-- Come to an end: the lanes are free again, unless a promise was found broken.
WITH ended AS (
    UPDATE perdure.restores r SET phase = :phase_next, report = :report, touched_at = now(), ended_at = now(), end_xid = pg_current_xact_id()
    WHERE r.id = :id AND r.phase = :phase_now RETURNING r.*
), events AS (
    INSERT INTO perdure.job_events (event, actor, reason, detail)
    SELECT 'restore_' || e.phase, e.actor, e.report, jsonb_build_object('restore', e.id, 'cut_at', e.cut_at, 'source', e.source) FROM ended e
)
SELECT e.id FROM ended e;

-- name: running(id)
-- How many of the jobs that a restore waits for are still running.
SELECT count(*) AS running FROM perdure.restore_items i JOIN perdure.leases l ON l.job_id = i.job_id AND l.run = i.run_now
WHERE i.restore_id = :id AND i.action = 'drain' AND i.done_at IS NULL;

-- name: leases(id, most)
-- Leases that a restore takes away.
SELECT l.*, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit
FROM perdure.restore_items i JOIN perdure.leases l ON l.job_id = i.job_id AND l.run = i.run_now JOIN perdure.jobs j ON j.id = l.job_id
WHERE i.restore_id = :id AND i.action IN ('drain', 'fence') AND i.done_at IS NULL ORDER BY i.job_id LIMIT :most;

-- name: next(id, action, most)
-- The next jobs to which something is to be done, all of one depth: what opens goes down from the parents, what ends comes up from
-- the children, so that each ends by itself and not by its parent's end.
SELECT i.job_id FROM perdure.restore_items i
WHERE i.restore_id = :id AND i.action = :action AND i.done_at IS NULL AND i.depth = (
    SELECT CASE WHEN :action IN ('cancel', 'end') THEN max(d.depth) ELSE min(d.depth) END FROM perdure.restore_items d WHERE d.restore_id = :id AND d.action = :action AND d.done_at IS NULL)
ORDER BY i.job_id LIMIT :most;

-- name: note(id, job_ids, outcome)
-- Note what came of some jobs.
UPDATE perdure.restore_items i SET done_at = now(), outcome = :outcome
WHERE i.restore_id = :id AND i.job_id = ANY (:job_ids::uuid[]) AND i.done_at IS NULL RETURNING i.job_id;

-- name: reopen(id, job_ids)
-- Open a new run of jobs that have ended and were live at the cut, with the counts that they had then: pending while a parent is
-- live or has failed in a way that holds them, scheduled while their time has not come, else available at the place that they had.
-- A parent that has been accepted counts as satisfied. Where another job holds the unique key, or a parent has ended so that its
-- children are cancelled, nothing happens; nor where the job has moved on. Runs are opened under `lock_jobs` only.
-- from: completed, cancelled, discarded   to: pending, scheduled, available
WITH wanted AS MATERIALIZED (
    SELECT i.*, s.state, s.run, j.lane, j.priority, j.unique_states, j.unique_until,
        CASE WHEN j.unique_until IS NULL OR j.unique_until > now() THEN j.unique_key END AS unique_key,
        (j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)) AS gated,
        s.state IS NOT DISTINCT FROM i.state_now AND s.run IS NOT DISTINCT FROM i.run_now AS as_planned
    FROM perdure.restore_items i
    LEFT JOIN perdure.jobs j ON j.id = i.job_id
    LEFT JOIN LATERAL perdure.standing(i.job_id) s ON j.id IS NOT NULL
    WHERE i.restore_id = :id AND i.job_id = ANY (:job_ids::uuid[]) AND i.done_at IS NULL
), parents AS MATERIALIZED (
    SELECT d.child_id, d.parent_id, CASE
        WHEN p.state = 'completed' OR (d.on_failure = 'run' AND p.state IN ('cancelled', 'discarded')) THEN 'satisfied'
        WHEN p.state IS NULL AND d.state = 'satisfied' THEN 'satisfied'
        WHEN p.state IS NULL OR (d.on_failure = 'cancel' AND p.state IN ('cancelled', 'discarded')) THEN 'cancelled'
        ELSE 'waiting' END::perdure.edge_state AS state
    FROM wanted w JOIN perdure.job_dependencies d ON d.child_id = w.job_id LEFT JOIN LATERAL perdure.standing(d.parent_id) p ON true
    WHERE w.as_planned AND w.state_then = 'pending'
), ties AS MATERIALIZED (
    SELECT p.child_id, count(*) FILTER (WHERE p.state = 'waiting') AS waiting, bool_or(p.state = 'cancelled') AS doomed FROM parents p GROUP BY p.child_id
), keyed AS (
    INSERT INTO perdure.unique_keys AS k (key, job_id, states, expires_at)
    SELECT DISTINCT ON (w.unique_key) w.unique_key, w.job_id, w.unique_states, w.unique_until
    FROM wanted w LEFT JOIN ties t ON t.child_id = w.job_id
    WHERE w.as_planned AND w.unique_key IS NOT NULL AND t.doomed IS NOT TRUE ORDER BY w.unique_key, w.job_id
    ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, states = excluded.states, expires_at = excluded.expires_at
    WHERE k.job_id = excluded.job_id OR k.expires_at <= now()
    RETURNING k.job_id
), opened AS MATERIALIZED (
    SELECT w.*, CASE WHEN t.waiting > 0 THEN 'pending' WHEN w.run_at > now() THEN 'scheduled' ELSE 'available' END::perdure.job_state AS becomes,
        coalesce(t.waiting, 0) AS waiting
    FROM wanted w LEFT JOIN ties t ON t.child_id = w.job_id
    WHERE w.as_planned AND t.doomed IS NOT TRUE AND (w.unique_key IS NULL OR EXISTS (SELECT FROM keyed k WHERE k.job_id = w.job_id))
), letters AS (
    DELETE FROM perdure.dead_letter_queue q USING opened o WHERE q.job_id = o.job_id
), wishes AS (
    DELETE FROM perdure.cancel_requests c USING opened o WHERE c.job_id = o.job_id
), edges AS (
    UPDATE perdure.job_dependencies d SET state = p.state FROM parents p JOIN opened o ON o.job_id = p.child_id
    WHERE d.child_id = p.child_id AND d.parent_id = p.parent_id AND d.state <> p.state
), history AS (
    INSERT INTO perdure.job_executions (job_id, lane, run, attempt, crashes, interruptions, outcome, state, retry_at, cause)
    SELECT o.job_id, o.lane, o.run + 1, o.attempt, o.crashes, o.interruptions, 'released', o.becomes,
        CASE WHEN o.becomes <> 'available' THEN o.run_at END, format('restored as at %s by restore %s', r.cut_at, r.id)
    FROM opened o JOIN perdure.restores r ON r.id = o.restore_id
), blocked AS (
    INSERT INTO perdure.blocked_jobs (job_id, waiting, run_at, lane, priority, run, gated)
    SELECT o.job_id, o.waiting, o.run_at, o.lane, o.priority, o.run + 1, o.gated FROM opened o WHERE o.becomes = 'pending'
), later AS (
    INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, run, attempt, crashes, interruptions, gated)
    SELECT o.job_id, o.run_at, o.lane, o.priority, o.run + 1, o.attempt, o.crashes, o.interruptions, o.gated
    FROM opened o WHERE o.becomes = 'scheduled'
), ready AS (
    INSERT INTO perdure.available_jobs AS a (job_id, rank, lane, band, run, attempt, crashes, interruptions, gated)
    SELECT o.job_id, perdure.rank_of(CASE WHEN o.state_then IN ('available', 'running') THEN o.since ELSE now() END, o.priority), o.lane,
        perdure.band_of(o.priority, 0::smallint), o.run + 1, o.attempt, o.crashes, o.interruptions, o.gated
    FROM opened o WHERE o.becomes = 'available'
    RETURNING a.job_id, a.lane, a.band, a.rank
), events AS (
    INSERT INTO perdure.job_events (event, job_id, actor, reason, detail)
    SELECT 'restored', o.job_id, r.actor, r.reason, jsonb_build_object('restore', r.id, 'cut_at', r.cut_at, 'from', o.state, 'run', o.run + 1)
    FROM opened o JOIN perdure.restores r ON r.id = o.restore_id
), noted AS (
    UPDATE perdure.restore_items i SET done_at = now(), outcome = CASE
        WHEN o.job_id IS NOT NULL THEN 'done' WHEN w.lane IS NULL THEN 'gone' WHEN NOT w.as_planned THEN 'moved'
        WHEN t.doomed THEN 'parent failed' ELSE 'unique key taken' END
    FROM wanted w LEFT JOIN opened o ON o.job_id = w.job_id LEFT JOIN ties t ON t.child_id = w.job_id
    WHERE i.restore_id = w.restore_id AND i.job_id = w.job_id
)
SELECT r.lane, r.band, r.rank, r.job_id FROM ready r;

-- name: end_again(id, job_ids)
-- End jobs that had ended at the cut and wait in a new run since: as they had ended then, dead letters included. What their children
-- wait for is settled as with any end.
-- from: pending, scheduled, retryable, available   to: completed, cancelled, discarded
WITH planned AS MATERIALIZED (
    SELECT i.job_id, i.run_now, r.cut, r.id AS restore_id, r.actor, r.reason, r.cut_at, e.outcome, e.state, e.error, e.result, e.cause,
        e.run AS run_then
    FROM perdure.restore_items i JOIN perdure.restores r ON r.id = i.restore_id
    CROSS JOIN LATERAL (
        SELECT x.* FROM perdure.job_executions x
        WHERE x.job_id = i.job_id AND x.state IN ('completed', 'cancelled', 'discarded') AND perdure.seen(x.settle_xid, r.cut)
        ORDER BY x.run DESC, x.settled_at DESC LIMIT 1
    ) e
    WHERE i.restore_id = :id AND i.job_id = ANY (:job_ids::uuid[]) AND i.done_at IS NULL
), blocked AS (
    DELETE FROM perdure.blocked_jobs b USING planned p WHERE b.job_id = p.job_id AND b.run = p.run_now RETURNING b.*
), later AS (
    DELETE FROM perdure.scheduled_jobs s USING planned p WHERE s.job_id = p.job_id AND s.run = p.run_now RETURNING s.*
), ready AS (
    DELETE FROM perdure.available_jobs a USING planned p WHERE a.job_id = p.job_id AND a.run = p.run_now RETURNING a.*
), parked AS (
    DELETE FROM perdure.parked_jobs k USING planned p WHERE k.job_id = p.job_id AND k.run = p.run_now RETURNING k.*
), gone AS MATERIALIZED (
    SELECT b.job_id, b.lane, b.run, 0::smallint AS attempt, 0::smallint AS crashes, 0::smallint AS interruptions,
        NULL::timestamptz AS available_at, NULL::xid8 AS available_xid FROM blocked b
    UNION ALL SELECT s.job_id, s.lane, s.run, s.attempt, s.crashes, s.interruptions, NULL, NULL FROM later s
    UNION ALL SELECT a.job_id, a.lane, a.run, a.attempt, a.crashes, a.interruptions, a.available_at, a.xid FROM ready a
    UNION ALL SELECT k.job_id, k.lane, k.run, k.attempt, k.crashes, k.interruptions, k.available_at, k.xid FROM parked k
), told AS MATERIALIZED (
    SELECT g.*, p.restore_id, p.actor, p.reason, p.cut_at, p.outcome, p.state, p.error, p.result, NOT EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = g.job_id AND v.event = 'dead_letter_discarded'
                AND (v.detail ->> 'run')::smallint = p.run_then AND perdure.seen(v.xid, p.cut)
        ) AS has_letter, concat_ws('; ', nullif(p.cause, ''), format('as at %s by restore %s', p.cut_at, p.restore_id)) AS cause
    FROM gone g JOIN planned p ON p.job_id = g.job_id
), history AS (
    -- By the clock, as `cancel_waiting` has it.
    INSERT INTO perdure.job_executions (job_id, lane, run, attempt, crashes, interruptions, outcome, state, available_at, available_xid,
        settled_at, cause, error, result)
    SELECT t.job_id, t.lane, t.run, t.attempt, t.crashes, t.interruptions, t.outcome, t.state, t.available_at, t.available_xid,
        clock_timestamp(), t.cause, t.error, t.result FROM told t
), letters AS (
    INSERT INTO perdure.dead_letter_queue (job_id, lane, run, attempt, crashes, interruptions, outcome, fingerprint, cause, error)
    SELECT t.job_id, t.lane, t.run, t.attempt, t.crashes, t.interruptions, t.outcome,
        coalesce(nullif(t.error ->> 'fingerprint', ''), t.outcome::text), t.cause, t.error
    FROM told t WHERE t.state = 'discarded' AND t.has_letter
), keys AS (
    DELETE FROM perdure.unique_keys u USING told t WHERE u.job_id = t.job_id AND NOT perdure.counts_in(u.states, t.state)
), events AS (
    INSERT INTO perdure.job_events (event, job_id, actor, reason, detail)
    SELECT 'restored', t.job_id, t.actor, t.reason, jsonb_build_object('restore', t.restore_id, 'cut_at', t.cut_at, 'to', t.state, 'run', t.run)
    FROM told t
), noted AS (
    UPDATE perdure.restore_items i SET done_at = now(),
        outcome = CASE WHEN EXISTS (SELECT FROM told t WHERE t.job_id = i.job_id) THEN 'done' ELSE 'moved' END
    WHERE i.restore_id = :id AND i.job_id = ANY (:job_ids) AND i.done_at IS NULL
), parents AS (
    SELECT t.state, array_agg(t.job_id) AS ids FROM told t
    WHERE EXISTS (SELECT FROM perdure.job_dependencies d WHERE d.parent_id = t.job_id) GROUP BY t.state
)
SELECT e.lane, e.band, e.rank, e.job_id FROM parents p CROSS JOIN LATERAL perdure.settle_edges(p.ids, p.state) e;

-- name: horizon(days, at)
-- Whether the history since a snapshot is all here: which of its days are gone, and the earliest moment that is remembered.
SELECT ARRAY(SELECT u.day FROM unnest(:days::timestamptz[]) AS u (day) WHERE NOT EXISTS (
        SELECT FROM perdure.day_partitions d WHERE d.parent = 'job_executions' AND d.day = u.day) ORDER BY 1) AS missing,
    i.id AS installation, i.era, (SELECT min(m.at) FROM perdure.moments m) AS earliest,
    (SELECT m.open_since FROM perdure.moments m WHERE m.at <= :at::timestamptz ORDER BY m.at DESC LIMIT 1) AS open_since
FROM perdure.installation i;
