-- Reading for faces: lists by filter, one job in full, queues, workers, dead letters, the state of the whole.

-- name: bounded(budget_ms)
-- Let the rest of the transaction read only, plan with the values at hand, and end by itself when the budget is used up.
SELECT set_config('statement_timeout', :budget_ms, true), set_config('transaction_read_only', 'on', true),
    set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: by_index()
-- For the rest of the transaction look rows up one by one, whatever the planner believes of tables that grow and shrink by the
-- second.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true);

-- name: next_bodies(before, floor, span)
-- The ids of the next jobs below `before`, whatever their state.
SELECT b.id FROM perdure.jobs b WHERE b.id < :before::uuid AND b.id >= :floor::uuid ORDER BY b.id DESC LIMIT :span;

-- name: next_fitting(before, floor, span, most, priorities, since, since_ms, until, until_ms, lanes, contained, args, keys, keys_folded)
-- Of the next `span` jobs below `before` those whose body fits, at most `most`; where they are fewer, with `past` the last one of the span,
-- none when it is not full. Arguments that fit contain one of `contained`, where that is known.
WITH found AS MATERIALIZED (
    SELECT j.id FROM (
        SELECT b.* FROM perdure.jobs b WHERE b.id < :before::uuid AND b.id >= :floor::uuid ORDER BY b.id DESC LIMIT :span::integer
    ) j CROSS JOIN LATERAL perdure.args_that_fit(j.args, :args::jsonb) a
    WHERE (:contained::jsonb[] IS NULL OR j.args @> ANY (:contained))
        AND (:priorities::smallint[] IS NULL OR j.priority = ANY (:priorities))
        AND (:since::timestamptz IS NULL OR j.enqueued_at >= :since)
        AND (:since_ms::bigint IS NULL OR j.enqueued_at >= now() - :since_ms * interval '1 millisecond')
        AND (:until::timestamptz IS NULL OR j.enqueued_at <= :until)
        AND (:until_ms::bigint IS NULL OR j.enqueued_at <= now() - :until_ms * interval '1 millisecond')
        AND (:lanes::jsonb IS NULL OR j.lane = ANY (ARRAY(SELECT perdure.lanes_that_fit(:lanes))))
        AND (:keys::text[] IS NULL OR perdure.text_fits(j.unique_key, :keys_folded::boolean, :keys)
            OR perdure.text_fits(j.concurrency_key, :keys_folded, :keys))
    ORDER BY j.id DESC LIMIT :most
)
SELECT f.id, false AS past FROM found f
UNION ALL
(SELECT b.id, true FROM perdure.jobs b
WHERE (SELECT count(*) FROM found) < :most AND b.id < :before AND b.id >= :floor ORDER BY b.id DESC OFFSET :span - 1 LIMIT 1);

