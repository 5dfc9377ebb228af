-- The parts of a snapshot: each table with its columns and the query that gives what is saved of it. With `base` only what was written
-- since that cut, of those tables whose departed rows leave a trace elsewhere; others are saved whole each time. What is bound to the
-- moment is left out: leaders, heartbeats, requests to cancel and reports of those who run. The version of a row may carry the number of
-- a subtransaction, of which a cut does not know whether its transaction was over: whatever is not older than the oldest transaction
-- open at the cut is saved once more. After a restore all versions are younger than a base of before.
CREATE OR REPLACE FUNCTION perdure.saved_parts(era integer, base pg_snapshot, base_at timestamptz) RETURNS TABLE (
    name text, columns text[], query text, estimate bigint
) LANGUAGE sql STABLE AS $$
    SELECT c.relname::text, a.names, format('SELECT %s FROM perdure.%I t WHERE %s', a.saved, c.relname, CASE
        WHEN base IS NULL THEN 'true'
        WHEN c.relname IN ('jobs', 'job_events', 'worker_history') THEN format('NOT perdure.seen(t.xid, %L)', base)
        WHEN c.relname = 'job_executions' THEN format('NOT perdure.seen(t.settle_xid, %L)', base)
        WHEN c.relname = 'moments' THEN format('t.at > %L', base_at)
        WHEN c.relname IN ('available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases', 'dead_letter_queue',
            'job_dependencies', 'unique_keys') THEN format('perdure.in_order(perdure.written_by(t.xmin)) >= %s', perdure.in_order(pg_snapshot_xmin(base)))
        ELSE 'true' END),
        (SELECT sum(greatest(p.reltuples, 0))::bigint FROM pg_class p WHERE p.oid = c.oid OR p.oid IN (
            SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid))
    FROM pg_class c
    CROSS JOIN LATERAL (
        SELECT array_agg(f.attname::text ORDER BY f.attnum) AS names, string_agg(CASE
            WHEN f.atttypid = 'xid8'::regtype THEN format('perdure.aged(t.%I, %s)', f.attname, era)
            WHEN f.atttypid = 'pg_snapshot'::regtype THEN format('perdure.aged_cut(t.%I, %s)', f.attname, era)
            WHEN c.relname = 'job_events' AND f.attname = 'detail' THEN format('perdure.aged_detail(t.%I, %s)', f.attname, era)
            ELSE format('t.%I', f.attname) END, ', ' ORDER BY f.attnum) AS saved
        FROM pg_attribute f WHERE f.attrelid = c.oid AND f.attnum > 0 AND NOT f.attisdropped AND f.attgenerated = ''
    ) a
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND c.relnamespace = (SELECT j.relnamespace FROM pg_class j WHERE j.oid = 'perdure.jobs'::regclass)
        AND c.relname NOT IN ('migrations', 'installation', 'leaders', 'cancel_requests', 'job_progress')
    -- Tables that refer to others come after them.
    ORDER BY EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'), c.relname
$$;

-- All jobs that had not ended at a cut, and those that had ended cancelled or discarded. Most rows decide by themselves: an attempt
-- that began before the cut and ended after it ran then. Only the others are looked at one by one.
CREATE OR REPLACE FUNCTION perdure.standings_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, lane integer, state perdure.job_state, since timestamptz
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH moved AS MATERIALIZED (
        SELECT e.job_id, e.lane, e.claimed_at, e.available_at, perdure.seen(e.claim_xid, cut) AS ran, perdure.seen(e.available_xid, cut) AS ready
        FROM perdure.job_executions e
        WHERE e.settled_at >= open_since AND e.job_id <= newest AND NOT perdure.seen(e.settle_xid, cut)
        UNION ALL
        SELECT l.job_id, l.lane, l.claimed_at, l.available_at, perdure.seen(l.claim_xid, cut), perdure.seen(l.available_xid, cut)
        FROM perdure.leases l WHERE l.job_id <= newest
        UNION ALL
        SELECT a.job_id, a.lane, NULL, a.available_at, false, perdure.seen(a.xid, cut) FROM perdure.available_jobs a WHERE a.job_id <= newest
        UNION ALL
        SELECT p.job_id, p.lane, NULL, p.available_at, false, perdure.seen(p.xid, cut) FROM perdure.parked_jobs p WHERE p.job_id <= newest
    ), others AS (
        SELECT m.job_id FROM moved m WHERE m.ran IS NOT TRUE AND m.ready IS NOT TRUE
        UNION
        SELECT s.job_id FROM perdure.scheduled_jobs s WHERE s.job_id <= newest
        UNION
        SELECT b.job_id FROM perdure.blocked_jobs b WHERE b.job_id <= newest
        UNION
        SELECT e.job_id FROM perdure.job_executions e
        WHERE e.state IN ('cancelled', 'discarded') AND e.job_id <= newest AND perdure.seen(e.settle_xid, cut)
        EXCEPT
        SELECT m.job_id FROM moved m WHERE m.ran OR m.ready
    )
    SELECT m.job_id, m.lane, CASE WHEN m.ran THEN 'running' ELSE 'available' END::perdure.job_state,
        CASE WHEN m.ran THEN m.claimed_at ELSE m.available_at END
    FROM moved m WHERE m.ran OR m.ready
    UNION ALL
    SELECT o.job_id, j.lane, s.state, s.since
    FROM others o
    JOIN perdure.jobs j ON j.id = o.job_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL perdure.standing_at(o.job_id, cut) s
    WHERE s.state <> 'completed'
