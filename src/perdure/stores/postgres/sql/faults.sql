-- What a torture run does to the database, and what it asks of it besides the promises.

-- name: make_effects()
-- Where handlers leave a mark in their own transaction; it may be left twice, so that doing things twice is seen.
CREATE TABLE IF NOT EXISTS perdure.torture_effects (job_id uuid NOT NULL);

-- name: leave_effect(job_id)
-- The mark of one job.
INSERT INTO perdure.torture_effects (job_id) VALUES (:job_id);

-- name: wrong_effects(kind)
-- Jobs whose mark is there more than once, or there though they have not completed, or missing though they have.
SELECT count(*) AS jobs
FROM (
    SELECT e.job_id FROM perdure.job_executions e JOIN perdure.lanes l ON l.lane = e.lane
    WHERE l.kind = :kind AND e.state = 'completed'
) done
FULL JOIN (SELECT m.job_id, count(*) AS marks FROM perdure.torture_effects m GROUP BY m.job_id) marked USING (job_id)
WHERE marked.marks IS DISTINCT FROM 1 OR done.job_id IS NULL;

-- name: unfinished(since, before)
-- Jobs made between two moments that have not ended; an id carries when its job was made.
SELECT (SELECT count(*) FROM perdure.available_jobs a WHERE a.job_id >= :since AND a.job_id < :before)
    + (SELECT count(*) FROM perdure.scheduled_jobs s WHERE s.job_id >= :since AND s.job_id < :before)
    + (SELECT count(*) FROM perdure.leases h WHERE h.job_id >= :since AND h.job_id < :before)
    + (SELECT count(*) FROM perdure.blocked_jobs b WHERE b.job_id >= :since AND b.job_id < :before)
    + (SELECT count(*) FROM perdure.parked_jobs p WHERE p.job_id >= :since AND p.job_id < :before) AS jobs;

-- name: oldest_unfinished()
-- The oldest jobs that have not ended, in words.
SELECT concat_ws(' ', s.job_id, l.kind, s.state, 'attempt', s.attempt, 'since', s.since, 'at worker ' || h.worker_id) AS words
FROM perdure.job_states s LEFT JOIN perdure.lanes l USING (lane) LEFT JOIN perdure.leases h USING (job_id)
WHERE s.state NOT IN ('completed', 'cancelled', 'discarded') ORDER BY s.job_id LIMIT 5;

-- name: missing(ids)
-- How many of these jobs, each of which was acknowledged to its producer, are nowhere.
SELECT count(*) AS jobs FROM unnest(:ids::uuid[]) AS acknowledged (id)
WHERE NOT EXISTS (SELECT FROM perdure.jobs j WHERE j.id = acknowledged.id);

-- name: outcomes()
-- How many attempts ended in which way.
SELECT e.outcome::text AS outcome, count(*) AS attempts FROM perdure.job_executions e GROUP BY e.outcome ORDER BY e.outcome;

-- name: held(worker_id)
-- How many jobs a worker holds.
SELECT count(*) AS jobs FROM perdure.leases h WHERE h.worker_id = :worker_id;

-- name: attempts(job_id)
-- The attempts of one job, in their order.
SELECT e.outcome::text AS outcome, e.attempt, e.isolated, e.worker_id, e.cause, extract(epoch FROM e.claimed_at)::float8 AS claimed
FROM perdure.job_executions e WHERE e.job_id = :job_id ORDER BY e.settled_at;

-- name: letter(job_id)
-- Why a job is in the dead letter queue; no row when it is not.
SELECT d.cause FROM perdure.dead_letter_queue d WHERE d.job_id = :job_id;

-- name: workers_in(state)
-- How many workers are in a state.
SELECT count(*) AS workers FROM perdure.workers w WHERE w.state::text = :state;

-- name: events(event)
-- How many events of one kind were recorded.
SELECT count(*) AS events FROM perdure.job_events v WHERE v.event = :event;

-- name: leader()
-- The process number of the supervisor that leads; no row while nobody does.
SELECT w.pid FROM perdure.leaders l JOIN perdure.workers w ON w.id = l.holder WHERE l.expires_at > now();

-- name: waits(priority)
-- The waits of the completed jobs of a priority in milliseconds: the median and the 99th of 100.
SELECT coalesce(percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
    ORDER BY extract(epoch FROM e.claimed_at - e.available_at) * 1000), ARRAY[0, 0])::float8[] AS ms
FROM perdure.job_executions e JOIN perdure.jobs j ON j.id = e.job_id
WHERE e.state = 'completed' AND j.priority = :priority;

-- name: lags()
-- How long after their time delayed jobs were claimed, in milliseconds: the median and the 99th of 100.
SELECT coalesce(percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
    ORDER BY extract(epoch FROM e.claimed_at - (v.detail ->> 'run_at')::timestamptz) * 1000), ARRAY[0, 0])::float8[] AS ms
FROM perdure.job_executions e JOIN perdure.job_events v ON v.job_id = e.job_id
WHERE e.state = 'completed' AND e.attempt = 1 AND v.event = 'staged';

-- name: terminate()
-- End all sessions of workers and producers.
SELECT count(pg_terminate_backend(a.pid)) AS sessions FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() AND a.application_name LIKE 'perdure%';

-- name: sessions_of_workers()
-- How many connections workers have: their supervisors, and the processes that run jobs.
SELECT count(*) AS sessions FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.application_name LIKE 'perdure%' AND a.application_name <> 'perdure producer';

-- name: commits()
-- Transactions of this database since its beginning.
SELECT d.xact_commit AS commits FROM pg_stat_database d WHERE d.datname = current_database();

-- name: refuse_writes()
-- Every new transaction is read-only, as on a server that was set so or lost its primary's role.
ALTER SYSTEM SET default_transaction_read_only = on;

-- name: allow_writes()
-- Writes are allowed again.
ALTER SYSTEM RESET default_transaction_read_only;

-- name: reload()
-- Have the server read its settings again.
SELECT pg_reload_conf() AS done;

-- name: make_traps()
-- What makes statements that write to a table fail by chance, one in twenty, as with a serialization failure or a deadlock.
DO $traps$
BEGIN
    EXECUTE $make$
        CREATE OR REPLACE FUNCTION perdure.torture_trap() RETURNS trigger LANGUAGE plpgsql AS $body$
        BEGIN
            IF random() < 0.05 THEN
                RAISE EXCEPTION 'injected by a torture run'
                    USING ERRCODE = CASE WHEN random() < 0.5 THEN 'serialization_failure' ELSE 'deadlock_detected' END;
            END IF;
            RETURN NULL;
        END $body$
    $make$;
END $traps$;

-- name: set_trap(table_name)
-- The commands that set a trap on a table and take it away; each locks that table alone, so that nobody waits in a circle.
SELECT format('CREATE TRIGGER torture_trap AFTER INSERT OR UPDATE OR DELETE ON perdure.%I EXECUTE FUNCTION perdure.torture_trap()', :table_name::text) AS set,
    format('DROP TRIGGER IF EXISTS torture_trap ON perdure.%I', :table_name::text) AS take_away;

-- name: hold_history()
-- Within a transaction of the caller: nobody can store a result.
LOCK TABLE perdure.job_executions IN ACCESS EXCLUSIVE MODE;

-- name: look_at_jobs()
-- The first look of a transaction that stays open: from now on no dead row that is younger can be removed.
SELECT count(*) AS jobs FROM perdure.available_jobs a;

-- name: session_settings()
-- What this session was told by SET.
SELECT s.name || ' = ' || s.setting AS name FROM pg_settings s WHERE s.source = 'session';
