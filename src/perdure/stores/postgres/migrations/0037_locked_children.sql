-- The second look at parents waits for nobody.

-- Look at the parents of blocked jobs once more and settle the edges of those that have ended. A parent that ended while its child
-- was being written cannot have seen the edge. Who could end one so has taken its snapshot before the child was committed. As
-- long as such a snapshot is in use anywhere, whether its transaction has an id already or not, nothing is concluded. Once none
-- is, whoever had one has got its id before this transaction gets its own, `looked_xid`; and once none of those runs, the row is
-- verified and needs no further look. (The end of a snapshot would not do for that: it may lie below transactions that run.)
-- Looks grow rarer, so that an old transaction elsewhere neither makes them dear nor keeps others from their look.
-- A child that another transaction has locked is passed over and looked at in a later round: it may be the transaction of a handler
-- that completes a parent by itself, open for as long as its owner likes. Whoever has just written the children has an id already,
-- and nobody else sees them.
-- from: pending   to: available, scheduled, cancelled
CREATE OR REPLACE FUNCTION perdure.resolve_blocked(children uuid[])
RETURNS TABLE (lane integer, band smallint, rank bigint, job_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    seen pg_snapshot := pg_current_snapshot();
    oldest integer;
    ended record;
BEGIN
    -- Before this transaction gets an id, or one that has just let its snapshot go could have a later one.
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        SELECT coalesce(max(age(a.backend_xmin)), -1) INTO oldest FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker';
        children := ARRAY(SELECT b.job_id FROM perdure.blocked_jobs b WHERE b.job_id = ANY (children) FOR UPDATE SKIP LOCKED);
    END IF;
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
        looked_xid = coalesce(b.looked_xid, CASE WHEN age(b.xid::xid) > oldest THEN pg_current_xact_id() END),
        look_at = now() + greatest(now() - b.since, interval '1 second')
    WHERE b.job_id = ANY (children) AND NOT b.verified AND b.xid <> pg_current_xact_id();
END $$;
