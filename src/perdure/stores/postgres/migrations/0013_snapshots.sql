-- Snapshots: what is saved of each table, and how numbers of transactions outlive the database that gave them.

-- Which system this is, and how often it has been restored into a new database.
CREATE TABLE perdure.installation (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    era integer NOT NULL DEFAULT 0 CHECK (era BETWEEN 0 AND 16000)
);
INSERT INTO perdure.installation DEFAULT VALUES;

-- The number of a transaction as it is saved: of this database's own ones those of era n lie from (n + 1) * 2^48 on.
CREATE FUNCTION perdure.aged(xid xid8, era integer) RETURNS xid8 LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN xid >= '281474976710656'::xid8 THEN xid ELSE (xid::text::bigint + (era + 1)::bigint * 281474976710656)::text::xid8 END;

-- The numbers of transactions in the order in which they were given, those of earlier eras below zero.
CREATE FUNCTION perdure.in_order(xid xid8) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN xid >= '281474976710656'::xid8 THEN xid::text::bigint - 4611686018427387904 ELSE xid::text::bigint END;

-- A cut as it is saved.
CREATE FUNCTION perdure.aged_cut(cut pg_snapshot, era integer) RETURNS pg_snapshot LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN pg_snapshot_xmin(cut) >= '281474976710656'::xid8 THEN cut ELSE
        concat_ws(':', perdure.aged(pg_snapshot_xmin(cut), era), perdure.aged(pg_snapshot_xmax(cut), era),
            coalesce((SELECT string_agg(perdure.aged(x, era)::text, ',' ORDER BY x) FROM pg_snapshot_xip(cut) AS x), ''))::pg_snapshot END;

-- What an event says, as it is saved.
CREATE FUNCTION perdure.aged_detail(detail jsonb, era integer) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN detail ? 'scheduled_xid'
        THEN detail || jsonb_build_object('scheduled_xid', perdure.aged((detail ->> 'scheduled_xid')::xid8, era)) ELSE detail END;

-- The full number of the transaction that wrote a version of a row. One from before the last wraparound may be taken for a younger one.
CREATE FUNCTION perdure.written_by(row_version xid) RETURNS xid8 LANGUAGE sql STABLE RETURN (
    SELECT (CASE WHEN n.low >= n.next THEN n.low - 4294967296 ELSE n.low END)::text::xid8
    FROM (
        SELECT s.next, (s.next >> 32 << 32) + row_version::text::bigint AS low
        FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) s
    ) n
);

-- The parts of a snapshot: each table with its columns and the query that gives what is saved of it. With `base` only what was written
-- since that cut, of those tables whose departed rows leave a trace elsewhere; others are saved whole each time. What is bound to the moment is left out: leaders, heartbeats, wishes and reports of those who run.
CREATE FUNCTION perdure.saved_parts(era integer, base pg_snapshot, base_at timestamptz) RETURNS TABLE (
    name text, columns text[], query text, estimate bigint
) LANGUAGE sql STABLE AS $$
    SELECT c.relname::text, a.names, format('SELECT %s FROM perdure.%I t WHERE %s', a.saved, c.relname, CASE
        WHEN base IS NULL THEN 'true'
        WHEN c.relname IN ('jobs', 'job_events', 'worker_history') THEN format('NOT perdure.seen(t.xid, %L)', base)
        WHEN c.relname = 'job_executions' THEN format('NOT perdure.seen(t.settle_xid, %L)', base)
        WHEN c.relname = 'moments' THEN format('t.at > %L', base_at)
        WHEN c.relname IN ('available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases', 'dead_letter_queue',
            'job_dependencies', 'unique_keys') THEN format('NOT perdure.seen(perdure.written_by(t.xmin), %L)', base)
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

-- How often automatic snapshots are taken, and how many are kept.
CREATE TABLE perdure.snapshot_policy (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    every interval NOT NULL CHECK (every >= interval '1 minute'),
    keep integer NOT NULL CHECK (keep >= 1),
    set_by text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now()
);

-- Let nobody write while rows are brought back, and have no trigger do again what has been done once. What the making of the schema
-- has left in the histories goes.
CREATE FUNCTION perdure.begin_restore() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE perdure.jobs, perdure.available_jobs, perdure.leases, perdure.queues, perdure.workers IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE perdure.job_dependencies DISABLE TRIGGER USER;
    ALTER TABLE perdure.workers DISABLE TRIGGER USER;
    DELETE FROM perdure.moments;
    DELETE FROM perdure.worker_history;
    DELETE FROM perdure.job_events;
END $$;

-- Let the triggers do their work again, and numbers that the database gives go on after those brought back.
CREATE FUNCTION perdure.end_restore() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    numbered record;
BEGIN
    ALTER TABLE perdure.job_dependencies ENABLE TRIGGER USER;
    ALTER TABLE perdure.workers ENABLE TRIGGER USER;
    FOR numbered IN
        SELECT c.relname, f.attname FROM pg_class c JOIN pg_attribute f ON f.attrelid = c.oid AND f.attidentity <> ''
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = (SELECT j.relnamespace FROM pg_class j WHERE j.oid = 'perdure.jobs'::regclass)
    LOOP
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%1$L, %2$L), max(%3$I)) FROM perdure.%4$I HAVING max(%3$I) IS NOT NULL',
            format('perdure.%I', numbered.relname), numbered.attname, numbered.attname, numbered.relname);
    END LOOP;
