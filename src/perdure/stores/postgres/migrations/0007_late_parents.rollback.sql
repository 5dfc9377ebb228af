DROP FUNCTION perdure.resolve_blocked(uuid[]);
-- Look at the parents of blocked jobs once more and settle the edges of those that have ended. A parent that ended
-- while its child was being written cannot have seen the edge. Whoever ends one so has got its transaction id before the
-- child was first seen here, and so before this transaction got its own (the end of a snapshot would not do: it may lie
-- below transactions that run). Once none of those runs, the row is verified and needs no further look. Looks grow
-- rarer, so that an old transaction elsewhere neither makes them dear nor keeps others from their look.
-- from: pending   to: available, scheduled, cancelled
CREATE FUNCTION perdure.resolve_blocked(children uuid[])
RETURNS TABLE (lane integer, band smallint, rank bigint, job_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    seen pg_snapshot := pg_current_snapshot();
    ended record;
BEGIN
    FOR ended IN
        SELECT e.state, array_agg(e.job_id) AS ids
        FROM perdure.endings(ARRAY(
            SELECT DISTINCT d.parent_id FROM perdure.job_dependencies d
            WHERE d.child_id = ANY (children) AND d.state = 'waiting'
        )) e GROUP BY e.state
    LOOP
        RETURN QUERY SELECT * FROM perdure.settle_edges(ended.ids, ended.state);
    END LOOP;
    UPDATE perdure.blocked_jobs b SET verified = coalesce(b.looked_xid <= pg_snapshot_xmin(seen), false),
        looked_xid = coalesce(b.looked_xid, pg_current_xact_id()),
        look_at = now() + greatest(now() - b.since, interval '1 second')
    WHERE b.job_id = ANY (children) AND NOT b.verified AND b.xid <> pg_current_xact_id();
END $$;
