-- The edges of the jobs that were there at a cut. An edge was satisfied when its parent had ended in a way that satisfies it since the child was there, or
-- when the child had been given a run of its own; of a parent whose history is gone the present tells.
CREATE OR REPLACE FUNCTION perdure.job_dependencies_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    child_id uuid, parent_id uuid, on_failure perdure.on_parent_failure, state perdure.edge_state
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH standings AS MATERIALIZED (
        SELECT s.job_id, s.state FROM perdure.standings_at(cut, newest, open_since) s
    )
    SELECT d.child_id, d.parent_id, d.on_failure, CASE
        WHEN EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND perdure.seen(e.settle_xid, cut) AND e.settled_at >= j.enqueued_at
                AND (e.state = 'completed' OR (d.on_failure = 'run' AND e.state IN ('cancelled', 'discarded')))
        ) OR EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = d.child_id AND v.detail ? 'delay_ms' AND perdure.seen(v.xid, cut)
        ) THEN 'satisfied'
        WHEN p.state IS NULL THEN CASE WHEN EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND e.state = 'completed' AND perdure.seen(e.settle_xid, cut)
        ) THEN 'satisfied' ELSE d.state::text END
        WHEN d.on_failure = 'run' AND p.state IN ('cancelled', 'discarded') THEN 'satisfied'
        WHEN d.on_failure = 'cancel' AND p.state IN ('cancelled', 'discarded') THEN 'cancelled'
        ELSE 'waiting' END::perdure.edge_state
    FROM perdure.job_dependencies d
    JOIN perdure.jobs j ON j.id = d.child_id AND perdure.seen(j.xid, cut)
    LEFT JOIN standings p ON p.job_id = d.parent_id
    WHERE d.child_id <= newest
$$;

DROP FUNCTION perdure.edge_at(uuid, perdure.edge_state, xid8, xid8, pg_snapshot, boolean);
DROP FUNCTION perdure.restored_since(pg_snapshot);
ALTER TABLE perdure.restores DROP COLUMN end_xid;