-- name: next_tried(before, floor, span, most, since, since_ms, errors, errors_folded, fingerprints, fingerprints_folded)
-- Of the next `span` attempts below `before`, in the order of their jobs, that left a job in another state than completed, those whose error
-- fits and that were enqueued since then, at most `most`; `past` as above. A job may come twice.
WITH bound AS MATERIALIZED (
    SELECT c.id FROM (
        (SELECT e.job_id AS id FROM perdure.job_executions e
        WHERE e.state IN ('cancelled', 'discarded') AND e.job_id < :before::uuid AND e.job_id >= :floor::uuid
        ORDER BY 1 DESC LIMIT :span::integer)
        UNION ALL (SELECT e.job_id FROM perdure.job_executions e
        WHERE e.state = 'retryable' AND e.job_id < :before AND e.job_id >= :floor ORDER BY 1 DESC LIMIT :span)
        UNION ALL (SELECT e.job_id FROM perdure.job_executions e
        WHERE e.state IN ('pending', 'scheduled', 'available') AND e.job_id < :before AND e.job_id >= :floor ORDER BY 1 DESC LIMIT :span)
    ) c ORDER BY c.id DESC OFFSET :span - 1 LIMIT 1
), begin AS MATERIALIZED (
    SELECT coalesce((SELECT b.id FROM bound b), :floor) AS id
)
(SELECT t.job_id AS id, false AS past FROM (
    SELECT e.job_id, e.error, e.cause, e.outcome, e.settled_at FROM perdure.job_executions e
    WHERE e.state IN ('cancelled', 'discarded') AND e.job_id < :before AND e.job_id >= (SELECT g.id FROM begin g)
    UNION ALL
    SELECT e.job_id, e.error, e.cause, e.outcome, e.settled_at FROM perdure.job_executions e
    WHERE e.state = 'retryable' AND e.job_id < :before AND e.job_id >= (SELECT g.id FROM begin g)
    UNION ALL
    SELECT e.job_id, e.error, e.cause, e.outcome, e.settled_at FROM perdure.job_executions e
    WHERE e.state IN ('pending', 'scheduled', 'available') AND e.job_id < :before AND e.job_id >= (SELECT g.id FROM begin g)
) t
WHERE (:errors::text[] IS NULL OR perdure.text_fits(t.error ->> 'type', :errors_folded::boolean, :errors)
        OR perdure.text_fits(t.error ->> 'message', :errors_folded, :errors) OR perdure.text_fits(t.cause, :errors_folded, :errors))
    AND (:fingerprints::text[] IS NULL OR perdure.text_fits(
        coalesce(nullif(t.error ->> 'fingerprint', ''), t.outcome::text), :fingerprints_folded::boolean, :fingerprints))
    AND ((:since::timestamptz IS NULL AND :since_ms::bigint IS NULL) OR (
        t.settled_at >= coalesce(:since, now() - :since_ms * interval '1 millisecond') - interval '5 minutes'
        AND EXISTS (SELECT FROM perdure.jobs j
            WHERE j.id = t.job_id AND j.enqueued_at >= coalesce(:since, now() - :since_ms * interval '1 millisecond'))))
ORDER BY t.job_id DESC LIMIT :most)
UNION ALL SELECT b.id, true FROM bound b;

-- name: tried_since(before, most, since, since_ms, few, errors, errors_folded, fingerprints, fingerprints_folded)
-- The jobs below `before` that were enqueued since a moment and that an attempt left in another state than completed with an error that fits,
-- at most `most`: all that there are, found by when such attempts ended. Where more than `few` did since then, `before` itself with `past`
-- and nothing else: the walk above finds a page sooner. No attempt ends before its job came, unless the clock of the server was set back: five
-- minutes are allowed for that.
WITH bound AS MATERIALIZED (
    SELECT coalesce(:since::timestamptz, now() - :since_ms::bigint * interval '1 millisecond') AS since
), many AS MATERIALIZED (
    SELECT count(*) > :few::integer AS so FROM (
        SELECT FROM perdure.job_executions e
        WHERE e.state <> 'completed' AND e.settled_at >= (SELECT b.since FROM bound b) - interval '5 minutes' LIMIT :few + 1
    ) c
)
(SELECT DISTINCT t.job_id AS id, false AS past FROM perdure.job_executions t
WHERE NOT (SELECT m.so FROM many m)
    AND t.state <> 'completed' AND t.settled_at >= (SELECT b.since FROM bound b) - interval '5 minutes' AND t.job_id < :before::uuid
    AND (:errors::text[] IS NULL OR perdure.text_fits(t.error ->> 'type', :errors_folded::boolean, :errors)
        OR perdure.text_fits(t.error ->> 'message', :errors_folded, :errors) OR perdure.text_fits(t.cause, :errors_folded, :errors))
    AND (:fingerprints::text[] IS NULL OR perdure.text_fits(
        coalesce(nullif(t.error ->> 'fingerprint', ''), t.outcome::text), :fingerprints_folded::boolean, :fingerprints))
    AND EXISTS (SELECT FROM perdure.jobs j WHERE j.id = t.job_id AND j.enqueued_at >= (SELECT b.since FROM bound b))
ORDER BY 1 DESC LIMIT :most)
UNION ALL SELECT :before, true FROM many m WHERE m.so;

