-- Facts about the server and the tables, for `perdure doctor`.

-- name: server()
-- What the server says of itself. Settings are read as this session would get them without its own changes.
SELECT current_setting('server_version_num')::integer AS version, 'PostgreSQL ' || current_setting('server_version') AS version_text,
    pg_is_in_recovery() AS in_recovery, current_setting('max_connections')::integer AS max_connections,
    current_setting('superuser_reserved_connections')::integer
        + coalesce(current_setting('reserved_connections', true)::integer, 0) AS reserved_connections,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'client backend') AS used_connections,
    current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes;

-- name: oldest_transaction()
-- The transaction that has been open for longest, this one left out; a prepared one counts too.
SELECT extract(epoch FROM clock_timestamp() - o.since)::float8 AS age_s, o.who
FROM (
    SELECT a.xact_start AS since, format('process %s, %s, %s', a.pid, coalesce(nullif(a.application_name, ''), 'no name'), a.state) AS who
    FROM pg_stat_activity a
    WHERE a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    UNION ALL
    SELECT p.prepared, format('prepared transaction %s', p.gid) FROM pg_prepared_xacts p
) o
ORDER BY o.since LIMIT 1;

-- name: clock()
-- The server's time.
SELECT clock_timestamp() AS now;

-- name: durable_write()
-- The smallest thing whose commit waits for the disk: a message in the write-ahead log that nobody reads.
SELECT pg_logical_emit_message(true, 'perdure doctor', '') IS NOT NULL AS written;

-- name: notify(channel)
-- Ring a channel.
SELECT pg_notify(:channel, 'doctor') IS NULL AS rung;

-- name: hot_tables(schema)
-- Live and dead rows of the tables whose rows come and go.
SELECT s.relname AS name, s.n_live_tup AS live_rows, s.n_dead_tup AS dead_rows
FROM pg_stat_user_tables s
WHERE s.schemaname = :schema AND s.relname IN ('available_jobs', 'scheduled_jobs', 'blocked_jobs', 'parked_jobs', 'leases',
    'dead_letter_queue', 'unique_keys', 'workers', 'job_progress', 'cancel_requests')
ORDER BY s.n_dead_tup DESC, s.relname;

-- name: partitions_missing(schema)
-- The partitions of today and tomorrow (UTC) that do not exist.
SELECT (now() AT TIME ZONE 'UTC')::date AS today, array_agg(w.name ORDER BY w.name) FILTER (WHERE c.oid IS NULL) AS names
FROM (
    SELECT format('%s_%s', p.name, to_char(now() AT TIME ZONE 'UTC' + d.days * interval '1 day', 'YYYYMMDD')) AS name
    FROM unnest(ARRAY['jobs', 'job_executions', 'job_events', 'worker_samples']) AS p (name), generate_series(0, 1) AS d (days)
) w
LEFT JOIN pg_class c ON c.relname = w.name AND c.relnamespace = to_regnamespace(quote_ident(:schema));

-- name: workers(silent_ms)
-- How many workers live, and how many of them have been silent for longer or hear no notifications; why nothing may run.
SELECT count(*) AS alive, coalesce(sum(w.processes), 0) AS processes,
    count(*) FILTER (WHERE w.heartbeat_at < now() - :silent_ms::bigint * interval '1 millisecond') AS silent,
    count(*) FILTER (WHERE w.deaf > 0) AS deaf, perdure.halted_by() AS halted
FROM perdure.workers w WHERE w.state IN ('active', 'draining');
