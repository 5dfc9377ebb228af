DROP FUNCTION perdure.letters_at(pg_snapshot);
DROP FUNCTION perdure.standings_at(pg_snapshot, uuid, timestamptz);
DROP FUNCTION perdure.standing_at(uuid, pg_snapshot);
DROP FUNCTION perdure.live_row(uuid);
DROP FUNCTION perdure.seen(xid8, pg_snapshot);
DROP TRIGGER workers_made ON perdure.workers;
DROP TRIGGER workers_changed ON perdure.workers;
DROP FUNCTION perdure.keep_worker();
DROP TABLE perdure.worker_history;
DROP TABLE perdure.moments;
ALTER TABLE perdure.queues DROP COLUMN xid;
DROP FUNCTION perdure.unpark(text[]);
-- Let parked jobs of these concurrency keys try again: those that would get the free slots of their key. Of each limit the best ranked are
-- looked at, as many as slots are free, so that however many wait behind a small limit, the others are found.
-- The key's lock is taken before looking, so that a slot freed at the same time is not overlooked.
-- from: available   to: available
CREATE FUNCTION perdure.unpark(keys text[])
RETURNS TABLE (lane integer, band smallint, rank bigint, job_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM perdure.lock_keys(keys);
    RETURN QUERY
    WITH limits AS (
        SELECT k.key, l.most FROM (SELECT DISTINCT u.key FROM unnest(keys) AS u (key)) k
        CROSS JOIN LATERAL (
            WITH RECURSIVE hop AS (
                (SELECT p.concurrency_limit AS most FROM perdure.parked_jobs p WHERE p.concurrency_key = k.key
                ORDER BY p.concurrency_limit DESC LIMIT 1)
                UNION ALL
                SELECT (SELECT p.concurrency_limit FROM perdure.parked_jobs p WHERE p.concurrency_key = k.key
                    AND p.concurrency_limit < h.most ORDER BY p.concurrency_limit DESC LIMIT 1)
                FROM hop h WHERE h.most IS NOT NULL
            )
            SELECT h.most FROM hop h WHERE h.most IS NOT NULL
        ) l
    ), free AS MATERIALIZED (
        SELECT m.key, ARRAY(
            SELECT n.slot FROM generate_series(1, m.most) AS n (slot)
            WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.concurrency_key = m.key AND l.slot = n.slot) ORDER BY n.slot
        ) AS slots
        FROM (SELECT l.key, max(l.most) AS most FROM limits l GROUP BY l.key) m
    ), contenders AS (
        SELECT l.key, l.most, c.rank, c.job_id FROM limits l JOIN free f ON f.key = l.key
        CROSS JOIN LATERAL (
            SELECT p.rank, p.job_id FROM perdure.parked_jobs p WHERE p.concurrency_key = l.key AND p.concurrency_limit = l.most
            ORDER BY p.rank, p.job_id LIMIT cardinality(f.slots)
        ) c
    ), filled AS (
        SELECT array_agg(c.job_id ORDER BY c.rank, c.job_id) AS ids,
            perdure.fill_slots(array_agg(c.most ORDER BY c.rank, c.job_id), (SELECT f.slots FROM free f WHERE f.key = c.key)) AS slots
        FROM contenders c GROUP BY c.key
    ), chosen AS (
        SELECT u.job_id FROM filled f CROSS JOIN LATERAL unnest(f.ids, f.slots) AS u (job_id, slot) WHERE u.slot IS NOT NULL
    ), gone AS (
        DELETE FROM perdure.parked_jobs p USING chosen c WHERE p.job_id = c.job_id RETURNING p.*
    )
    INSERT INTO perdure.available_jobs (job_id, rank, available_at, lane, band, run, attempt, crashes, interruptions, suspicion, gated,
        returned_key)
    SELECT g.job_id, g.rank, g.available_at, g.lane, g.band, g.run, g.attempt, g.crashes, g.interruptions, g.suspicion, true,
        g.concurrency_key
    FROM gone g
    RETURNING available_jobs.lane, available_jobs.band, available_jobs.rank, available_jobs.job_id;
END $$;
