DROP FUNCTION perdure.estimated_rows(regclass);
DROP FUNCTION perdure.counted_since(timestamptz);
DROP TABLE perdure.recent_counts;
DROP TABLE perdure.levels;
-- The dead letters of a cut: what had been discarded, and neither been replayed nor acknowledged.
CREATE OR REPLACE FUNCTION perdure.letters_at(cut pg_snapshot) RETURNS TABLE (
    job_id uuid, dead_at timestamptz, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint,
    outcome perdure.outcome, fingerprint text, cause text, error jsonb
) LANGUAGE sql STABLE AS $$
    SELECT e.job_id, e.settled_at, e.lane, e.run, e.attempt, e.crashes, e.interruptions, e.outcome,
        coalesce(nullif(e.error ->> 'fingerprint', ''), e.outcome::text), coalesce(e.cause, ''), e.error
    FROM perdure.job_executions e CROSS JOIN LATERAL perdure.standing_at(e.job_id, cut) s
    WHERE e.state = 'discarded' AND perdure.seen(e.settle_xid, cut) AND s.state = 'discarded' AND s.run = e.run
        AND NOT EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = e.job_id AND v.event = 'dead_letter_discarded'
                AND (v.detail ->> 'run')::smallint = e.run AND perdure.seen(v.xid, cut)
        )
$$;