-- name: next_of_states(states, before, floor, span)
-- The ids of the next jobs below `before` that are or have been in one of these states. A job may come twice.
SELECT c.id FROM (
    (SELECT l.job_id AS id FROM perdure.leases l
    WHERE 'running' = ANY (:states::perdure.job_state[]) AND l.job_id < :before::uuid AND l.job_id >= :floor::uuid
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT a.job_id FROM perdure.available_jobs a
    WHERE 'available' = ANY (:states) AND a.job_id < :before AND a.job_id >= :floor ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT p.job_id FROM perdure.parked_jobs p
    WHERE 'available' = ANY (:states) AND p.job_id < :before AND p.job_id >= :floor ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT s.job_id FROM perdure.scheduled_jobs s
    WHERE CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END::perdure.job_state = ANY (:states)
        AND ('retryable' = ANY (:states) OR 'scheduled' = ANY (:states)) AND s.job_id < :before AND s.job_id >= :floor
    ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT b.job_id FROM perdure.blocked_jobs b
    WHERE 'pending' = ANY (:states) AND b.job_id < :before AND b.job_id >= :floor ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT e.job_id FROM perdure.job_executions e
    WHERE e.state IN ('cancelled', 'discarded') AND ('cancelled' = ANY (:states) OR 'discarded' = ANY (:states))
        AND e.job_id < :before AND e.job_id >= :floor ORDER BY 1 DESC LIMIT :span)
    UNION ALL (SELECT e.job_id FROM perdure.job_executions e
    WHERE e.state = 'completed' AND 'completed' = ANY (:states) AND e.job_id < :before AND e.job_id >= :floor
    ORDER BY 1 DESC LIMIT :span)
) c ORDER BY c.id DESC LIMIT :span;

-- name: matching(among, states, priorities, ids, without, since, since_ms, until, until_ms, lanes, words, args, contained)
-- Those of some jobs that match a filter, the newest first.
SELECT j.id, s.state, s.run, s.attempt, s.since, s.run_at, s.worker_id, w.name AS worker, n.kind, n.queue, n.labels, j.priority,
    j.max_attempts, j.enqueued_at, j.args::text AS args, j.unique_key, j.concurrency_key, x.error::text AS error, x.cause, x.outcome
