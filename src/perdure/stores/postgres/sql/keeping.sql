-- Upkeep: day partitions, sweeps in batches, dead rows. What a sweep deletes is found first and deleted only in the version found
-- (`xmin`), so that a row written anew meanwhile stays.

-- name: missing_partitions(ahead)
-- The day partitions that should be there and are not, the oldest first.
SELECT m.parent, m.name, m.day FROM perdure.missing_partitions(:ahead) m;

-- name: make_partition(parent, day)
-- Make one day partition; what comes back is why it was not made.
SELECT perdure.make_partition(:parent, :day) AS obstacle;

-- name: aged_partitions(kept_ms)
-- The day partitions older than the horizon: bodies before the history that they hold back, the oldest first.
SELECT d.parent, d.name, d.day, h.horizon
FROM perdure.day_partitions d CROSS JOIN (SELECT now() - :kept_ms::bigint * interval '1 millisecond' AS horizon) h
WHERE d.day + interval '1 day' <= h.horizon
ORDER BY d.parent <> 'jobs', d.parent, d.day;

-- name: drop_partition(parent, day, horizon)
-- Drop one day partition unless something speaks for keeping it.
SELECT d.verdict, d.why FROM perdure.drop_partition(:parent, :day, :horizon) d;

-- name: sweep_edges(most)
-- Delete edges of which an end lies in a day whose bodies were dropped: such a child has ended, and no such parent is waited for.
-- In such a gap between the day partitions only the default partition can still hold a body.
WITH gaps AS (
    SELECT perdure.id_floor(g.beginning) AS low, perdure.id_floor(g.day) AS high
    FROM (
        SELECT d.day, lag(d.day + interval '1 day', 1, 'epoch') OVER (ORDER BY d.day) AS beginning
        FROM perdure.day_partitions d WHERE d.parent = 'jobs'
    ) g
    WHERE g.beginning < g.day
), bare AS (
    SELECT e.at FROM gaps g CROSS JOIN LATERAL (
        SELECT c.ctid AS at FROM perdure.job_dependencies c
        WHERE c.child_id >= g.low AND c.child_id < g.high AND NOT EXISTS (SELECT FROM perdure.jobs_default j WHERE j.id = c.child_id)
        ORDER BY c.child_id LIMIT :most
    ) e
    UNION
    SELECT e.at FROM gaps g CROSS JOIN LATERAL (
        SELECT p.ctid AS at FROM perdure.job_dependencies p
        WHERE p.parent_id >= g.low AND p.parent_id < g.high AND NOT EXISTS (SELECT FROM perdure.jobs_default j WHERE j.id = p.parent_id)
        ORDER BY p.parent_id LIMIT :most
    ) e
    LIMIT :most
)
DELETE FROM perdure.job_dependencies d WHERE d.ctid = ANY (ARRAY(SELECT b.at FROM bare b))
RETURNING d.child_id;

-- name: sweep_expired_keys(most)
-- Delete unique keys that have run out.
DELETE FROM perdure.unique_keys u
WHERE u.expires_at <= now() AND u.key = ANY (ARRAY(
    SELECT k.key FROM perdure.unique_keys k WHERE k.expires_at <= now() ORDER BY k.expires_at LIMIT :most FOR UPDATE SKIP LOCKED
))
RETURNING u.key;

-- name: sweep_stray_keys(after, most)
-- Look at the next unique keys in the order of keys, and delete those whose job has left the states that they count. Every move
-- keeps the keys, so that strays tell of a restore or of a row that was changed by hand.
WITH looked AS MATERIALIZED (
    SELECT u.key, u.job_id, u.states, u.xmin AS version FROM perdure.unique_keys u WHERE u.key > :after ORDER BY u.key LIMIT :most
), stray AS (
    DELETE FROM perdure.unique_keys u USING looked l
    WHERE u.key = l.key AND u.xmin = l.version
        AND NOT EXISTS (SELECT FROM perdure.standing(l.job_id) s WHERE perdure.counts_in(l.states, s.state))
    RETURNING u.key
)
SELECT l.key, EXISTS (SELECT FROM stray s WHERE s.key = l.key) AS swept FROM looked l ORDER BY l.key;

