-- What a measurement asks of the database: how far a run has come, what it cost, and what it ran on.

-- name: alone()
-- Claim the schema of measurements for this session, and say whether that was possible.
SELECT pg_try_advisory_lock(hashtextextended('perdure bench', 0)) AS alone;

-- name: settled(queue)
-- How many jobs of a queue were completed, and the seconds from the first start to the last settling.
SELECT count(*) AS jobs, coalesce(extract(epoch FROM max(e.settled_at) - min(e.started_at)), 0)::float8 AS seconds
FROM perdure.job_executions e JOIN perdure.lanes l ON l.lane = e.lane
WHERE l.queue = :queue AND e.state = 'completed';

-- name: now()
-- The moment by the database's clock.
SELECT clock_timestamp() AS now;

-- name: pace(since, most, beside)
-- Of the jobs that were completed after a moment, in other queues than `beside`, the first ones: how many, and the seconds from the first start to the last settling.
SELECT count(*) AS jobs, coalesce(extract(epoch FROM max(f.settled_at) - min(f.started_at)), 0)::float8 AS seconds
FROM (
    SELECT e.settled_at, e.started_at FROM perdure.job_executions e
    WHERE e.settled_at > :since AND e.token IS NOT NULL AND e.state = 'completed'
        AND e.lane NOT IN (SELECT l.lane FROM perdure.lanes l WHERE l.queue = :beside)
    ORDER BY e.settled_at LIMIT :most
) f;

-- name: waiting(most)
-- How many jobs may start, up to so many.
SELECT count(*) AS jobs FROM (SELECT FROM perdure.available_jobs LIMIT :most) w;

-- name: vacuum()
-- What autovacuum would do in the middle of a drain once much has been stored.
VACUUM (ANALYZE) perdure.jobs, perdure.available_jobs, perdure.leases, perdure.job_executions;

-- name: may_checkpoint()
-- Whether this session may ask for a checkpoint.
SELECT pg_has_role('pg_checkpoint', 'USAGE') AS may;

-- name: checkpoint()
-- Write what is dirty: of a million new jobs most is, and whoever needs a page would have to write one first.
CHECKPOINT;

-- name: pin()
-- Give the transaction an id: while it is open, no row that is deleted after this can be vacuumed away. And let it be open for as
-- long as it takes, unlike those of all other sessions of ours.
SELECT pg_current_xact_id()::text AS xid, set_config('idle_in_transaction_session_timeout', '0', true) AS patience;

-- name: busy(queue)
-- Whether any job of a queue waits or runs. It is asked while jobs are drained and must not slow them down: the last of a queue
-- is the last to be claimed, so one look at the end of the index is enough, where its beginning is full of dead rows.
SELECT EXISTS (
    SELECT FROM perdure.lanes l WHERE l.queue = :queue AND (
        (SELECT a.job_id FROM perdure.available_jobs a WHERE a.lane = l.lane
            ORDER BY a.lane DESC, a.band DESC, a.rank DESC, a.job_id DESC LIMIT 1) IS NOT NULL
        OR EXISTS (SELECT FROM perdure.leases h WHERE h.lane = l.lane)
    )
) AS busy;

-- name: anything_busy()
-- Whether any job waits or runs; it looks where `busy` looks.
SELECT (SELECT a.job_id FROM perdure.available_jobs a ORDER BY a.lane DESC, a.band DESC, a.rank DESC, a.job_id DESC LIMIT 1) IS NOT NULL
    OR EXISTS (SELECT FROM perdure.leases) AS busy;

-- name: processes(worker_id)
-- How many processes of a worker have settled a job.
SELECT count(DISTINCT e.process) AS processes FROM perdure.job_executions e WHERE e.worker_id = :worker_id;

-- name: results(queue)
-- The results of the completed jobs of a queue, which are numbers.
SELECT (e.result #>> '{}')::float8 AS result
FROM perdure.job_executions e JOIN perdure.lanes l ON l.lane = e.lane
WHERE l.queue = :queue AND e.state = 'completed';

-- name: costs(schema)
-- Commits of this database, rows of a schema that were left dead, and bytes of WAL of the whole server, each since its beginning.
SELECT d.xact_commit AS commits, (pg_current_wal_insert_lsn() - '0/0')::bigint AS wal_bytes,
    (SELECT coalesce(sum(t.n_tup_upd + t.n_tup_del), 0)::bigint FROM pg_stat_user_tables t WHERE t.schemaname = :schema) AS dead_rows
FROM pg_stat_database d WHERE d.datname = current_database();

-- name: knows_calls()
-- Whether the extension that counts statements is there.
SELECT to_regclass('pg_stat_statements') IS NOT NULL AS known;

-- name: calls()
-- Statements of this database since the extension's beginning.
SELECT coalesce(sum(s.calls), 0)::bigint AS calls
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database();

-- name: server(names)
-- The settings of the server as people write them.
SELECT s.name, current_setting(s.name) AS value FROM pg_settings s WHERE s.name = ANY (:names::text[]) ORDER BY s.name;
