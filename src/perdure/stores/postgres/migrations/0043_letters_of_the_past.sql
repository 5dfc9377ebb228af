-- The dead letters of a cut, those first that are there still. Of the others, few as a rule, each is looked up by itself: a join read all
-- attempts that had ever given up.
CREATE OR REPLACE FUNCTION perdure.letters_at(cut pg_snapshot) RETURNS TABLE (
    job_id uuid, dead_at timestamptz, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint,
    outcome perdure.outcome, fingerprint text, cause text, error jsonb
) LANGUAGE sql STABLE AS $$
    WITH gone AS MATERIALIZED (
        SELECT DISTINCT e.job_id FROM perdure.job_executions e
        WHERE e.state IN ('cancelled', 'discarded')
            AND NOT EXISTS (SELECT FROM perdure.dead_letter_queue d WHERE d.job_id = e.job_id AND perdure.seen(d.xid, cut))
    )
    SELECT d.job_id, d.dead_at, d.lane, d.run, d.attempt, d.crashes, d.interruptions, d.outcome, d.fingerprint, d.cause, d.error
    FROM perdure.dead_letter_queue d WHERE perdure.seen(d.xid, cut)
    UNION ALL
    SELECT e.job_id, e.settled_at, e.lane, e.run, e.attempt, e.crashes, e.interruptions, e.outcome,
        coalesce(nullif(e.error ->> 'fingerprint', ''), e.outcome::text), coalesce(e.cause, ''), e.error
    FROM gone g
    CROSS JOIN LATERAL (
        SELECT x.* FROM perdure.job_executions x WHERE x.job_id = g.job_id AND x.state = 'discarded' AND perdure.seen(x.settle_xid, cut) OFFSET 0
    ) e
    CROSS JOIN LATERAL perdure.standing_at(e.job_id, cut) s
    WHERE s.state = 'discarded' AND s.run = e.run
        AND NOT EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = e.job_id AND v.event = 'dead_letter_discarded'
                AND (v.detail ->> 'run')::smallint = e.run AND perdure.seen(v.xid, cut)
        )
$$;
