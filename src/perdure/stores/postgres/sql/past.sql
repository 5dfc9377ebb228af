-- Looking back: moments, and what stood at a cut. `cut` is the text of a snapshot of transactions, `at` when it was taken.

-- name: mark()
-- Remember this moment: which transactions have committed, the greatest id of a job that is there, and since when the oldest open
-- transaction has been open. The time is read after the snapshot was taken, so that nothing later is in it. The commit waits for no
-- disk: a moment that a crash of the server takes with it takes nothing else along.
INSERT INTO perdure.moments (at, cut, newest, open_since)
SELECT clock_timestamp(), pg_current_snapshot(),
    coalesce((SELECT j.id FROM perdure.jobs j ORDER BY j.id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000'),
    (SELECT least(now(), min(a.xact_start)) - interval '1 second' FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.backend_type = 'client backend')
WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL
ON CONFLICT DO NOTHING;

-- name: thin(kept_ms, dense_ms)
-- Forget moments past the retention, and of those that are not recent any more all but the first of each minute.
WITH gone AS (
    DELETE FROM perdure.moments m
    WHERE m.at < now() - :kept_ms::bigint * interval '1 millisecond'
        OR (m.at < now() - :dense_ms::bigint * interval '1 millisecond' AND EXISTS (
            SELECT FROM perdure.moments f WHERE f.at >= date_trunc('minute', m.at) AND f.at < m.at))
    RETURNING m.at
)
SELECT count(*) AS thinned FROM gone;

-- name: forget_worker_history(kept_ms)
-- Forget what ended workers had been before the retention began, once their rows are gone.
DELETE FROM perdure.worker_history h
WHERE h.at < now() - :kept_ms::bigint * interval '1 millisecond' AND NOT EXISTS (SELECT FROM perdure.workers w WHERE w.id = h.worker_id);

-- name: moment(at)
-- The last moment remembered at or before a time, beside the first one after it, the earliest one and the present.
SELECT m.at, m.cut::text AS cut, m.newest, m.open_since, (SELECT min(e.at) FROM perdure.moments e) AS earliest,
    (SELECT min(n.at) FROM perdure.moments n WHERE n.at > :at::timestamptz) AS later, clock_timestamp() AS now
FROM (SELECT 1) one
LEFT JOIN LATERAL (SELECT * FROM perdure.moments m WHERE m.at <= :at ORDER BY m.at DESC LIMIT 1) m ON true;

-- name: next_bodies(before, floor, span, cut, newest)
-- The ids of the next jobs below `before` that were there, whatever their state.
SELECT b.id FROM perdure.jobs b
WHERE b.id < :before::uuid AND b.id >= :floor::uuid AND b.id <= :newest::uuid AND perdure.seen(b.xid, :cut::text::pg_snapshot)
ORDER BY b.id DESC LIMIT :span;

-- name: by_block()
-- For the rest of the transaction find attempts by the block ranges that tell when they began and ended, never in the order of jobs.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_indexscan', 'off', true);

-- name: next_running(before, floor, span, cut, newest, open_since, at)
-- The ids of the next jobs below `before` that ran at the cut: their attempt had begun and ended later, or has not ended.
SELECT c.id FROM (
    SELECT e.job_id AS id FROM perdure.job_executions e
    WHERE e.settled_at >= :open_since::timestamptz AND e.claimed_at <= :at::timestamptz AND perdure.seen(e.claim_xid, :cut::text::pg_snapshot)
        AND NOT perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
    UNION ALL
    SELECT l.job_id FROM perdure.leases l WHERE perdure.seen(l.claim_xid, :cut::text::pg_snapshot)
    OFFSET 0 -- or the bounds below would have the index on jobs used
) c
WHERE c.id < :before::uuid AND c.id >= :floor::uuid AND c.id <= :newest::uuid
ORDER BY c.id DESC LIMIT :span;

-- name: next_available(before, floor, span, cut, newest, open_since, at)
-- The ids of the next jobs below `before` with an attempt that ended after the cut and waited at it for a worker.
SELECT c.id FROM (
    SELECT e.job_id AS id FROM perdure.job_executions e
    WHERE e.settled_at >= :open_since::timestamptz AND e.available_at <= :at::timestamptz AND perdure.seen(e.available_xid, :cut::text::pg_snapshot)
        AND perdure.seen(e.claim_xid, :cut::text::pg_snapshot) IS NOT TRUE AND NOT perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
    OFFSET 0 -- or the bounds below would have the index on jobs used
) c
WHERE c.id < :before::uuid AND c.id >= :floor::uuid AND c.id <= :newest::uuid
ORDER BY c.id DESC LIMIT :span;

-- name: next_available_live(before, floor, span, cut, newest)
-- The ids of the next jobs below `before` that live now and waited for a worker at the cut.
SELECT c.id FROM (
    (SELECT a.job_id AS id FROM perdure.available_jobs a
    WHERE a.job_id < :before::uuid AND a.job_id >= :floor::uuid AND a.job_id <= :newest::uuid AND perdure.seen(a.xid, :cut::text::pg_snapshot)
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT p.job_id FROM perdure.parked_jobs p
    WHERE p.job_id < :before AND p.job_id >= :floor AND p.job_id <= :newest AND perdure.seen(p.xid, :cut::text::pg_snapshot)
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT l.job_id FROM perdure.leases l
    WHERE l.job_id < :before AND l.job_id >= :floor AND l.job_id <= :newest
        AND perdure.seen(l.available_xid, :cut::text::pg_snapshot) AND NOT perdure.seen(l.claim_xid, :cut::text::pg_snapshot)
    ORDER BY 1 DESC LIMIT :span)
) c ORDER BY c.id DESC LIMIT :span;

-- name: next_waiting(states, before, floor, span, cut, newest, open_since)
-- The ids of the next jobs below `before` that may have been in one of these states, of those pending, scheduled and retryable: what lives
-- and waits now, and what tells of a wait that is over; edges may be forgotten with their parents, the end of a child that never became
-- available is not. A job may come twice. Edges that were satisfied before the oldest transaction of the cut
-- hold nothing back at it; an age that cannot be compared, of another database or further back than half of all ids, leaves an edge in.
SELECT c.id FROM (
    (SELECT b.job_id AS id FROM perdure.blocked_jobs b
    WHERE 'pending' = ANY (:states::perdure.job_state[]) AND b.job_id < :before::uuid AND b.job_id >= :floor::uuid AND b.job_id <= :newest::uuid
    ORDER BY b.job_id DESC LIMIT :span)
    UNION ALL
    (SELECT d.child_id FROM perdure.job_dependencies d
    WHERE 'pending' = ANY (:states) AND d.child_id < :before AND d.child_id >= :floor AND d.child_id <= :newest
        AND (d.state = 'waiting' OR age(d.xmin) <= (
            SELECT CASE WHEN perdure.in_order(x.oldest) > 0 AND x.now - perdure.in_order(x.oldest) < 2147483648
                THEN age(x.oldest::xid) ELSE 2147483647 END
            FROM (SELECT pg_snapshot_xmin(:cut::text::pg_snapshot) AS oldest, perdure.in_order(pg_snapshot_xmax(pg_current_snapshot())) AS now) x
        ))
    ORDER BY d.child_id DESC LIMIT :span)
    UNION ALL
    (SELECT s.job_id FROM perdure.scheduled_jobs s
    WHERE CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END::perdure.job_state = ANY (:states)
        AND s.job_id < :before AND s.job_id >= :floor AND s.job_id <= :newest
    ORDER BY s.job_id DESC LIMIT :span)
    UNION ALL
    (SELECT v.job_id FROM perdure.job_events v
    WHERE v.detail ? 'scheduled_xid' AND 'scheduled' = ANY (:states)
        AND v.at >= :open_since::timestamptz AND NOT perdure.seen(v.xid, :cut::text::pg_snapshot)
        AND v.job_id < :before AND v.job_id >= :floor AND v.job_id <= :newest
    ORDER BY v.job_id DESC LIMIT :span)
    UNION ALL
    (SELECT v.job_id FROM perdure.job_events v
    WHERE v.detail ? 'delay_ms' AND 'scheduled' = ANY (:states) AND perdure.seen(v.xid, :cut::text::pg_snapshot)
        AND v.job_id < :before AND v.job_id >= :floor AND v.job_id <= :newest
    ORDER BY v.job_id DESC LIMIT :span)
    UNION ALL
    (SELECT g.job_id FROM (
        SELECT e.job_id FROM perdure.job_executions e
        WHERE 'pending' = ANY (:states) AND e.state <> 'completed' AND e.state IN ('cancelled', 'discarded') AND e.settled_at >= :open_since
            AND e.available_xid IS NULL AND NOT perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
        OFFSET 0 -- by when they ended
    ) g WHERE g.job_id < :before AND g.job_id >= :floor AND g.job_id <= :newest
    ORDER BY g.job_id DESC LIMIT :span)
    UNION ALL
    (SELECT e.job_id FROM perdure.job_executions e
    WHERE e.state IN ('pending', 'scheduled', 'available') AND e.state = ANY (:states) AND perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
        AND e.job_id < :before AND e.job_id >= :floor AND e.job_id <= :newest
    ORDER BY e.job_id DESC LIMIT :span)
    UNION ALL
    (SELECT e.job_id FROM perdure.job_executions e
    WHERE e.state = 'retryable' AND 'retryable' = ANY (:states) AND perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
        AND e.job_id < :before AND e.job_id >= :floor AND e.job_id <= :newest
    ORDER BY e.job_id DESC LIMIT :span)
) c ORDER BY c.id DESC LIMIT :span;

-- name: next_failed(states, before, floor, span, newest, lanes)
-- The ids of the next jobs below `before` that an attempt had ever left in one of these states, of those retryable, cancelled and
-- discarded. A job may come twice.
SELECT c.id FROM (
    (SELECT e.job_id AS id FROM perdure.job_executions e
    WHERE e.state IN ('cancelled', 'discarded') AND e.state = ANY (:states::perdure.job_state[])
        AND e.job_id < :before::uuid AND e.job_id >= :floor::uuid AND e.job_id <= :newest::uuid
        AND (:lanes::jsonb IS NULL OR e.lane = ANY (ARRAY(SELECT perdure.lanes_that_fit(:lanes))))
    ORDER BY e.job_id DESC LIMIT :span)
    UNION ALL
    (SELECT e.job_id FROM perdure.job_executions e
    WHERE e.state = 'retryable' AND 'retryable' = ANY (:states) AND e.job_id < :before AND e.job_id >= :floor AND e.job_id <= :newest
        AND (:lanes IS NULL OR e.lane = ANY (ARRAY(SELECT perdure.lanes_that_fit(:lanes))))
    ORDER BY e.job_id DESC LIMIT :span)
) c ORDER BY c.id DESC LIMIT :span;

-- name: left_so(among, states, cut)
-- Those of some jobs whose last attempt had left them in one of these states at the cut, none having been available or run since; or
-- that nobody had tried, or had opened again for a later time, where such jobs may be in one of them.
SELECT c.id FROM (SELECT DISTINCT u.id FROM unnest(:among::uuid[]) AS u (id)) c
LEFT JOIN LATERAL (
    SELECT e.state FROM perdure.job_executions e WHERE e.job_id = c.id AND perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
    ORDER BY e.run DESC, e.settled_at DESC, e.settle_xid DESC LIMIT 1
) l ON true
WHERE (
        l.state = ANY (:states::perdure.job_state[])
        OR (l.state IS NULL AND ('pending' = ANY (:states) OR 'scheduled' = ANY (:states)))
        OR ('scheduled' = ANY (:states) AND EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = c.id AND v.detail ? 'delay_ms' AND perdure.seen(v.xid, :cut::text::pg_snapshot)
        ))
    ) AND NOT EXISTS (
        SELECT FROM perdure.job_executions f WHERE f.job_id = c.id AND NOT perdure.seen(f.settle_xid, :cut::text::pg_snapshot)
            AND perdure.seen(f.available_xid, :cut::text::pg_snapshot)
    )
ORDER BY c.id DESC;

-- name: moved_since(open_since, most)
-- How many attempts have ended since a moment, counted to `most`.
SELECT count(*) AS moved FROM (SELECT FROM perdure.job_executions e WHERE e.settled_at >= :open_since LIMIT :most::integer) c;

-- name: next_of_states(states, before, floor, span, cut, newest, open_since)
-- The ids of the next jobs below `before` that may have been in one of these states, completed not among them: those that live now,
-- those whose attempt ended after the cut, and those that ended badly before it. A job may come twice.
SELECT c.id FROM (
    (SELECT l.job_id AS id FROM perdure.leases l WHERE l.job_id < :before::uuid AND l.job_id >= :floor::uuid AND l.job_id <= :newest::uuid
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT a.job_id FROM perdure.available_jobs a WHERE a.job_id < :before AND a.job_id >= :floor AND a.job_id <= :newest
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT p.job_id FROM perdure.parked_jobs p WHERE p.job_id < :before AND p.job_id >= :floor AND p.job_id <= :newest
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT s.job_id FROM perdure.scheduled_jobs s WHERE s.job_id < :before AND s.job_id >= :floor AND s.job_id <= :newest
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT b.job_id FROM perdure.blocked_jobs b WHERE b.job_id < :before AND b.job_id >= :floor AND b.job_id <= :newest
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT e.job_id FROM perdure.job_executions e
    WHERE e.settled_at >= :open_since::timestamptz AND e.job_id < :before AND e.job_id >= :floor AND e.job_id <= :newest
        AND NOT perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT e.job_id FROM perdure.job_executions e
    WHERE e.state IN ('cancelled', 'discarded') AND ('cancelled' = ANY (:states::perdure.job_state[]) OR 'discarded' = ANY (:states))
        AND e.job_id < :before AND e.job_id >= :floor AND e.job_id <= :newest
    ORDER BY 1 DESC LIMIT :span)
) c ORDER BY c.id DESC LIMIT :span;

-- name: begun(among, cut)
-- Those of some jobs that may have been available or running: one look at their attempts tells who is worth a closer one.
SELECT c.id FROM unnest(:among::uuid[]) WITH ORDINALITY AS c (id, place)
WHERE EXISTS (
        SELECT FROM perdure.job_executions e WHERE e.job_id = c.id AND NOT perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
            AND (perdure.seen(e.claim_xid, :cut::text::pg_snapshot) OR perdure.seen(e.available_xid, :cut::text::pg_snapshot))
    ) OR EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = c.id)
    OR EXISTS (SELECT FROM perdure.available_jobs a WHERE a.job_id = c.id)
    OR EXISTS (SELECT FROM perdure.parked_jobs p WHERE p.job_id = c.id)
