-- Recovery to the exact commit: what the tables whose rows come and go held at a cut, and increments over a restore.

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

-- Whether all that a cut had seen was seen by another one, too; cuts of one system follow each other.
CREATE FUNCTION perdure.cut_contains(cut pg_snapshot, earlier pg_snapshot) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    perdure.in_order(pg_snapshot_xmax(earlier)) <= perdure.in_order(pg_snapshot_xmax(cut)) AND NOT EXISTS (
        SELECT FROM pg_snapshot_xip(cut) AS x WHERE perdure.seen(x, earlier));

-- The transaction that had put a job where it waited at a cut, in that run: the one that ended an attempt, that opened the run after a
-- delay, or that wrote the row which still waits, or which a later event tells of.
CREATE FUNCTION perdure.waited_since(of_job uuid, of_run smallint, cut pg_snapshot) RETURNS xid8 LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT e.settle_xid FROM perdure.job_executions e WHERE e.job_id = of_job AND e.run = of_run AND perdure.seen(e.settle_xid, cut)
        ORDER BY e.settled_at DESC, perdure.in_order(e.settle_xid) DESC LIMIT 1),
        (SELECT v.xid FROM perdure.job_events v WHERE v.job_id = of_job AND v.detail ? 'delay_ms'
            AND (v.detail ->> 'run')::smallint = of_run AND perdure.seen(v.xid, cut) LIMIT 1),
        (SELECT r.wait_xid FROM perdure.live_row(of_job) r WHERE perdure.seen(r.wait_xid, cut)),
        (SELECT (v.detail ->> 'scheduled_xid')::xid8 FROM perdure.job_events v WHERE v.job_id = of_job
            AND perdure.seen((v.detail ->> 'scheduled_xid')::xid8, cut) AND NOT perdure.seen(v.xid, cut) LIMIT 1),
        (SELECT j.xid FROM perdure.jobs j WHERE j.id = of_job))
$$;

-- What was available at a cut, at the place that its time gives it; what was parked then is available, and parked again when it is looked at.
CREATE FUNCTION perdure.available_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
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
CREATE FUNCTION perdure.scheduled_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
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
CREATE FUNCTION perdure.job_dependencies_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
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
CREATE FUNCTION perdure.blocked_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
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
CREATE FUNCTION perdure.leases_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
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
CREATE FUNCTION perdure.dead_letter_queue_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, dead_at timestamptz, xid xid8, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint,
    outcome perdure.outcome, fingerprint text, cause text, error jsonb
) LANGUAGE sql STABLE AS $$
    SELECT d.job_id, d.dead_at, perdure.waited_since(d.job_id, d.run, cut), d.lane, d.run, d.attempt, d.crashes, d.interruptions, d.outcome,
        d.fingerprint, d.cause, d.error
    FROM perdure.letters_at(cut) d WHERE d.job_id <= newest
$$;

-- The unique keys of a cut. A job that lets its key go when it starts does not take it again by ending. A job that came back to a counted state and found its key taken stood beside the one that held it: that is
-- who holds it still, or else the one that came last.
CREATE FUNCTION perdure.unique_keys_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
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

-- The workers of a cut; of those that history does not tell of nothing is known.
CREATE FUNCTION perdure.workers_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    id uuid, name text, host text, pid integer, type text, state perdure.worker_state, queues text[], kinds text[], labels text[],
    capacity integer, processes integer, version text, started_at timestamptz, heartbeat_at timestamptz, stopped_at timestamptz, cause text,
    cordoned_at timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (h.worker_id) h.worker_id, h.name, h.host, h.pid, h.type, h.state, h.queues, h.kinds, h.labels, h.capacity, h.processes,
        h.version, h.started_at, h.at, h.stopped_at, h.cause, h.cordoned_at
    FROM perdure.worker_history h WHERE perdure.seen(h.xid, cut)
    ORDER BY h.worker_id, h.state DESC, h.at DESC
