-- Where jobs stood at a cut, told of all at once: one look at each table tells it of nearly all of them, and only the few that came to
-- where they are without leaving an attempt behind are looked up one by one. A recovery with a quarter of a million live jobs took most
-- of an hour before.

-- The attempt of each job that ended first after a cut: where the job stood then is told by when it had become available and begun.
CREATE FUNCTION perdure.next_ended_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS SETOF perdure.job_executions
LANGUAGE sql STABLE ROWS 100000 AS $$
    SELECT DISTINCT ON (e.job_id) e.* FROM perdure.job_executions e
    WHERE e.settled_at >= open_since AND e.job_id <= newest AND NOT perdure.seen(e.settle_xid, cut)
    ORDER BY e.job_id, e.run, e.settled_at, e.settle_xid
$$;

-- The counts of a job before an attempt: those that the attempt before it in the same run had left.
CREATE FUNCTION perdure.counts_before(of_job uuid, of_run smallint, cut pg_snapshot) RETURNS TABLE (crashes smallint, interruptions smallint)
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT coalesce(max(l.crashes), 0::smallint), coalesce(max(l.interruptions), 0::smallint) FROM (
        SELECT e.crashes, e.interruptions FROM perdure.job_executions e
        WHERE e.job_id = of_job AND e.run = of_run AND perdure.seen(e.settle_xid, cut)
        ORDER BY e.settled_at DESC, e.settle_xid DESC LIMIT 1
    ) l
$$;

-- What one look at each table tells of the jobs that had not ended or have moved since: the state where it is plain, NULL where the job
-- has to be looked up. A row that was there at the cut and is there now has never left its place.
CREATE FUNCTION perdure.plain_standings_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, lane integer, state perdure.job_state, since timestamptz
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH ended AS MATERIALIZED (
        SELECT e.job_id, e.lane, CASE WHEN perdure.seen(e.claim_xid, cut) THEN 'running' WHEN perdure.seen(e.available_xid, cut) THEN 'available'
            END::perdure.job_state AS state, e.claimed_at, e.available_at
        FROM perdure.next_ended_at(cut, newest, open_since) e
    ), there AS (
        SELECT l.job_id, l.lane, CASE WHEN perdure.seen(l.claim_xid, cut) THEN 'running' WHEN perdure.seen(l.available_xid, cut) THEN 'available'
            END::perdure.job_state AS state, CASE WHEN perdure.seen(l.claim_xid, cut) THEN l.claimed_at ELSE l.available_at END AS since
        FROM perdure.leases l WHERE l.job_id <= newest
        UNION ALL
        SELECT a.job_id, a.lane, CASE WHEN perdure.seen(a.xid, cut) THEN 'available'::perdure.job_state END, a.available_at
        FROM perdure.available_jobs a WHERE a.job_id <= newest
        UNION ALL
        SELECT p.job_id, p.lane, CASE WHEN perdure.seen(p.xid, cut) THEN 'available'::perdure.job_state END, p.available_at
        FROM perdure.parked_jobs p WHERE p.job_id <= newest
        UNION ALL
        SELECT s.job_id, s.lane, CASE WHEN perdure.seen(s.xid, cut)
            THEN CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END::perdure.job_state END, s.since
        FROM perdure.scheduled_jobs s WHERE s.job_id <= newest
        UNION ALL
        SELECT b.job_id, b.lane, CASE WHEN perdure.seen(b.xid, cut) THEN 'pending'::perdure.job_state END, b.since
        FROM perdure.blocked_jobs b WHERE b.job_id <= newest
    )
    SELECT e.job_id, e.lane, e.state, CASE WHEN e.state = 'running' THEN e.claimed_at ELSE e.available_at END FROM ended e
    UNION ALL
    SELECT t.job_id, t.lane, t.state, t.since FROM there t WHERE NOT EXISTS (SELECT FROM ended e WHERE e.job_id = t.job_id)
$$;