ORDER BY c.place;

-- name: matching(among, states, priorities, ids, without, since, since_ms, until, until_ms, lanes, words, args, contained, cut)
-- Those of some jobs that were there and matched a filter, the newest first.
SELECT j.id, s.state, s.run, s.attempt, s.since, s.run_at, s.worker_id, w.name AS worker, n.kind, n.queue, n.labels, j.priority,
    j.max_attempts, j.enqueued_at, j.args::text AS args, j.unique_key, j.concurrency_key, x.error::text AS error, x.cause, x.outcome
FROM unnest(:among::uuid[]) AS c (id)
JOIN perdure.jobs j ON j.id = c.id AND perdure.seen(j.xid, :cut::text::pg_snapshot)
JOIN perdure.lanes n ON n.lane = j.lane
CROSS JOIN LATERAL perdure.args_that_fit(j.args, :args::jsonb) a
CROSS JOIN LATERAL perdure.standing_at(c.id, :cut::text::pg_snapshot) s
LEFT JOIN perdure.workers w ON w.id = s.worker_id
LEFT JOIN LATERAL (
    SELECT e.error, e.cause, e.outcome FROM perdure.job_executions e WHERE e.job_id = c.id AND perdure.seen(e.settle_xid, :cut::text::pg_snapshot) ORDER BY e.settled_at DESC LIMIT 1
) x ON true
CROSS JOIN LATERAL perdure.words_that_fit(ARRAY[
    'key', j.unique_key, 'key', j.concurrency_key, 'worker', s.worker_id::text, 'worker', w.name,
    'fingerprint', coalesce(nullif(x.error ->> 'fingerprint', ''), x.outcome::text),
    'error', x.error ->> 'type', 'error', x.error ->> 'message', 'error', x.cause,
    'word', x.error ->> 'type', 'word', x.error ->> 'message', 'word', x.cause, 'word', n.kind
], s.attempt, :words::jsonb) f
WHERE s.state = ANY (:states::perdure.job_state[])
    AND (:contained::jsonb[] IS NULL OR j.args @> ANY (:contained))
    AND (:priorities::smallint[] IS NULL OR j.priority = ANY (:priorities))
    AND (:ids::uuid[] IS NULL OR c.id = ANY (:ids))
    AND (:without::uuid[] IS NULL OR c.id <> ALL (:without))
    AND (:since::timestamptz IS NULL OR j.enqueued_at >= :since)
    AND (:since_ms::bigint IS NULL OR j.enqueued_at >= now() - :since_ms * interval '1 millisecond')
    AND (:until::timestamptz IS NULL OR j.enqueued_at <= :until)
    AND (:until_ms::bigint IS NULL OR j.enqueued_at <= now() - :until_ms * interval '1 millisecond')
    AND (:lanes::jsonb IS NULL OR j.lane = ANY (ARRAY(SELECT perdure.lanes_that_fit(:lanes))))