$$;

-- The queues of a cut. Pauses and resumptions take turns, so that those since the cut tell from the present whether a queue was paused.
CREATE FUNCTION perdure.queues_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    name text, paused_at timestamptz, paused_by text, xid xid8
) LANGUAGE sql STABLE AS $$
    SELECT q.name, CASE WHEN t.paused THEN coalesce(b.at, q.paused_at) END, CASE WHEN t.paused THEN coalesce(b.actor, q.paused_by) END, q.xid
    FROM perdure.queues q
    LEFT JOIN LATERAL (
        SELECT v.at, v.actor FROM perdure.job_events v
        WHERE v.queue = q.name AND v.event = 'queue_paused' AND perdure.seen(v.xid, cut) ORDER BY v.at DESC LIMIT 1
    ) b ON true
    CROSS JOIN LATERAL (
        SELECT (q.paused_at IS NOT NULL)::integer
            - (count(*) FILTER (WHERE v.event = 'queue_paused') - count(*) FILTER (WHERE v.event = 'queue_resumed')) = 1 AS paused
        FROM perdure.job_events v
        WHERE v.queue = q.name AND v.event IN ('queue_paused', 'queue_resumed') AND NOT perdure.seen(v.xid, cut)
    ) t
    WHERE perdure.seen(q.xid, cut)
$$;

-- The lanes of the queues of a cut; one that came later holds nothing.
CREATE FUNCTION perdure.lanes_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    lane integer, queue text, kind text, labels text[]
) LANGUAGE sql STABLE AS $$
    SELECT l.lane, l.queue, l.kind, l.labels FROM perdure.lanes l JOIN perdure.queues q ON q.name = l.queue AND perdure.seen(q.xid, cut)
$$;

-- The parts of an increment that reaches from the cut `base` to a cut of the past: what history holds between the two, and of the tables
-- whose rows come and go everything that they held then. Of all other tables nothing tells what they held.
CREATE FUNCTION perdure.recorded_parts(era integer, base pg_snapshot, base_at timestamptz, cut pg_snapshot, cut_at timestamptz, newest uuid,
    open_since timestamptz) RETURNS TABLE (name text, columns text[], query text, estimate bigint) LANGUAGE sql STABLE AS $$
    SELECT p.name, p.columns, p.query || CASE p.name
        WHEN 'moments' THEN format(' AND t.at <= %L', cut_at)
        WHEN 'job_executions' THEN format(' AND perdure.seen(t.settle_xid, %L)', cut)
        ELSE format(' AND perdure.seen(t.xid, %L)', cut) END, p.estimate
    FROM perdure.saved_parts(era, base, base_at) p
    WHERE p.name IN ('jobs', 'job_executions', 'job_events', 'worker_history', 'moments')
    UNION ALL
    (SELECT u.of_table, a.names, format('SELECT %s FROM perdure.%I(%L, %L, %L) t', a.saved, u.of_table || '_at', cut, newest, open_since), 10000
    FROM unnest(ARRAY['available_jobs', 'blocked_jobs', 'dead_letter_queue', 'job_dependencies', 'leases', 'queues', 'scheduled_jobs',
        'unique_keys', 'workers', 'lanes']) WITH ORDINALITY AS u (of_table, place)
    JOIN pg_proc f ON f.oid = format('perdure.%I', u.of_table || '_at')::regproc
    CROSS JOIN LATERAL (
        SELECT array_agg(c.name ORDER BY c.place) AS names, string_agg(CASE WHEN c.type = 'xid8'::regtype
            THEN format('perdure.aged(t.%I, %s)', c.name, era) ELSE format('t.%I', c.name) END, ', ' ORDER BY c.place) AS saved
        FROM unnest(f.proargnames, f.proargmodes, f.proallargtypes) WITH ORDINALITY AS c (name, mode, type, place) WHERE c.mode = 't'
    ) a
    ORDER BY u.place)
$$;