FROM unnest(:among::uuid[]) AS c (id)
JOIN perdure.jobs j ON j.id = c.id
JOIN perdure.lanes n ON n.lane = j.lane
CROSS JOIN LATERAL perdure.args_that_fit(j.args, :args::jsonb) a
CROSS JOIN LATERAL perdure.standing(c.id) s
LEFT JOIN perdure.workers w ON w.id = s.worker_id
LEFT JOIN LATERAL (
    SELECT e.error, e.cause, e.outcome FROM perdure.job_executions e WHERE e.job_id = c.id ORDER BY e.settled_at DESC LIMIT 1
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

-- name: job(job_id)
-- One job: its body, where it stands, its lease and what it last said of its progress.
SELECT j.id, s.state, s.run, s.attempt, s.since, s.run_at, s.worker_id, w.name AS worker, n.kind, n.queue, n.labels, j.priority,
    j.max_attempts, j.enqueued_at, j.args::text AS args, j.unique_key, j.concurrency_key, x.error::text AS error, x.cause, x.outcome,
    x.result::text AS result, j.depth, j.timeout_ms, j.crash_limit, s.crashes, s.interruptions, s.suspicion, j.concurrency_limit,
    j.metadata::text AS metadata, l.token, l.process, l.isolated, l.claimed_at, nullif(l.deadline, 'infinity') AS deadline,
    c.requested_at, c.reason AS request_reason, p.fraction, p.note, p.updated_at, p.token AS progress_token, d.dead_at,
    d.outcome AS dead_outcome, d.fingerprint, d.cause AS dead_cause, d.error::text AS dead_error, d.run AS dead_run,
    d.attempt AS dead_attempt, d.crashes AS dead_crashes, d.interruptions AS dead_interruptions
FROM perdure.jobs j
JOIN perdure.lanes n ON n.lane = j.lane
CROSS JOIN LATERAL perdure.standing(j.id) s
LEFT JOIN perdure.workers w ON w.id = s.worker_id
LEFT JOIN perdure.leases l ON l.job_id = j.id
LEFT JOIN perdure.cancel_requests c ON c.job_id = j.id AND c.token = l.token
LEFT JOIN perdure.job_progress p ON p.job_id = j.id
LEFT JOIN perdure.dead_letter_queue d ON d.job_id = j.id
LEFT JOIN LATERAL (
    SELECT e.error, e.cause, e.outcome, e.result FROM perdure.job_executions e WHERE e.job_id = j.id ORDER BY e.settled_at DESC LIMIT 1
) x ON true
WHERE j.id = :job_id;

-- name: attempts(job_id, most)
-- The history of one job, the newest first.
SELECT e.*, e.error::text AS error_text, e.result::text AS result_text, w.name AS worker
FROM perdure.job_executions e LEFT JOIN perdure.workers w ON w.id = e.worker_id
WHERE e.job_id = :job_id ORDER BY e.settled_at DESC, e.run DESC, e.attempt DESC LIMIT :most;

-- name: edges(job_id, most)
-- The parents and the children of one job, with where they stand.
SELECT d.is_parent, d.other_id, d.on_failure, d.state AS edge, s.state, n.kind
FROM (
    (SELECT true AS is_parent, p.parent_id AS other_id, p.on_failure, p.state FROM perdure.job_dependencies p
    WHERE p.child_id = :job_id ORDER BY p.parent_id LIMIT :most)
    UNION ALL
    (SELECT false, c.child_id, c.on_failure, c.state FROM perdure.job_dependencies c
    WHERE c.parent_id = :job_id ORDER BY c.child_id LIMIT :most)
) d
LEFT JOIN perdure.jobs j ON j.id = d.other_id
LEFT JOIN perdure.lanes n ON n.lane = j.lane
LEFT JOIN LATERAL perdure.standing(d.other_id) s ON true
ORDER BY d.is_parent DESC, d.other_id;

-- name: events(job_id, most)
-- What was done to one job, the newest first.
SELECT e.at, e.event, e.job_id, e.worker_id, e.queue, e.actor, e.reason, e.detail::text AS detail
FROM perdure.job_events e WHERE e.job_id = :job_id ORDER BY e.at DESC LIMIT :most;

-- name: place(job_id, most)
-- Where an available job waits, and how many of its lane start before it; suspects are counted among suspects.
SELECT s.lane, s.band, s.rank, j.priority, s.parked_for, (
    SELECT count(*) FROM (
        SELECT FROM (VALUES (0), (1), (2), (3)) AS b (band)
        CROSS JOIN LATERAL (
            SELECT FROM perdure.available_jobs a
            WHERE a.lane = s.lane AND a.band = b.band AND (a.rank, a.job_id) < (s.rank, s.job_id) LIMIT :most::integer + 1
        ) f
        WHERE (b.band = 3) = (s.band = 3) LIMIT :most::integer + 1
    ) ahead
) AS ahead
FROM (
    SELECT a.job_id, a.lane, a.band, a.rank, NULL::text AS parked_for FROM perdure.available_jobs a WHERE a.job_id = :job_id
    UNION ALL
    SELECT p.job_id, p.lane, p.band, p.rank, p.concurrency_key FROM perdure.parked_jobs p WHERE p.job_id = :job_id
) s
JOIN perdure.jobs j ON j.id = s.job_id;

-- name: facts(job_id, suspect_ms)
-- What decides whether one job may run now, except its parents and its place.
SELECT now() AS now, j.id, s.state, s.run_at, s.band, n.queue, n.kind, n.labels, coalesce(q.paused_at, r.begun_at) AS paused_at,
    coalesce(q.paused_by, 'restore ' || r.id) AS paused_by, w.name AS worker, l.claimed_at, c.requested_at, j.concurrency_key, j.concurrency_limit, s.parked_for,
    ARRAY(SELECT h.job_id FROM perdure.leases h WHERE h.concurrency_key = j.concurrency_key ORDER BY h.slot LIMIT 20) AS holders,
    v.on_queue, v.on_kind, v.serving, v.suspect
FROM perdure.jobs j
JOIN perdure.lanes n ON n.lane = j.lane
JOIN perdure.queues q ON q.name = n.queue
CROSS JOIN LATERAL perdure.standing(j.id) s
LEFT JOIN perdure.leases l ON l.job_id = j.id
LEFT JOIN perdure.workers w ON w.id = l.worker_id
LEFT JOIN perdure.cancel_requests c ON c.job_id = j.id AND c.token = l.token
LEFT JOIN perdure.restores r ON r.phase IN ('holding', 'draining', 'fencing', 'writing', 'checking', 'broken') AND r.jobs IS NULL
    AND (r.lanes IS NULL OR j.lane = ANY (r.lanes))
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE n.queue = ANY (a.queues)) AS on_queue,
        count(*) FILTER (WHERE n.queue = ANY (a.queues) AND n.kind = ANY (a.kinds)) AS on_kind,
        count(*) FILTER (WHERE n.queue = ANY (a.queues) AND n.kind = ANY (a.kinds) AND n.labels <@ a.labels) AS serving,
        count(*) FILTER (WHERE n.queue = ANY (a.queues) AND n.kind = ANY (a.kinds) AND n.labels <@ a.labels
            AND a.heartbeat_at < now() - :suspect_ms::bigint * interval '1 millisecond') AS suspect
    FROM perdure.workers a WHERE a.state = 'active'
) v
WHERE j.id = :job_id;