ORDER BY j.id DESC;

-- name: job(job_id, cut)
-- One job: its body, where it stood and who ran it. What it said of its progress then is not kept, nor how suspect it was.
SELECT j.id, s.state, s.run, s.attempt, s.since, s.run_at, s.worker_id, w.name AS worker, n.kind, n.queue, n.labels, j.priority,
    j.max_attempts, j.enqueued_at, j.args::text AS args, j.unique_key, j.concurrency_key, x.error::text AS error, x.cause, x.outcome,
    x.result::text AS result, j.depth, j.timeout_ms, j.crash_limit, s.crashes, s.interruptions, 0 AS suspicion, j.concurrency_limit,
    j.metadata::text AS metadata, s.token, coalesce(l.process, h.process) AS process, coalesce(l.isolated, h.isolated) AS isolated,
    s.since AS claimed_at, nullif(l.deadline, 'infinity') AS deadline, c.at AS requested_at, c.reason AS request_reason,
    NULL::real AS fraction, NULL::text AS note, NULL::timestamptz AS updated_at, NULL::uuid AS progress_token, d.dead_at,
    d.outcome AS dead_outcome, d.fingerprint, d.cause AS dead_cause, d.error::text AS dead_error, d.run AS dead_run,
    d.attempt AS dead_attempt, d.crashes AS dead_crashes, d.interruptions AS dead_interruptions
