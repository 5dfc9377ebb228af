-- What threatens the database: transactions that stay open, rows that cannot be cleared away, connections, what jobs cost.

-- name: transactions(most)
-- The transactions that have been open for longest, this one left out; prepared ones count too.
SELECT extract(epoch FROM clock_timestamp() - o.since)::float8 AS age_s, o.pid, o.owner, o.application, o.state
FROM (
    SELECT a.xact_start AS since, a.pid, coalesce(a.usename, '') AS owner, a.application_name AS application, coalesce(a.state, '') AS state
    FROM pg_stat_activity a
    WHERE a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    UNION ALL
    SELECT p.prepared, NULL, p.owner, p.gid, 'prepared' FROM pg_prepared_xacts p
) o
ORDER BY o.since LIMIT :most;

-- name: tables(schema)
-- Live and dead rows of the tables whose rows come and go, and when they were last vacuumed.
SELECT s.relname AS name, s.n_live_tup AS live, s.n_dead_tup AS dead, greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at
FROM pg_stat_user_tables s
WHERE s.schemaname = :schema AND s.relname IN ('available_jobs', 'scheduled_jobs', 'blocked_jobs', 'parked_jobs', 'leases',
    'dead_letter_queue', 'unique_keys', 'workers', 'job_progress', 'cancel_requests')
ORDER BY s.n_dead_tup DESC, s.relname;

-- name: totals(since, most)
-- What the whole server has written to its WAL since its beginning, the attempts that ended since a moment, counted to `most`, and connections.
SELECT clock_timestamp() AS at, (pg_current_wal_insert_lsn() - '0/0')::bigint AS wal_bytes,
    (SELECT count(*) FROM (SELECT FROM perdure.job_executions e WHERE e.settled_at >= :since::timestamptz AND e.token IS NOT NULL LIMIT :most::integer) c) AS ended,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'client backend') AS connections,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer AS connections_max;