-- Where those stood of whom one look does not tell; completed ones are among them.
CREATE FUNCTION perdure.looked_up_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, lane integer, state perdure.job_state, run smallint, attempt smallint, crashes smallint, interruptions smallint,
    since timestamptz, run_at timestamptz
) LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT p.job_id, j.lane, s.state, s.run, s.attempt, s.crashes, s.interruptions, s.since, s.run_at
    FROM perdure.plain_standings_at(cut, newest, open_since) p
    JOIN perdure.jobs j ON j.id = p.job_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL perdure.standing_at(p.job_id, cut) s
    WHERE p.state IS NULL
$$;

-- Where every job stood at a cut that had not completed: `newest` is the newest body then, and every transaction that the cut had not seen began
-- after `open_since`. Of those that had ended badly and have not moved since, their last attempt tells.
CREATE OR REPLACE FUNCTION perdure.standings_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, lane integer, state perdure.job_state, since timestamptz
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH plain AS MATERIALIZED (
        SELECT p.* FROM perdure.plain_standings_at(cut, newest, open_since) p
    )
    SELECT p.job_id, p.lane, p.state, p.since FROM plain p WHERE p.state IS NOT NULL
    UNION ALL
    SELECT p.job_id, j.lane, s.state, s.since
    FROM plain p
    JOIN perdure.jobs j ON j.id = p.job_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL perdure.standing_at(p.job_id, cut) s
    WHERE p.state IS NULL AND s.state <> 'completed'
    UNION ALL
    SELECT d.job_id, j.lane, l.state, l.settled_at
    FROM (
        SELECT DISTINCT e.job_id FROM perdure.job_executions e
        WHERE e.state IN ('cancelled', 'discarded') AND e.job_id <= newest AND perdure.seen(e.settle_xid, cut)
            AND NOT EXISTS (SELECT FROM plain p WHERE p.job_id = e.job_id)
    ) d
    JOIN perdure.jobs j ON j.id = d.job_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL (
        SELECT x.state, x.settled_at FROM perdure.job_executions x WHERE x.job_id = d.job_id AND perdure.seen(x.settle_xid, cut)
        ORDER BY x.run DESC, x.settled_at DESC, x.settle_xid DESC LIMIT 1
    ) l
    WHERE l.state <> 'completed'
$$;

-- What was available at a cut: rows that are there still, and of those that have left, what their attempt tells. What was parked then is
-- available, and parked again when it is looked at.
CREATE OR REPLACE FUNCTION perdure.available_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, rank bigint, available_at timestamptz, xid xid8, lane integer, band smallint, run smallint, attempt smallint,
    crashes smallint, interruptions smallint, gated boolean
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH ended AS MATERIALIZED (
        SELECT e.job_id, e.available_at, e.available_xid, e.claim_xid, e.run, e.attempt, e.token
        FROM perdure.next_ended_at(cut, newest, open_since) e
    )
    SELECT a.job_id, a.rank, a.available_at, a.xid, a.lane, a.band, a.run, a.attempt, a.crashes, a.interruptions, a.gated
    FROM perdure.available_jobs a
    WHERE a.job_id <= newest AND perdure.seen(a.xid, cut) AND NOT EXISTS (SELECT FROM ended e WHERE e.job_id = a.job_id)
    UNION ALL
    SELECT p.job_id, p.rank, p.available_at, p.xid, p.lane, p.band, p.run, p.attempt, p.crashes, p.interruptions, true
    FROM perdure.parked_jobs p
    WHERE p.job_id <= newest AND perdure.seen(p.xid, cut) AND NOT EXISTS (SELECT FROM ended e WHERE e.job_id = p.job_id)
    UNION ALL
    SELECT m.job_id, perdure.rank_of(m.available_at, j.priority), m.available_at, m.xid, j.lane, perdure.band_of(j.priority, 0::smallint),
        m.run, m.attempt, m.crashes, m.interruptions,
        j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM (
        SELECT l.job_id, l.available_at, l.available_xid AS xid, l.run, (l.attempt - 1)::smallint AS attempt, l.crashes, l.interruptions
        FROM perdure.leases l
        WHERE l.job_id <= newest AND perdure.seen(l.available_xid, cut) AND NOT perdure.seen(l.claim_xid, cut)
            AND NOT EXISTS (SELECT FROM ended e WHERE e.job_id = l.job_id)
        UNION ALL
        SELECT e.job_id, e.available_at, e.available_xid, e.run, CASE WHEN e.token IS NULL THEN e.attempt ELSE e.attempt - 1 END::smallint,
            c.crashes, c.interruptions
        FROM ended e CROSS JOIN LATERAL perdure.counts_before(e.job_id, e.run, cut) c
        WHERE perdure.seen(e.available_xid, cut) AND perdure.seen(e.claim_xid, cut) IS NOT TRUE
        UNION ALL
        SELECT u.job_id, u.since, perdure.waited_since(u.job_id, u.run, cut), u.run, u.attempt, u.crashes, u.interruptions
        FROM perdure.looked_up_at(cut, newest, open_since) u WHERE u.state = 'available'
    ) m
    JOIN perdure.jobs j ON j.id = m.job_id