FROM perdure.jobs j
JOIN perdure.lanes n ON n.lane = j.lane
CROSS JOIN LATERAL perdure.standing_at(j.id, :cut::text::pg_snapshot) s
LEFT JOIN perdure.workers w ON w.id = s.worker_id
LEFT JOIN perdure.leases l ON l.job_id = j.id AND l.token = s.token
LEFT JOIN perdure.job_executions h ON h.job_id = j.id AND h.token = s.token
LEFT JOIN LATERAL (
    SELECT v.at, concat_ws(': ', 'cancelled by ' || v.actor, nullif(v.reason, '')) AS reason FROM perdure.job_events v
    WHERE v.job_id = j.id AND v.event = 'cancel_requested' AND (v.detail ->> 'token')::uuid = s.token
        AND perdure.seen(v.xid, :cut::text::pg_snapshot) LIMIT 1
) c ON true
LEFT JOIN LATERAL (
    SELECT * FROM perdure.letters_at(:cut::text::pg_snapshot) q WHERE q.job_id = j.id AND s.state = 'discarded' LIMIT 1
) d ON true
LEFT JOIN LATERAL (
    SELECT e.error, e.cause, e.outcome, e.result FROM perdure.job_executions e
    WHERE e.job_id = j.id AND perdure.seen(e.settle_xid, :cut::text::pg_snapshot) ORDER BY e.settled_at DESC LIMIT 1
) x ON true
WHERE j.id = :job_id AND perdure.seen(j.xid, :cut::text::pg_snapshot);

