-- A single enqueue that rings by itself, so that a waiting worker hears of the job one round trip sooner.

-- Store one plain job and commit, then ring the doorbell in a transaction of its own. Not in the same one: a transaction that
-- notifies holds a lock of the whole server until its commit is flushed, so that all that notify would wait for the disk in turn.
CREATE PROCEDURE perdure.enqueue_and_ring(job_id uuid, args jsonb, lane integer, priority smallint, max_attempts smallint,
    timeout_ms integer, crash_limit smallint, channel text, INOUT rank bigint)
LANGUAGE plpgsql AS $$
DECLARE
    band smallint := perdure.band_of(priority, 0::smallint);
BEGIN
    rank := perdure.rank_of(now(), priority);
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, timeout_ms, crash_limit, args)
    VALUES (job_id, lane, priority, max_attempts, timeout_ms, crash_limit, args);
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band) VALUES (job_id, rank, lane, band);
    COMMIT;
    PERFORM pg_notify(channel, concat(lane, ':', band, ':', rank));
END
$$;
