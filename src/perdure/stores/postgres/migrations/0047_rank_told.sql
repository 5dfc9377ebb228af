-- A single enqueue whose rank and band come with the call: its producer knows the server's clock to within the time of a round trip, and
-- to work them out again with each statement cost a third of what storing a job costs above a bare insert (docs/decisions/0032-what-a-single-enqueue-brings-along.md).

-- Store one plain job and commit, then ring the doorbell in a transaction of its own, as the procedures of the same name that producers of
-- earlier releases call. `told` is what the ring tells of other jobs beside this one; none when they are too many to tell, so that it
-- rings for all. Nothing is left in the second transaction that would have to be flushed: a ring is a hint.
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