-- name: attempts(job_id, most, cut)
-- The attempts of one job that had ended, the newest first.
SELECT e.*, e.error::text AS error_text, e.result::text AS result_text, w.name AS worker
FROM perdure.job_executions e LEFT JOIN perdure.workers w ON w.id = e.worker_id
WHERE e.job_id = :job_id AND perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
ORDER BY e.settled_at DESC, e.run DESC, e.attempt DESC LIMIT :most;

-- name: edges(job_id, most, cut)
-- The parents and the children of one job, with where they stood; what had become of an edge is told by its row where that can, else by how
-- its parent had ended.
SELECT d.is_parent, d.other_id, d.on_failure, s.state, n.kind, CASE
    WHEN x.edge IS NOT NULL THEN x.edge::text
    WHEN p.state = 'completed' OR (d.on_failure = 'run' AND p.state IN ('cancelled', 'discarded')) OR o.reopened THEN 'satisfied'
    WHEN d.on_failure = 'cancel' AND p.state IN ('cancelled', 'discarded') THEN 'cancelled' ELSE 'waiting' END AS edge
FROM (
    (SELECT true AS is_parent, p.parent_id AS other_id, p.parent_id, p.child_id, p.on_failure, p.state AS edge, p.xmin AS version
    FROM perdure.job_dependencies p
    WHERE p.child_id = :job_id ORDER BY p.parent_id LIMIT :most)
    UNION ALL
    (SELECT false, c.child_id, c.parent_id, c.child_id, c.on_failure, c.state, c.xmin
    FROM perdure.job_dependencies c
    WHERE c.parent_id = :job_id ORDER BY c.child_id LIMIT :most)
) d
LEFT JOIN perdure.jobs j ON j.id = d.other_id
LEFT JOIN perdure.lanes n ON n.lane = j.lane
LEFT JOIN LATERAL perdure.standing_at(d.other_id, :cut::text::pg_snapshot) s ON true
LEFT JOIN LATERAL perdure.standing_at(d.parent_id, :cut::text::pg_snapshot) p ON true
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM perdure.job_events v WHERE v.job_id = d.child_id AND v.detail ? 'delay_ms'
        AND perdure.seen(v.xid, :cut::text::pg_snapshot)) AS reopened
) o
LEFT JOIN perdure.jobs c ON c.id = d.child_id
CROSS JOIN LATERAL (
    SELECT perdure.edge_at(d.child_id, d.edge, perdure.written_by(d.version), c.xid, :cut::text::pg_snapshot,
        perdure.restored_since(:cut::text::pg_snapshot)) AS edge
) x
WHERE d.is_parent OR perdure.seen(j.xid, :cut::text::pg_snapshot)
ORDER BY d.is_parent DESC, d.other_id;

