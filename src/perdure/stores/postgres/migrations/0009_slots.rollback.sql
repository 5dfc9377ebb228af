DROP FUNCTION perdure.unpark(text[]);
DROP FUNCTION perdure.fill_slots(smallint[], integer[]);
DROP INDEX perdure.parked_jobs_next;
CREATE INDEX parked_jobs_next ON perdure.parked_jobs (concurrency_key, rank, job_id);
ALTER TABLE perdure.parked_jobs DROP COLUMN concurrency_limit;
ALTER TABLE perdure.available_jobs DROP COLUMN returned_key;
-- Let parked jobs of these concurrency keys try again: as many of each as slots of the key are free.
-- The key's lock is taken before looking, so that a slot freed at the same time is not overlooked.
-- from: available   to: available
CREATE FUNCTION perdure.unpark(keys text[])
RETURNS TABLE (lane integer, band smallint, rank bigint, job_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM perdure.lock_keys(keys);
    RETURN QUERY
    WITH room AS (
        -- The slots that the best ranked parked job may use; another of the same key may allow more or fewer.
        SELECT k.key, (
            SELECT count(*) FROM generate_series(1, (
                SELECT (SELECT j.concurrency_limit FROM perdure.jobs j WHERE j.id = p.job_id) FROM perdure.parked_jobs p
                WHERE p.concurrency_key = k.key ORDER BY p.rank, p.job_id LIMIT 1
            )) AS n (slot)
            WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.concurrency_key = k.key AND l.slot = n.slot)
        ) AS slots
        FROM (SELECT DISTINCT u.key FROM unnest(keys) AS u (key)) k
    ), chosen AS (
        SELECT c.job_id FROM room r CROSS JOIN LATERAL (
            SELECT p.job_id FROM perdure.parked_jobs p WHERE p.concurrency_key = r.key
            ORDER BY p.rank, p.job_id LIMIT r.slots
        ) c
    ), gone AS (
        DELETE FROM perdure.parked_jobs p USING chosen c WHERE p.job_id = c.job_id RETURNING p.*
    )
    INSERT INTO perdure.available_jobs (job_id, rank, available_at, lane, band, run, attempt, crashes, interruptions, suspicion, gated)
    SELECT g.job_id, g.rank, g.available_at, g.lane, g.band, g.run, g.attempt, g.crashes, g.interruptions, g.suspicion, true
    FROM gone g
    RETURNING available_jobs.lane, available_jobs.band, available_jobs.rank, available_jobs.job_id;
END $$;