END $$;

-- Make tables for the rows of several snapshots at once, until it is clear which of them stand.
CREATE FUNCTION perdure.stage_saved() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    of_table text;
BEGIN
    FOREACH of_table IN ARRAY ARRAY['available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases', 'dead_letter_queue',
        'job_dependencies', 'unique_keys'] LOOP
        EXECUTE format('CREATE TEMP TABLE saved_%1$s (LIKE perdure.%1$I INCLUDING DEFAULTS,
            generation integer NOT NULL DEFAULT current_setting(''restore.generation'')::integer) ON COMMIT DROP', of_table);
    END LOOP;
END $$;

-- Put together what several snapshots, each built on the one before it, say of the rows that move. They were copied into temporary
-- tables `saved_...` with their place in the line as `generation`; `cuts` are their cuts, in order. A row of an older one
-- stands only if its job has no younger row anywhere and no attempt has ended since.
-- from: none   to: pending, scheduled, available
CREATE FUNCTION perdure.merge_saved(cuts pg_snapshot[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    of_table text;
    names text;
BEGIN
    CREATE TEMP TABLE saved_places ON COMMIT DROP AS
        SELECT DISTINCT ON (p.job_id) p.job_id, p.generation FROM (
            SELECT job_id, generation FROM saved_available_jobs UNION ALL SELECT job_id, generation FROM saved_parked_jobs
            UNION ALL SELECT job_id, generation FROM saved_scheduled_jobs UNION ALL SELECT job_id, generation FROM saved_blocked_jobs
            UNION ALL SELECT job_id, generation FROM saved_leases
        ) p ORDER BY p.job_id, p.generation DESC;
    DELETE FROM saved_places p USING perdure.job_executions e
        WHERE e.job_id = p.job_id AND NOT perdure.seen(e.settle_xid, cuts[p.generation]);
    CREATE UNIQUE INDEX ON saved_places (job_id);
    ANALYZE saved_places;
    FOREACH of_table IN ARRAY ARRAY['available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases'] LOOP
        SELECT string_agg(format('%I', f.attname), ', ') INTO names FROM pg_attribute f
            WHERE f.attrelid = format('perdure.%I', of_table)::regclass AND f.attnum > 0 AND NOT f.attisdropped;
        EXECUTE format('INSERT INTO perdure.%1$I (%2$s) SELECT %2$s FROM saved_%1$s s JOIN saved_places p USING (job_id, generation)',
            of_table, names);
    END LOOP;
    ALTER TABLE saved_dead_letter_queue RENAME TO saved_letters;
    INSERT INTO perdure.dead_letter_queue (job_id, dead_at, xid, lane, run, attempt, crashes, interruptions, outcome, fingerprint, cause, error)
        SELECT DISTINCT ON (s.job_id) s.job_id, s.dead_at, s.xid, s.lane, s.run, s.attempt, s.crashes, s.interruptions, s.outcome,
            s.fingerprint, s.cause, s.error
        FROM saved_letters s
        WHERE NOT EXISTS (SELECT FROM saved_places p WHERE p.job_id = s.job_id)
            AND NOT EXISTS (SELECT FROM perdure.job_executions e WHERE e.job_id = s.job_id AND NOT perdure.seen(e.settle_xid, cuts[s.generation]))
            AND NOT EXISTS (SELECT FROM perdure.job_events v WHERE v.job_id = s.job_id AND v.event = 'dead_letter_discarded'
                AND NOT perdure.seen(v.xid, cuts[s.generation]))
        ORDER BY s.job_id, s.generation DESC;
    INSERT INTO perdure.job_dependencies (child_id, parent_id, on_failure, state)
        SELECT DISTINCT ON (s.child_id, s.parent_id) s.child_id, s.parent_id, s.on_failure, s.state FROM saved_job_dependencies s
        ORDER BY s.child_id, s.parent_id, s.generation DESC;
    INSERT INTO perdure.unique_keys (key, job_id, states, expires_at)
        SELECT DISTINCT ON (s.key) s.key, s.job_id, s.states, s.expires_at FROM saved_unique_keys s ORDER BY s.key, s.generation DESC;
    DELETE FROM perdure.unique_keys u
        WHERE NOT EXISTS (SELECT FROM perdure.standing(u.job_id) s WHERE perdure.counts_in(u.states, s.state));
END $$;