-- name: events(job_id, most, cut)
-- What had been done to one job, the newest first.
SELECT e.at, e.event, e.job_id, e.worker_id, e.queue, e.actor, e.reason, e.detail::text AS detail
FROM perdure.job_events e WHERE e.job_id = :job_id AND perdure.seen(e.xid, :cut::text::pg_snapshot) ORDER BY e.at DESC LIMIT :most;

-- name: counts(cut, newest, open_since)
-- How many jobs were in each state; completed ones are what all bodies leave.
SELECT s.state::text AS state, count(*) AS jobs
FROM perdure.standings_at(:cut::text::pg_snapshot, :newest::uuid, :open_since::timestamptz) s GROUP BY s.state
UNION ALL
SELECT 'bodies', count(*) FROM perdure.jobs j WHERE j.id <= :newest AND perdure.seen(j.xid, :cut::text::pg_snapshot);

-- name: queues(name, cut, newest, open_since, at, lanes)
-- One row for each lane of each queue that was there, as for the present, with `lanes` without counting. Pauses and resumptions take turns, so that
-- those since the cut, whatever their order, tell from the present whether a queue was paused.
WITH standings AS MATERIALIZED (
    SELECT s.lane, count(*) FILTER (WHERE s.state = 'pending') AS pending, count(*) FILTER (WHERE s.state = 'scheduled') AS scheduled,
        count(*) FILTER (WHERE s.state = 'retryable') AS retryable, count(*) FILTER (WHERE s.state = 'running') AS running,
        count(*) FILTER (WHERE s.state = 'available') AS available, min(s.since) FILTER (WHERE s.state = 'available') AS oldest
    FROM perdure.standings_at(:cut::text::pg_snapshot, :newest::uuid, :open_since::timestamptz) s WHERE :lanes::jsonb IS NULL GROUP BY s.lane
    UNION ALL
    SELECT x.lane, x.pending, x.scheduled, x.retryable, x.running, x.available + x.parked, x.oldest
    FROM jsonb_to_recordset(:lanes) AS x (lane integer, pending bigint, scheduled bigint, retryable bigint, running bigint,
        available bigint, parked bigint, oldest timestamptz)
), letters AS MATERIALIZED (
    SELECT d.lane, count(*) AS discarded FROM perdure.letters_at(:cut::text::pg_snapshot) d WHERE :lanes IS NULL GROUP BY d.lane
    UNION ALL
    SELECT x.lane, x.discarded FROM jsonb_to_recordset(:lanes) AS x (lane integer, discarded bigint)
), fleet AS MATERIALIZED (
    SELECT DISTINCT ON (h.worker_id) h.* FROM perdure.worker_history h WHERE perdure.seen(h.xid, :cut::text::pg_snapshot)
    ORDER BY h.worker_id, h.state DESC, h.at DESC
)
SELECT q.name, p.paused_at, coalesce(p.paused_by, '') AS paused_by, l.lane, l.kind, l.labels, coalesce(d.pending, 0) AS pending,
    coalesce(d.scheduled, 0) AS scheduled, coalesce(d.retryable, 0) AS retryable, coalesce(d.running, 0) AS running,
    coalesce(g.discarded, 0) AS discarded, 0::bigint AS parked, coalesce(d.available, 0) AS available, d.oldest,
    extract(epoch FROM :at::timestamptz - d.oldest)::float8 AS oldest_s,
    (SELECT coalesce(array_agg(w.worker_id), '{}') FROM fleet w
    WHERE w.state = 'active' AND q.name = ANY (w.queues) AND l.kind = ANY (w.kinds) AND l.labels <@ w.labels) AS serving,
    (SELECT count(*) FROM fleet w WHERE w.state = 'active' AND q.name = ANY (w.queues)) AS on_queue