$$;

-- What waited for its time at a cut.
CREATE OR REPLACE FUNCTION perdure.scheduled_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, run_at timestamptz, since timestamptz, xid xid8, lane integer, priority smallint, run smallint, attempt smallint,
    crashes smallint, interruptions smallint, retry boolean, gated boolean
) LANGUAGE sql STABLE ROWS 100000 AS $$
    SELECT s.job_id, s.run_at, s.since, s.xid, s.lane, s.priority, s.run, s.attempt, s.crashes, s.interruptions, s.retry, s.gated
    FROM perdure.scheduled_jobs s WHERE s.job_id <= newest AND perdure.seen(s.xid, cut)
    UNION ALL
    SELECT u.job_id, coalesce(u.run_at, u.since), u.since, perdure.waited_since(u.job_id, u.run, cut), j.lane, j.priority, u.run, u.attempt,
        u.crashes, u.interruptions, u.state = 'retryable',
        j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM perdure.looked_up_at(cut, newest, open_since) u
    JOIN perdure.jobs j ON j.id = u.job_id
    WHERE u.state IN ('scheduled', 'retryable')
$$;

-- The edges of the jobs that were there at a cut. An edge was satisfied when its parent had ended in a way that satisfies it since the child was there, or
-- when the child had been given a run of its own; of a parent whose history is gone the present tells.
CREATE OR REPLACE FUNCTION perdure.job_dependencies_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    child_id uuid, parent_id uuid, on_failure perdure.on_parent_failure, state perdure.edge_state
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH standings AS MATERIALIZED (
        SELECT s.job_id, s.state FROM perdure.standings_at(cut, newest, open_since) s
    )
    SELECT d.child_id, d.parent_id, d.on_failure, CASE
        WHEN EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND perdure.seen(e.settle_xid, cut) AND e.settled_at >= j.enqueued_at
                AND (e.state = 'completed' OR (d.on_failure = 'run' AND e.state IN ('cancelled', 'discarded')))
        ) OR EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = d.child_id AND v.detail ? 'delay_ms' AND perdure.seen(v.xid, cut)
        ) THEN 'satisfied'
        WHEN p.state IS NULL THEN CASE WHEN EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND e.state = 'completed' AND perdure.seen(e.settle_xid, cut)
        ) THEN 'satisfied' ELSE d.state::text END
        WHEN d.on_failure = 'run' AND p.state IN ('cancelled', 'discarded') THEN 'satisfied'
        WHEN d.on_failure = 'cancel' AND p.state IN ('cancelled', 'discarded') THEN 'cancelled'
        ELSE 'waiting' END::perdure.edge_state
    FROM perdure.job_dependencies d
    JOIN perdure.jobs j ON j.id = d.child_id AND perdure.seen(j.xid, cut)
    LEFT JOIN standings p ON p.job_id = d.parent_id
    WHERE d.child_id <= newest
$$;

