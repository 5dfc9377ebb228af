-- How an edge stood at a cut is told by its row. What parents had become told otherwise: of one that had ended before its child came and
-- was replayed, and of one that ended unseen while its child was written, until the second look.

ALTER TABLE perdure.restores ADD COLUMN end_xid xid8;

-- Whether a restore in place has changed jobs since a cut, so that edges may have been opened again. (A restore has a cut of its own.)
CREATE FUNCTION perdure.restored_since(since pg_snapshot) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM perdure.restores r WHERE r.before IS NOT NULL AND NOT coalesce(perdure.seen(r.end_xid, since), false))
$$;

-- How an edge stood at a cut, by its row: as it stands when nobody has written it since, or its child alone has; else it waited, for an edge
-- ends once in a run of its child. NULL where the row cannot tell: of a cut before a disaster, or before a restore that opened edges again, or
-- before its child was given a run of its own, or while a transaction was open that may have written it.
CREATE FUNCTION perdure.edge_at(child_id uuid, state perdure.edge_state, written xid8, child_xid xid8, cut pg_snapshot, restored boolean)
RETURNS perdure.edge_state LANGUAGE sql STABLE RETURN CASE
    WHEN perdure.in_order(written) < perdure.in_order(pg_snapshot_xmin(cut)) OR written = child_xid THEN state
    WHEN state <> 'waiting' AND NOT restored AND perdure.in_order(pg_snapshot_xmin(cut)) > 0 AND NOT perdure.seen(written, cut)
        AND NOT EXISTS (SELECT FROM perdure.job_events v WHERE v.job_id = child_id AND v.detail ? 'delay_ms' AND NOT perdure.seen(v.xid, cut))
        THEN 'waiting'::perdure.edge_state END;

-- The edges of the jobs that were there at a cut. Where its row cannot tell, an edge was satisfied when its parent had ended in a way that
-- satisfies it since the child was there, or when the child had been given a run of its own; of a parent whose history is gone the present tells.
CREATE OR REPLACE FUNCTION perdure.job_dependencies_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    child_id uuid, parent_id uuid, on_failure perdure.on_parent_failure, state perdure.edge_state
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH restored AS MATERIALIZED (
        SELECT perdure.restored_since(cut) AS is_so
    ), standings AS MATERIALIZED (
        SELECT s.job_id, s.state FROM perdure.standings_at(cut, newest, open_since) s
    )
    SELECT d.child_id, d.parent_id, d.on_failure, CASE
        WHEN o.state IS NOT NULL THEN o.state::text
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
    FROM restored r CROSS JOIN perdure.job_dependencies d
    JOIN perdure.jobs j ON j.id = d.child_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL (SELECT perdure.edge_at(d.child_id, d.state, perdure.written_by(d.xmin), j.xid, cut, r.is_so) AS state) o
    LEFT JOIN standings p ON p.job_id = d.parent_id
    WHERE d.child_id <= newest
$$;