FROM perdure.queues q
LEFT JOIN perdure.lanes l ON l.queue = q.name
LEFT JOIN standings d ON d.lane = l.lane
LEFT JOIN letters g ON g.lane = l.lane
LEFT JOIN LATERAL (
    SELECT b.at AS paused_at, b.actor AS paused_by FROM perdure.job_events b
    WHERE b.queue = q.name AND b.event = 'queue_paused' AND perdure.seen(b.xid, :cut::text::pg_snapshot) ORDER BY b.at DESC LIMIT 1
) b ON true
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE v.event = 'queue_paused') - count(*) FILTER (WHERE v.event = 'queue_resumed') AS turned
    FROM perdure.job_events v
    WHERE v.queue = q.name AND v.event IN ('queue_paused', 'queue_resumed') AND NOT perdure.seen(v.xid, :cut::text::pg_snapshot)
) v
LEFT JOIN LATERAL (
    SELECT coalesce(b.paused_at, q.paused_at) AS paused_at, coalesce(b.paused_by, q.paused_by) AS paused_by
    WHERE (q.paused_at IS NOT NULL)::integer - v.turned = 1
) p ON true
WHERE perdure.seen(q.xid, :cut::text::pg_snapshot) AND (:name::text IS NULL OR q.name = :name)
ORDER BY q.name, l.kind, l.labels;

-- name: workers(key, cut, open_since, at)
-- The workers as they were, the newest first. Heartbeats are not kept, so that nobody's silence is known.
SELECT h.worker_id AS id, h.*, h.at AS heartbeat_at, 0.0::float8 AS silent_s, false AS suspect, 0 AS deaf, (
    SELECT count(*) FROM perdure.leases l WHERE l.worker_id = h.worker_id AND perdure.seen(l.claim_xid, :cut::text::pg_snapshot)
) + coalesce(r.running, 0) AS running
FROM (
    SELECT DISTINCT ON (w.worker_id) w.* FROM perdure.worker_history w WHERE perdure.seen(w.xid, :cut::text::pg_snapshot)
    ORDER BY w.worker_id, w.state DESC, w.at DESC
) h
LEFT JOIN (
    SELECT e.worker_id, count(*) AS running FROM perdure.job_executions e
    WHERE e.settled_at >= :open_since::timestamptz AND e.claimed_at <= :at::timestamptz
        AND perdure.seen(e.claim_xid, :cut::text::pg_snapshot) AND NOT perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
    GROUP BY e.worker_id
) r ON r.worker_id = h.worker_id
WHERE :key::text IS NULL OR h.worker_id::text = :key OR h.name = :key
ORDER BY h.started_at DESC, h.worker_id;

-- name: groups(priorities, ids, without, since, since_ms, until, until_ms, lanes, words, args, most, cut)
-- The dead letters of a cut by cause, the largest group first, each with its newest letter. A body is read only where it is asked for.
WITH fitting AS MATERIALIZED (
    SELECT d.fingerprint, d.lane, d.dead_at, d.job_id
    FROM perdure.letters_at(:cut::text::pg_snapshot) d
    JOIN perdure.lanes n ON n.lane = d.lane
    LEFT JOIN perdure.jobs j ON j.id = d.job_id AND (:priorities::smallint[] IS NOT NULL OR :args::jsonb IS NOT NULL OR :words::jsonb IS NOT NULL)
    CROSS JOIN LATERAL perdure.args_that_fit(j.args, :args::jsonb) a
    CROSS JOIN LATERAL perdure.words_that_fit(ARRAY[
        'key', j.unique_key, 'key', j.concurrency_key, 'fingerprint', d.fingerprint,
        'error', d.error ->> 'type', 'error', d.error ->> 'message', 'error', d.cause,
        'word', d.error ->> 'type', 'word', d.error ->> 'message', 'word', d.cause, 'word', n.kind
    ], d.attempt, :words::jsonb) f
    WHERE (:priorities::smallint[] IS NULL OR j.priority = ANY (:priorities))
        AND (:ids::uuid[] IS NULL OR d.job_id = ANY (:ids)) AND (:without::uuid[] IS NULL OR d.job_id <> ALL (:without))
        AND (:since::timestamptz IS NULL OR d.dead_at >= :since)
        AND (:since_ms::bigint IS NULL OR d.dead_at >= now() - :since_ms * interval '1 millisecond')
        AND (:until::timestamptz IS NULL OR d.dead_at <= :until)
        AND (:until_ms::bigint IS NULL OR d.dead_at <= now() - :until_ms * interval '1 millisecond')
        AND (:lanes::jsonb IS NULL OR d.lane = ANY (ARRAY(SELECT perdure.lanes_that_fit(:lanes))))
), largest AS MATERIALIZED (
    SELECT l.fingerprint, sum(l.letters)::bigint AS letters, array_agg(DISTINCT n.kind) AS kinds, array_agg(DISTINCT n.queue) AS queues,
        min(l.first_at) AS first_at, max(l.last_at) AS last_at
    FROM (
        SELECT f.fingerprint, f.lane, count(*) AS letters, min(f.dead_at) AS first_at, max(f.dead_at) AS last_at FROM fitting f
        GROUP BY f.fingerprint, f.lane
    ) l JOIN perdure.lanes n ON n.lane = l.lane
    GROUP BY l.fingerprint ORDER BY sum(l.letters) DESC, max(l.last_at) DESC LIMIT :most
), newest AS (
    SELECT DISTINCT ON (f.fingerprint) f.fingerprint, f.job_id
    FROM largest g JOIN fitting f ON f.fingerprint = g.fingerprint AND f.dead_at = g.last_at
    ORDER BY f.fingerprint, f.job_id DESC
)
SELECT g.*, w.job_id, z.cause, z.error::text AS error
FROM largest g
JOIN newest w ON w.fingerprint = g.fingerprint
JOIN LATERAL (
    SELECT e.cause, e.error FROM perdure.job_executions e
    WHERE e.job_id = w.job_id AND e.state = 'discarded' AND perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
    ORDER BY e.run DESC, e.settled_at DESC LIMIT 1
) z ON true
ORDER BY g.letters DESC, g.last_at DESC;