-- What waited for its parents at a cut. When it was to start at the earliest is told only as long as something still says it: its row, or
-- the event of its start.
CREATE OR REPLACE FUNCTION perdure.blocked_jobs_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, waiting integer, run_at timestamptz, since timestamptz, xid xid8, lane integer, priority smallint, run smallint, gated boolean
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH edges AS MATERIALIZED (
        SELECT d.child_id, count(*)::integer AS waiting FROM perdure.job_dependencies_at(cut, newest, open_since) d
        WHERE d.state = 'waiting' GROUP BY d.child_id
    )
    SELECT b.job_id, coalesce(e.waiting, 0), b.run_at, b.since, b.xid, b.lane, b.priority, b.run, b.gated
    FROM perdure.blocked_jobs b LEFT JOIN edges e ON e.child_id = b.job_id
    WHERE b.job_id <= newest AND perdure.seen(b.xid, cut)
    UNION ALL
    SELECT u.job_id, coalesce(e.waiting, 0), coalesce(u.run_at, v.run_at), u.since, perdure.waited_since(u.job_id, u.run, cut), j.lane,
        j.priority, u.run, j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM perdure.looked_up_at(cut, newest, open_since) u
    JOIN perdure.jobs j ON j.id = u.job_id
    LEFT JOIN edges e ON e.child_id = u.job_id
    LEFT JOIN LATERAL (
        SELECT coalesce((SELECT f.run_at FROM perdure.live_row(u.job_id) f WHERE f.state = 'scheduled'), (
            SELECT (v.detail ->> 'run_at')::timestamptz FROM perdure.job_events v
            WHERE v.job_id = u.job_id AND v.detail ? 'scheduled_xid' AND NOT perdure.seen(v.xid, cut) ORDER BY v.at LIMIT 1)) AS run_at
    ) v ON true
    WHERE u.state = 'pending'
$$;

-- The leases of a cut, as the row that still stands or the attempt that ended since tells of them.
CREATE OR REPLACE FUNCTION perdure.leases_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, token uuid, worker_id uuid, rank bigint, available_at timestamptz, claimed_at timestamptz, deadline timestamptz,
    available_xid xid8, claim_xid xid8, process integer, lane integer, band smallint, run smallint, attempt smallint, crashes smallint,
    interruptions smallint, suspicion smallint, slot smallint, unique_states smallint, isolated boolean, unique_key text, concurrency_key text
) LANGUAGE sql STABLE ROWS 10000 AS $$
    SELECT h.job_id, h.token, h.worker_id, perdure.rank_of(h.available_at, j.priority), h.available_at, h.claimed_at, 'infinity'::timestamptz,
        h.available_xid, h.claim_xid, h.process, j.lane, perdure.band_of(j.priority, 0::smallint), h.run, h.attempt, h.crashes,
        h.interruptions, 0::smallint, h.slot, j.unique_states, h.isolated, j.unique_key, h.concurrency_key
    FROM (
        SELECT l.job_id, l.token, l.worker_id, l.available_at, l.claimed_at, l.available_xid, l.claim_xid, l.process, l.run, l.attempt, l.crashes,
            l.interruptions, l.slot, l.isolated, l.concurrency_key
        FROM perdure.leases l WHERE l.job_id <= newest AND perdure.seen(l.claim_xid, cut)
        UNION ALL
        SELECT e.job_id, e.token, e.worker_id, e.available_at, e.claimed_at, e.available_xid, e.claim_xid, e.process, e.run, e.attempt, c.crashes,
            c.interruptions, e.slot, e.isolated, e.concurrency_key
        FROM perdure.next_ended_at(cut, newest, open_since) e
        CROSS JOIN LATERAL perdure.counts_before(e.job_id, e.run, cut) c
        WHERE perdure.seen(e.claim_xid, cut)
    ) h
    JOIN perdure.jobs j ON j.id = h.job_id
$$;

-- The dead letters of a cut, with the transactions that wrote them: of the jobs that stood discarded, the last attempt, unless somebody had
-- put the letter away.
CREATE OR REPLACE FUNCTION perdure.dead_letter_queue_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, dead_at timestamptz, xid xid8, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint,
    outcome perdure.outcome, fingerprint text, cause text, error jsonb
) LANGUAGE sql STABLE AS $$
    SELECT e.job_id, e.settled_at, e.settle_xid, e.lane, e.run, e.attempt, e.crashes, e.interruptions, e.outcome,
        coalesce(nullif(e.error ->> 'fingerprint', ''), e.outcome::text), coalesce(e.cause, ''), e.error
    FROM perdure.standings_at(cut, newest, open_since) s
    CROSS JOIN LATERAL (
        SELECT x.* FROM perdure.job_executions x WHERE x.job_id = s.job_id AND perdure.seen(x.settle_xid, cut)
        ORDER BY x.run DESC, x.settled_at DESC, x.settle_xid DESC LIMIT 1
    ) e
    WHERE s.state = 'discarded' AND e.state = 'discarded' AND NOT EXISTS (
        SELECT FROM perdure.job_events v WHERE v.job_id = e.job_id AND v.event = 'dead_letter_discarded'
            AND (v.detail ->> 'run')::smallint = e.run AND perdure.seen(v.xid, cut)
    )
