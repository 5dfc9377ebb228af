DROP FUNCTION perdure.recorded_parts(integer, pg_snapshot, timestamptz, pg_snapshot, timestamptz, uuid, timestamptz);
DROP FUNCTION perdure.lanes_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.queues_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.workers_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.unique_keys_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.dead_letter_queue_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.leases_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.blocked_jobs_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.job_dependencies_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.scheduled_jobs_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.available_jobs_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.waited_since(uuid, smallint, pg_snapshot);
DROP FUNCTION perdure.cut_contains(pg_snapshot, pg_snapshot);
-- The parts of a snapshot: each table with its columns and the query that gives what is saved of it. With `base` only what was written
-- since that cut, of those tables whose departed rows leave a trace elsewhere; others are saved whole each time. What is bound to the
-- moment is left out: leaders, heartbeats, requests to cancel and reports of those who run. The version of a row may carry the number of
-- a subtransaction, of which a cut does not know whether its transaction was over: whatever is not older than the oldest transaction
-- open at the cut is saved once more.
CREATE OR REPLACE FUNCTION perdure.saved_parts(era integer, base pg_snapshot, base_at timestamptz) RETURNS TABLE (
    name text, columns text[], query text, estimate bigint
) LANGUAGE sql STABLE AS $$
    SELECT c.relname::text, a.names, format('SELECT %s FROM perdure.%I t WHERE %s', a.saved, c.relname, CASE
        WHEN base IS NULL THEN 'true'
        WHEN c.relname IN ('jobs', 'job_events', 'worker_history') THEN format('NOT perdure.seen(t.xid, %L)', base)
        WHEN c.relname = 'job_executions' THEN format('NOT perdure.seen(t.settle_xid, %L)', base)
        WHEN c.relname = 'moments' THEN format('t.at > %L', base_at)
        WHEN c.relname IN ('available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases', 'dead_letter_queue',
            'job_dependencies', 'unique_keys') THEN format('perdure.written_by(t.xmin) >= %L::xid8', pg_snapshot_xmin(base))
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