$$;

-- What was available at a cut, at the place that its time gives it; what was parked then is available, and parked again when it is looked at.
CREATE OR REPLACE FUNCTION perdure.available_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, rank bigint, available_at timestamptz, xid xid8, lane integer, band smallint, run smallint, attempt smallint,
    crashes smallint, interruptions smallint, gated boolean
) LANGUAGE sql STABLE ROWS 100000 AS $$
    SELECT p.job_id, perdure.rank_of(s.since, j.priority), s.since,
        coalesce(n.xid, perdure.waited_since(p.job_id, s.run, cut)), j.lane, perdure.band_of(j.priority, 0::smallint), s.run, s.attempt,
        s.crashes, s.interruptions, j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM perdure.standings_at(cut, newest, open_since) p
    JOIN perdure.jobs j ON j.id = p.job_id
    CROSS JOIN LATERAL perdure.standing_at(p.job_id, cut) s
    LEFT JOIN LATERAL (
        SELECT x.xid FROM (
            (SELECT 1 AS place, e.available_xid AS xid FROM perdure.job_executions e
            WHERE e.job_id = p.job_id AND NOT perdure.seen(e.settle_xid, cut) ORDER BY e.run, e.settled_at, e.settle_xid LIMIT 1)
            UNION ALL SELECT 2, r.available_xid FROM perdure.live_row(p.job_id) r
        ) x WHERE perdure.seen(x.xid, cut) ORDER BY x.place LIMIT 1
    ) n ON true
    WHERE p.state = 'available'
$$;

-- What waited for its time at a cut.
CREATE OR REPLACE FUNCTION perdure.scheduled_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, run_at timestamptz, since timestamptz, xid xid8, lane integer, priority smallint, run smallint, attempt smallint,
    crashes smallint, interruptions smallint, retry boolean, gated boolean
) LANGUAGE sql STABLE ROWS 100000 AS $$
    SELECT p.job_id, coalesce(s.run_at, s.since), s.since, perdure.waited_since(p.job_id, s.run, cut), j.lane, j.priority, s.run, s.attempt,
        s.crashes, s.interruptions, s.state = 'retryable',
        j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM perdure.standings_at(cut, newest, open_since) p
    JOIN perdure.jobs j ON j.id = p.job_id
    CROSS JOIN LATERAL perdure.standing_at(p.job_id, cut) s
    WHERE p.state IN ('scheduled', 'retryable')
$$;

-- The edges of the jobs that were there at a cut. An edge was satisfied when its parent had ended in a way that satisfies it since the child was there, or
-- when the child had been given a run of its own; of a parent whose history is gone the present tells.
CREATE OR REPLACE FUNCTION perdure.job_dependencies_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    child_id uuid, parent_id uuid, on_failure perdure.on_parent_failure, state perdure.edge_state
) LANGUAGE sql STABLE ROWS 100000 AS $$
    SELECT d.child_id, d.parent_id, d.on_failure, CASE
        WHEN EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND perdure.seen(e.settle_xid, cut) AND e.settled_at >= j.enqueued_at
                AND (e.state = 'completed' OR (d.on_failure = 'run' AND e.state IN ('cancelled', 'discarded')))
        ) OR EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = d.child_id AND v.detail ? 'delay_ms' AND perdure.seen(v.xid, cut)
        ) THEN 'satisfied'
        WHEN p.state IS NULL THEN d.state::text
        WHEN p.state = 'completed' OR (d.on_failure = 'run' AND p.state IN ('cancelled', 'discarded')) THEN 'satisfied'
        WHEN d.on_failure = 'cancel' AND p.state IN ('cancelled', 'discarded') THEN 'cancelled'
        ELSE 'waiting' END::perdure.edge_state
    FROM perdure.job_dependencies d
    JOIN perdure.jobs j ON j.id = d.child_id AND perdure.seen(j.xid, cut)
    LEFT JOIN LATERAL perdure.standing_at(d.parent_id, cut) p ON true
    WHERE d.child_id <= newest
$$;