$$;

-- The unique keys of a cut. A job that lets its key go when it starts does not take it again by ending. A job that came back to a counted state and found its key taken stood beside the one that held it: that is
-- who holds it still, or else the one that came last. A job that stood nowhere else had completed, if an attempt says so.
CREATE OR REPLACE FUNCTION perdure.unique_keys_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    key text, job_id uuid, states smallint, expires_at timestamptz
) LANGUAGE sql STABLE AS $$
    WITH standings AS MATERIALIZED (
        SELECT s.job_id, s.state FROM perdure.standings_at(cut, newest, open_since) s
    )
    SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, j.unique_until
    FROM perdure.jobs j
    LEFT JOIN standings s ON s.job_id = j.id
    LEFT JOIN perdure.unique_keys u ON u.key = j.unique_key AND u.job_id = j.id
    WHERE j.unique_key IS NOT NULL AND j.id <= newest AND perdure.seen(j.xid, cut) AND (j.unique_until IS NULL OR j.unique_until > open_since)
        AND perdure.counts_in(j.unique_states, coalesce(s.state, 'completed'))
        AND (coalesce(s.state, 'completed') NOT IN ('completed', 'cancelled', 'discarded') OR (
            EXISTS (SELECT FROM perdure.job_executions e WHERE e.job_id = j.id AND perdure.seen(e.settle_xid, cut))
            AND (perdure.counts_in(j.unique_states, 'running') OR u.job_id IS NOT NULL
                OR (SELECT a.attempt FROM perdure.standing_at(j.id, cut) a) = 0)))
    ORDER BY j.unique_key, u.job_id IS NULL, j.enqueued_at DESC, j.id DESC
$$;

-- The parts of a snapshot: each table with its columns and the query that gives what is saved of it. With `base` only what was written
-- since that cut, of those tables whose departed rows leave a trace elsewhere; others are saved whole each time. What is bound to the
-- moment is left out: leaders, heartbeats, requests to cancel and reports of those who run. The version of a row may carry the number of
-- a subtransaction, of which a cut does not know whether its transaction was over: whatever is not older than the oldest transaction
-- open at the cut is saved once more; its full number is told by plain arithmetic, as `written_by` tells it, for a call of that for each row
-- took most of an increment. After a restore all versions are younger than a base of before.
CREATE OR REPLACE FUNCTION perdure.saved_parts(era integer, base pg_snapshot, base_at timestamptz) RETURNS TABLE (
    name text, columns text[], query text, estimate bigint
) LANGUAGE sql STABLE AS $$
    SELECT c.relname::text, a.names, format('SELECT %s FROM perdure.%I t WHERE %s', a.saved, c.relname, CASE
        WHEN base IS NULL THEN 'true'
        WHEN c.relname IN ('jobs', 'job_events', 'worker_history') THEN format('NOT perdure.seen(t.xid, %L)', base)
        WHEN c.relname = 'job_executions' THEN format('NOT perdure.seen(t.settle_xid, %L)', base)
        WHEN c.relname = 'moments' THEN format('t.at > %L', base_at)
        WHEN c.relname IN ('available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases', 'dead_letter_queue',
            'job_dependencies', 'unique_keys') THEN format(
                'CASE WHEN t.xmin::text::bigint >= %s THEN %s ELSE %s END + t.xmin::text::bigint >= %s',
                n.next & 4294967295, (n.next >> 32 << 32) - 4294967296, n.next >> 32 << 32, perdure.in_order(pg_snapshot_xmin(base)))
        ELSE 'true' END),
        (SELECT sum(greatest(p.reltuples, 0))::bigint FROM pg_class p WHERE p.oid = c.oid OR p.oid IN (
            SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid))
    FROM pg_class c
    CROSS JOIN (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) n
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