-- name: result_of(job_id)
-- Where a job stands and its result or error: for those who wait for it.
SELECT s.state, x.result::text AS result, x.error::text AS error, x.cause
FROM perdure.standing(:job_id) s
LEFT JOIN LATERAL (
    SELECT e.result, e.error, e.cause FROM perdure.job_executions e
    WHERE e.job_id = :job_id AND e.run = s.run AND e.state = s.state AND s.state IN ('completed', 'cancelled', 'discarded')
    ORDER BY e.settled_at DESC LIMIT 1
) x ON true;

-- name: counts(most)
-- How many jobs are in each state, each counted to `most` and one more; completed ones are what all bodies leave. A job with a dead letter
-- is discarded; only of the others that ended badly is it looked up whether they still stand so. A state may come twice.
SELECT 'pending' AS state, count(*) AS jobs FROM (SELECT FROM perdure.blocked_jobs LIMIT :most::integer + 1) c
UNION ALL SELECT 'scheduled', count(*) FROM (SELECT FROM perdure.scheduled_jobs s WHERE NOT s.retry LIMIT :most + 1) c
UNION ALL SELECT 'available', count(*) FROM (
    SELECT FROM perdure.available_jobs UNION ALL SELECT FROM perdure.parked_jobs LIMIT :most + 1) c