-- What waited for its parents at a cut. When it was to start at the earliest is told only as long as something still says it: its row, or
-- the event of its start.
CREATE OR REPLACE FUNCTION perdure.blocked_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, waiting integer, run_at timestamptz, since timestamptz, xid xid8, lane integer, priority smallint, run smallint, gated boolean
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH edges AS MATERIALIZED (
        SELECT d.child_id, count(*) AS waiting FROM perdure.job_dependencies_at(cut, newest, open_since) d
        WHERE d.state = 'waiting' GROUP BY d.child_id
    )
    SELECT p.job_id, coalesce(e.waiting, 0)::integer, coalesce(s.run_at, v.run_at), s.since, perdure.waited_since(p.job_id, s.run, cut), j.lane,
        j.priority, s.run, j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM perdure.standings_at(cut, newest, open_since) p
    JOIN perdure.jobs j ON j.id = p.job_id
    CROSS JOIN LATERAL perdure.standing_at(p.job_id, cut) s
    LEFT JOIN edges e ON e.child_id = p.job_id
    LEFT JOIN LATERAL (
        SELECT coalesce((SELECT f.run_at FROM perdure.live_row(p.job_id) f WHERE f.state = 'scheduled'), (
            SELECT (v.detail ->> 'run_at')::timestamptz FROM perdure.job_events v
            WHERE v.job_id = p.job_id AND v.detail ? 'scheduled_xid' AND NOT perdure.seen(v.xid, cut) ORDER BY v.at LIMIT 1)) AS run_at
    ) v ON true
    WHERE p.state = 'pending'
$$;

-- The leases of a cut, as the row that still stands or the attempt that ended since tells of them.
CREATE OR REPLACE FUNCTION perdure.leases_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, token uuid, worker_id uuid, rank bigint, available_at timestamptz, claimed_at timestamptz, deadline timestamptz,
    available_xid xid8, claim_xid xid8, process integer, lane integer, band smallint, run smallint, attempt smallint, crashes smallint,
    interruptions smallint, suspicion smallint, slot smallint, unique_states smallint, isolated boolean, unique_key text, concurrency_key text
) LANGUAGE sql STABLE ROWS 10000 AS $$
    SELECT p.job_id, s.token, s.worker_id, perdure.rank_of(h.available_at, j.priority), h.available_at, h.claimed_at, 'infinity'::timestamptz,
        h.available_xid, h.claim_xid, h.process, j.lane, perdure.band_of(j.priority, 0::smallint), s.run, s.attempt, s.crashes,
        s.interruptions, 0::smallint, h.slot, j.unique_states, h.isolated, j.unique_key, h.concurrency_key
    FROM perdure.standings_at(cut, newest, open_since) p
    JOIN perdure.jobs j ON j.id = p.job_id
    CROSS JOIN LATERAL perdure.standing_at(p.job_id, cut) s
    CROSS JOIN LATERAL (
        SELECT l.available_at, l.claimed_at, l.available_xid, l.claim_xid, l.process, l.slot, l.isolated, l.concurrency_key
        FROM perdure.leases l WHERE l.job_id = p.job_id AND l.token = s.token
        UNION ALL
        SELECT e.available_at, e.claimed_at, e.available_xid, e.claim_xid, e.process, e.slot, e.isolated, e.concurrency_key
        FROM perdure.job_executions e WHERE e.job_id = p.job_id AND e.token = s.token
        LIMIT 1
    ) h
    WHERE p.state = 'running'
$$;

-- The dead letters of a cut, with the transactions that wrote them.
CREATE OR REPLACE FUNCTION perdure.dead_letter_queue_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, dead_at timestamptz, xid xid8, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint,
    outcome perdure.outcome, fingerprint text, cause text, error jsonb
) LANGUAGE sql STABLE AS $$
    SELECT d.job_id, d.dead_at, perdure.waited_since(d.job_id, d.run, cut), d.lane, d.run, d.attempt, d.crashes, d.interruptions, d.outcome,
        d.fingerprint, d.cause, d.error
    FROM perdure.letters_at(cut) d WHERE d.job_id <= newest
$$;

-- The unique keys of a cut. A job that lets its key go when it starts does not take it again by ending. A job that came back to a counted state and found its key taken stood beside the one that held it: that is
-- who holds it still, or else the one that came last.
CREATE OR REPLACE FUNCTION perdure.unique_keys_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    key text, job_id uuid, states smallint, expires_at timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, j.unique_until
    FROM perdure.jobs j
    CROSS JOIN LATERAL perdure.standing_at(j.id, cut) s
    LEFT JOIN perdure.unique_keys u ON u.key = j.unique_key AND u.job_id = j.id
    WHERE j.unique_key IS NOT NULL AND j.id <= newest AND perdure.seen(j.xid, cut) AND (j.unique_until IS NULL OR j.unique_until > open_since)
        AND perdure.counts_in(j.unique_states, s.state)
        AND (s.state NOT IN ('completed', 'cancelled', 'discarded') OR perdure.counts_in(j.unique_states, 'running') OR s.attempt = 0
            OR u.job_id IS NOT NULL)
    ORDER BY j.unique_key, u.job_id IS NULL, j.enqueued_at DESC, j.id DESC
$$;

DROP FUNCTION perdure.looked_up_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.plain_standings_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.counts_before(uuid, smallint, pg_snapshot);
DROP FUNCTION perdure.next_ended_at(pg_snapshot, uuid, timestamptz);
