-- A single enqueue that rings tells of other jobs, too, so that its producer need not ring for them by a call of its own.

-- As the procedure of the same name without `told`, which producers of an earlier release call. `told` is what the ring tells of
-- other jobs beside this one; none when they are too many to tell, so that it rings for all.
CREATE PROCEDURE perdure.enqueue_and_ring(job_id uuid, args jsonb, lane integer, priority smallint, max_attempts smallint,
    timeout_ms integer, crash_limit smallint, channel text, told text, INOUT rank bigint)
LANGUAGE plpgsql AS $$
DECLARE
    band smallint := perdure.band_of(priority, 0::smallint);
BEGIN
    rank := perdure.rank_of(now(), priority);
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, timeout_ms, crash_limit, args)
    VALUES (job_id, lane, priority, max_attempts, timeout_ms, crash_limit, args);
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band) VALUES (job_id, rank, lane, band);
    COMMIT;
    PERFORM pg_notify(channel, coalesce(concat(lane, ':', band, ':', rank) || told, ''));
END
$$;