UNION ALL SELECT 'running', count(*) FROM (SELECT FROM perdure.leases LIMIT :most + 1) c
UNION ALL SELECT 'retryable', count(*) FROM (SELECT FROM perdure.scheduled_jobs s WHERE s.retry LIMIT :most + 1) c
UNION ALL SELECT 'discarded', count(*) FROM (SELECT FROM perdure.dead_letter_queue LIMIT :most + 1) c
UNION ALL SELECT n.state::text, count(*) FROM (
    SELECT DISTINCT e.job_id FROM perdure.job_executions e
    WHERE e.state IN ('cancelled', 'discarded') AND NOT EXISTS (SELECT FROM perdure.dead_letter_queue d WHERE d.job_id = e.job_id)
    LIMIT :most + 1
) x
CROSS JOIN LATERAL (
    SELECT e.state FROM perdure.job_executions e WHERE e.job_id = x.job_id AND e.state IN ('completed', 'cancelled', 'discarded')
    ORDER BY e.run DESC, e.settled_at DESC LIMIT 1
) n
WHERE n.state <> 'completed' AND NOT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = x.job_id)
    AND NOT EXISTS (SELECT FROM perdure.available_jobs a WHERE a.job_id = x.job_id)
    AND NOT EXISTS (SELECT FROM perdure.parked_jobs p WHERE p.job_id = x.job_id)
    AND NOT EXISTS (SELECT FROM perdure.scheduled_jobs s WHERE s.job_id = x.job_id)
    AND NOT EXISTS (SELECT FROM perdure.blocked_jobs b WHERE b.job_id = x.job_id)
GROUP BY n.state
UNION ALL SELECT 'bodies', count(*) FROM (SELECT FROM perdure.jobs LIMIT :most + 1) c;

-- name: estimates()
-- What the planner believes about the sizes of the tables; a table never analysed counts nothing.
SELECT coalesce(parent.relname, c.relname) AS name, sum(greatest(c.reltuples, 0))::bigint AS estimate
FROM pg_class c
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
LEFT JOIN pg_class parent ON parent.oid = i.inhparent
WHERE c.relkind = 'r' AND c.relnamespace = (SELECT b.relnamespace FROM pg_class b WHERE b.oid = to_regclass('perdure.jobs'))
GROUP BY 1;

-- name: queues(name, most, lanes)
-- One row for each lane of each queue: its depths, available ones counted to `most` and one more, the oldest available job
-- and the workers that serve it. The oldest is found at the heads of the bands, which are in order of waiting. With `lanes` (from
-- `levels`) nothing is counted.
SELECT q.name, q.paused_at, coalesce(q.paused_by, '') AS paused_by, l.lane, l.kind, l.labels, coalesce(d.pending, 0) AS pending,
    coalesce(d.scheduled, 0) AS scheduled, coalesce(d.retryable, 0) AS retryable, coalesce(d.running, 0) AS running,
    coalesce(d.discarded, 0) AS discarded, coalesce(d.parked, 0) AS parked, coalesce(d.available, a.available) AS available, h.oldest,
    extract(epoch FROM now() - h.oldest)::float8 AS oldest_s,
    (SELECT coalesce(array_agg(w.id), '{}') FROM perdure.workers w
    WHERE w.state = 'active' AND q.name = ANY (w.queues) AND l.kind = ANY (w.kinds) AND l.labels <@ w.labels) AS serving,
    (SELECT count(*) FROM perdure.workers w WHERE w.state = 'active' AND q.name = ANY (w.queues)) AS on_queue
