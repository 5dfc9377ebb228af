-- The procedures that store a job, commit and ring, as migrations 17, 32 and 47 made them.

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

CREATE PROCEDURE perdure.enqueue_and_ring(job_id uuid, args jsonb, lane integer, priority smallint, max_attempts smallint,
    timeout_ms integer, crash_limit smallint, rank bigint, band smallint, channel text, told text)
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, timeout_ms, crash_limit, args)
    VALUES (job_id, lane, priority, max_attempts, timeout_ms, crash_limit, args);
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band) VALUES (job_id, rank, lane, band);
    COMMIT;
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_notify(channel, coalesce(concat(lane, ':', band, ':', rank) || told, ''));
END
$$;