-- name: sweep_cancel_requests(most)
-- Forget requests to cancel jobs that have ended. One whose lease is gone while its job lives on is still to be carried out.
WITH void AS MATERIALIZED (
    SELECT c.job_id, c.xmin AS version FROM perdure.cancel_requests c
    WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = c.job_id)
        AND NOT EXISTS (SELECT FROM perdure.available_jobs a WHERE a.job_id = c.job_id)
        AND NOT EXISTS (SELECT FROM perdure.parked_jobs p WHERE p.job_id = c.job_id)
        AND NOT EXISTS (SELECT FROM perdure.scheduled_jobs s WHERE s.job_id = c.job_id)
        AND NOT EXISTS (SELECT FROM perdure.blocked_jobs b WHERE b.job_id = c.job_id)
    LIMIT :most
)
DELETE FROM perdure.cancel_requests c USING void v WHERE c.job_id = v.job_id AND c.xmin = v.version
RETURNING c.job_id;

-- name: sweep_progress(most)
-- Forget what jobs said of their progress that have not run for a minute.
WITH over AS MATERIALIZED (
    SELECT p.job_id, p.xmin AS version FROM perdure.job_progress p
    WHERE p.updated_at < now() - interval '1 minute' AND NOT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = p.job_id)
    LIMIT :most
)
DELETE FROM perdure.job_progress p USING over o WHERE p.job_id = o.job_id AND p.xmin = o.version
RETURNING p.job_id;

-- name: sweep_shared_memory(most)
-- Delete entries of the shared memory that have run out, unless they were written anew meanwhile.
DELETE FROM perdure.shared_memory m
WHERE m.expires_at <= now() AND m.ctid = ANY (ARRAY(
    SELECT o.ctid FROM perdure.shared_memory o WHERE o.expires_at <= now() ORDER BY o.expires_at LIMIT :most FOR UPDATE SKIP LOCKED
))
RETURNING m.key;

-- name: bloated()
-- The small hot tables with more dead rows than live ones, not vacuumed within the last minute, that this user may vacuum.
SELECT s.relname FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.relid IN ('perdure.available_jobs'::regclass, 'perdure.scheduled_jobs'::regclass, 'perdure.leases'::regclass,
        'perdure.parked_jobs'::regclass, 'perdure.blocked_jobs'::regclass, 'perdure.unique_keys'::regclass)
    AND s.n_dead_tup > greatest(10000, s.n_live_tup)
    AND coalesce(greatest(s.last_vacuum, s.last_autovacuum), '-infinity') < now() - interval '1 minute'
    AND (pg_has_role(c.relowner, 'USAGE')
        OR pg_has_role((SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()), 'USAGE'));

-- name: vacuum_available_jobs()
-- Without truncation, which would lock the table; passed over while autovacuum is at it.
VACUUM (SKIP_LOCKED, TRUNCATE false) perdure.available_jobs;

-- name: vacuum_scheduled_jobs()
-- As for available_jobs.
VACUUM (SKIP_LOCKED, TRUNCATE false) perdure.scheduled_jobs;

-- name: vacuum_leases()
-- As for available_jobs.
VACUUM (SKIP_LOCKED, TRUNCATE false) perdure.leases;

-- name: vacuum_parked_jobs()
-- As for available_jobs.
VACUUM (SKIP_LOCKED, TRUNCATE false) perdure.parked_jobs;

-- name: vacuum_blocked_jobs()
-- As for available_jobs.
VACUUM (SKIP_LOCKED, TRUNCATE false) perdure.blocked_jobs;

-- name: vacuum_unique_keys()
-- As for available_jobs.
VACUUM (SKIP_LOCKED, TRUNCATE false) perdure.unique_keys;