FROM perdure.queues q
LEFT JOIN perdure.lanes l ON l.queue = q.name
LEFT JOIN (
    SELECT x.lane, count(*) FILTER (WHERE x.state = 'pending') AS pending, count(*) FILTER (WHERE x.state = 'scheduled') AS scheduled,
        count(*) FILTER (WHERE x.state = 'retryable') AS retryable, count(*) FILTER (WHERE x.state = 'running') AS running,
        count(*) FILTER (WHERE x.state = 'discarded') AS discarded, count(*) FILTER (WHERE x.state = 'parked') AS parked,
        NULL::bigint AS available, min(x.since) FILTER (WHERE x.state = 'parked') AS parked_at
    FROM (
        SELECT b.lane, 'pending' AS state, b.since FROM perdure.blocked_jobs b
        UNION ALL SELECT s.lane, CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END, s.since FROM perdure.scheduled_jobs s
        UNION ALL SELECT r.lane, 'running', r.claimed_at FROM perdure.leases r
        UNION ALL SELECT p.lane, 'parked', p.available_at FROM perdure.parked_jobs p
        UNION ALL SELECT g.lane, 'discarded', g.dead_at FROM perdure.dead_letter_queue g
    ) x WHERE :lanes::jsonb IS NULL GROUP BY x.lane
    UNION ALL
    SELECT x.lane, x.pending, x.scheduled, x.retryable, x.running, x.discarded, x.parked, x.available, NULL
    FROM jsonb_to_recordset(:lanes) AS x (lane integer, pending bigint, scheduled bigint, retryable bigint, running bigint,
        discarded bigint, parked bigint, available bigint)
) d ON d.lane = l.lane
CROSS JOIN LATERAL (
    SELECT count(*) AS available FROM (SELECT FROM perdure.available_jobs v WHERE v.lane = l.lane AND :lanes IS NULL LIMIT :most::integer + 1) c
) a
CROSS JOIN LATERAL (
    SELECT least(d.parked_at, (
        SELECT min(f.available_at) FROM (VALUES (0), (1), (2), (3)) AS b (band)
        CROSS JOIN LATERAL (
            SELECT v.available_at FROM perdure.available_jobs v WHERE v.lane = l.lane AND v.band = b.band
            ORDER BY v.rank, v.job_id LIMIT 1
        ) f
    )) AS oldest
) h
WHERE :name::text IS NULL OR q.name = :name
ORDER BY q.name, l.kind, l.labels;

-- name: workers(alive_only, key, suspect_ms)
-- The workers, the newest first, by the database's clock; `key` is an id or a name.
SELECT w.*, (SELECT count(*) FROM perdure.leases l WHERE l.worker_id = w.id) AS running,
    extract(epoch FROM now() - w.heartbeat_at)::float8 AS silent_s,
    w.state IN ('active', 'draining') AND w.heartbeat_at < now() - :suspect_ms::bigint * interval '1 millisecond' AS suspect
FROM perdure.workers w
WHERE (NOT :alive_only::boolean OR w.state IN ('active', 'draining')) AND (:key::text IS NULL OR w.id::text = :key OR w.name = :key)
ORDER BY w.started_at DESC, w.id;