-- name: next_letters(before_at, before_id, span, cut)
-- The next dead letters of a cut below a place, whatever they are.
SELECT d.dead_at, d.job_id FROM perdure.letters_at(:cut::text::pg_snapshot) d
WHERE :before_at::timestamptz IS NULL OR (d.dead_at <= :before_at AND (d.dead_at, d.job_id) < (:before_at, :before_id::uuid))
ORDER BY d.dead_at DESC, d.job_id DESC LIMIT :span;

-- name: letters(priorities, ids, without, since, since_ms, until, until_ms, lanes, words, args, before_at, before_id, last_at, last_id, cut)
-- Those dead letters of a cut from one place down to another that match, the newest first.
SELECT d.job_id, n.kind, n.queue, d.dead_at, d.run, d.attempt, d.crashes, d.interruptions, d.outcome, d.fingerprint, d.cause,
    d.error::text AS error, coalesce(j.args::text, '{}') AS args
FROM perdure.letters_at(:cut::text::pg_snapshot) d
JOIN perdure.lanes n ON n.lane = d.lane
LEFT JOIN perdure.jobs j ON j.id = d.job_id
CROSS JOIN LATERAL perdure.args_that_fit(j.args, :args::jsonb) a
CROSS JOIN LATERAL perdure.words_that_fit(ARRAY[
    'key', j.unique_key, 'key', j.concurrency_key, 'fingerprint', d.fingerprint,
    'error', d.error ->> 'type', 'error', d.error ->> 'message', 'error', d.cause,
    'word', d.error ->> 'type', 'word', d.error ->> 'message', 'word', d.cause, 'word', n.kind
], d.attempt, :words::jsonb) f
WHERE (:before_at::timestamptz IS NULL OR (d.dead_at <= :before_at AND (d.dead_at, d.job_id) < (:before_at, :before_id::uuid)))
    AND d.dead_at >= :last_at::timestamptz AND (d.dead_at, d.job_id) >= (:last_at, :last_id::uuid)
    AND (:priorities::smallint[] IS NULL OR j.priority = ANY (:priorities))
    AND (:ids::uuid[] IS NULL OR d.job_id = ANY (:ids)) AND (:without::uuid[] IS NULL OR d.job_id <> ALL (:without))
    AND (:since::timestamptz IS NULL OR d.dead_at >= :since)
    AND (:since_ms::bigint IS NULL OR d.dead_at >= now() - :since_ms * interval '1 millisecond')
    AND (:until::timestamptz IS NULL OR d.dead_at <= :until)
    AND (:until_ms::bigint IS NULL OR d.dead_at <= now() - :until_ms * interval '1 millisecond')
    AND (:lanes::jsonb IS NULL OR d.lane = ANY (ARRAY(SELECT perdure.lanes_that_fit(:lanes))))
ORDER BY d.dead_at DESC, d.job_id DESC;

-- name: last_minute(cut, at)
-- How attempts had ended during the minute before.
SELECT e.outcome, count(*) AS attempts FROM perdure.job_executions e
WHERE e.settled_at > :at::timestamptz - interval '1 minute' AND e.settled_at <= :at AND e.token IS NOT NULL
    AND perdure.seen(e.settle_xid, :cut::text::pg_snapshot)
GROUP BY e.outcome ORDER BY e.outcome;
