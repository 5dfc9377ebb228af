-- Least privilege: a role each for those who enqueue, who work and who look. Run it as the owner of the tables, and again after each
-- `perdure db migrate`, which knows nothing of it. The roles cannot log in: grant them to users that can, as
--     CREATE ROLE web LOGIN PASSWORD '...' IN ROLE perdure_producer;
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['perdure_producer', 'perdure_worker', 'perdure_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END $$;

-- From nothing on, so that a right that was taken out of this file is taken from the roles too.
REVOKE ALL ON ALL TABLES IN SCHEMA perdure FROM perdure_producer, perdure_worker, perdure_reader;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA perdure FROM perdure_producer, perdure_worker, perdure_reader;
GRANT USAGE ON SCHEMA perdure TO perdure_producer, perdure_worker, perdure_reader;

-- A producer stores plain jobs itself and all others through `enqueue_jobs`; it sees no job, its own ones included.
GRANT SELECT ON perdure.migrations, perdure.lanes TO perdure_producer;
GRANT INSERT (id, lane, priority, max_attempts, timeout_ms, crash_limit, args) ON perdure.jobs TO perdure_producer;
GRANT INSERT (job_id, rank, lane, band), SELECT (rank) ON perdure.available_jobs TO perdure_producer;
ALTER FUNCTION perdure.enqueue_jobs(jsonb, text) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION perdure.enqueue_jobs(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.enqueue_jobs(jsonb, text) TO perdure_producer;
ALTER FUNCTION perdure.ensure_lanes(jsonb) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION perdure.ensure_lanes(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.ensure_lanes(jsonb) TO perdure_producer;
GRANT EXECUTE ON FUNCTION perdure.halt(integer, text, text), perdure.tell_forgotten(integer, text, uuid[], uuid[])
    TO perdure_producer, perdure_worker;

-- A worker moves jobs and adds to the history; it changes no body, no history, no setting and no table, and adopts no epoch.
GRANT perdure_producer TO perdure_worker;
GRANT SELECT ON ALL TABLES IN SCHEMA perdure TO perdure_worker, perdure_reader;
GRANT INSERT, UPDATE, DELETE ON perdure.available_jobs, perdure.parked_jobs, perdure.scheduled_jobs, perdure.blocked_jobs, perdure.leases,
    perdure.dead_letter_queue, perdure.unique_keys, perdure.job_dependencies, perdure.cancel_requests, perdure.job_progress, perdure.workers,
    perdure.leaders, perdure.moments, perdure.request_keys, perdure.shared_memory, perdure.worker_samples, perdure.restores, perdure.restore_items,
    perdure.alerts, perdure.alert_counts, perdure.minute_counts, perdure.levels, perdure.recent_counts, perdure.alert_watch, perdure.known_errors,
    perdure.alert_messages, perdure.alert_silences,
    perdure.models, perdure.followed_advice TO perdure_worker;
GRANT UPDATE ON perdure.model_posts TO perdure_worker; -- the leader trains, promotes and rolls back
GRANT UPDATE (newest_at, unverified_since) ON perdure.snapshot_policy TO perdure_worker; -- the leader takes automatic snapshots
GRANT INSERT ON perdure.job_executions, perdure.job_events TO perdure_worker;
GRANT INSERT (name) ON perdure.queues TO perdure_worker; -- a queue is known once it is served; its settings are the owner's
GRANT INSERT, DELETE ON perdure.worker_history TO perdure_worker; -- the leader forgets what is past the retention
GRANT USAGE ON ALL SEQUENCES IN SCHEMA perdure TO perdure_worker;
-- The leader makes and drops day partitions; what is still needed the function itself does not drop.
REVOKE EXECUTE ON FUNCTION perdure.make_partition(text, timestamptz), perdure.drop_partition(text, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.make_partition(text, timestamptz), perdure.drop_partition(text, timestamptz, timestamptz) TO perdure_worker;
ALTER FUNCTION perdure.make_partition(text, timestamptz) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION perdure.drop_partition(text, timestamptz, timestamptz) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