-- name: groups(priorities, ids, without, since, since_ms, until, until_ms, lanes, words, args, most)
-- The dead letters by cause, the largest group first, each with its newest letter. A body is read only where it is asked for.
WITH fitting AS MATERIALIZED (
    SELECT d.fingerprint, d.lane, d.dead_at, d.job_id
    FROM perdure.dead_letter_queue d
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
JOIN perdure.dead_letter_queue z ON z.job_id = w.job_id
ORDER BY g.letters DESC, g.last_at DESC;

-- name: next_letters(before_at, before_id, span)
-- The next dead letters below a place, whatever they are.
SELECT d.dead_at, d.job_id FROM perdure.dead_letter_queue d
WHERE :before_at::timestamptz IS NULL OR (d.dead_at <= :before_at AND (d.dead_at, d.job_id) < (:before_at, :before_id::uuid))
ORDER BY d.dead_at DESC, d.job_id DESC LIMIT :span;

-- name: letters(priorities, ids, without, since, since_ms, until, until_ms, lanes, words, args, before_at, before_id, last_at, last_id)
-- Those dead letters from one place down to another that match, the newest first.
SELECT d.job_id, n.kind, n.queue, d.dead_at, d.run, d.attempt, d.crashes, d.interruptions, d.outcome, d.fingerprint, d.cause,
    d.error::text AS error, coalesce(j.args::text, '{}') AS args
FROM perdure.dead_letter_queue d
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

-- name: last_minute()
-- How attempts ended during the last minute; of many, during the last whole minute that the leader has counted.
WITH lately AS MATERIALIZED (
    SELECT c.* FROM (
        SELECT r.*, max(r.at) OVER () AS newest FROM perdure.counted_since(now() - interval '70 seconds') r
    ) c WHERE c.at > c.newest - interval '1 minute'
)
SELECT l.what::perdure.outcome AS outcome, sum(l.jobs)::bigint AS attempts FROM lately l WHERE l.what <> 'enqueued' GROUP BY 1
UNION ALL
SELECT e.outcome, count(*) FROM perdure.job_executions e
WHERE e.settled_at > now() - interval '1 minute' AND e.token IS NOT NULL AND NOT EXISTS (SELECT FROM lately) GROUP BY e.outcome
ORDER BY 1;

-- name: vitals(suspect_ms)
-- The workers, the leader of the duties, the oldest available job and the paused queues.
SELECT now() AS at, w.active, w.draining, w.suspect, w.deaf, o.oldest_s, l.holder, l.term, l.elected_at, l.expires_at,
    l.expires_at > now() AS leads, h.name AS leader, perdure.halted_by() AS halted, ARRAY(SELECT q.name FROM perdure.queues q WHERE q.paused_at IS NOT NULL ORDER BY 1) AS paused
FROM (
    SELECT count(*) FILTER (WHERE x.state = 'active') AS active, count(*) FILTER (WHERE x.state = 'draining') AS draining,
        count(*) FILTER (WHERE x.heartbeat_at < now() - :suspect_ms::bigint * interval '1 millisecond') AS suspect,
        count(*) FILTER (WHERE x.deaf > 0) AS deaf
    FROM perdure.workers x WHERE x.state IN ('active', 'draining')
) w
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM now() - least(min(f.available_at), (SELECT min(p.available_at) FROM perdure.parked_jobs p)))::float8 AS oldest_s
    FROM perdure.lanes n CROSS JOIN (VALUES (0), (1), (2), (3)) AS b (band)
    CROSS JOIN LATERAL (
        SELECT v.available_at FROM perdure.available_jobs v WHERE v.lane = n.lane AND v.band = b.band ORDER BY v.rank, v.job_id LIMIT 1
    ) f
) o
LEFT JOIN perdure.leaders l ON l.name = 'duties'
LEFT JOIN perdure.workers h ON h.id = l.holder;

-- name: unserved(most)
-- What waits in a queue that is not paused and that no active worker may take, the largest part first; jobs are counted to `most`.
SELECT n.queue, n.kind, n.labels, v.on_queue, v.on_kind, c.jobs
FROM perdure.lanes n
JOIN perdure.queues q ON q.name = n.queue AND q.paused_at IS NULL
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE n.queue = ANY (a.queues)) AS on_queue,
        count(*) FILTER (WHERE n.queue = ANY (a.queues) AND n.kind = ANY (a.kinds)) AS on_kind,
        count(*) FILTER (WHERE n.queue = ANY (a.queues) AND n.kind = ANY (a.kinds) AND n.labels <@ a.labels) AS serving
    FROM perdure.workers a WHERE a.state = 'active'
) v
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (SELECT FROM perdure.available_jobs j WHERE j.lane = n.lane LIMIT :most::integer) j
) c
WHERE v.serving = 0 AND c.jobs > 0
ORDER BY c.jobs DESC, n.queue, n.kind LIMIT 20;

-- name: dead_letters(most)
-- How many dead letters wait, counted to `most` and one more.
SELECT count(*) AS letters FROM (SELECT FROM perdure.dead_letter_queue LIMIT :most::integer + 1) c;

-- name: oldest_transaction()
-- How long the oldest open transaction of this database has been open: it holds dead rows and stale snapshots back.
SELECT extract(epoch FROM max(clock_timestamp() - a.xact_start))::float8 AS age_s FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid();
