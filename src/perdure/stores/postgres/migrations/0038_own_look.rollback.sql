DROP FUNCTION perdure.resolve_blocked(uuid[], integer);
DROP FUNCTION perdure.settle_edges(uuid[], perdure.job_state, uuid[]);

-- Settle the edges of parents that have ended in `ended`, and let their children go: to available or scheduled
-- when no parent is missing, to cancelled where an edge says so, and then on to the children of those.
-- from: pending   to: available, scheduled, cancelled
CREATE FUNCTION perdure.settle_edges(parents uuid[], ended perdure.job_state)
RETURNS TABLE (lane integer, band smallint, rank bigint, job_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    freed uuid[];
    doomed uuid[];
BEGIN
    WITH edges AS (
        UPDATE perdure.job_dependencies d
        SET state = CASE WHEN ended = 'completed' OR d.on_failure = 'run' THEN 'satisfied' ELSE 'cancelled' END
            ::perdure.edge_state
        WHERE d.parent_id = ANY (parents) AND d.state = 'waiting'
            AND (ended = 'completed' OR d.on_failure <> 'hold')
        RETURNING d.child_id, d.state
    )
    SELECT array_agg(child_id ORDER BY child_id) FILTER (WHERE state = 'satisfied'),
           array_agg(DISTINCT child_id) FILTER (WHERE state = 'cancelled')
    INTO freed, doomed FROM edges;

    IF doomed IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM perdure.blocked_jobs b WHERE b.job_id = ANY (doomed)
            RETURNING b.job_id, b.lane, b.run
        ), history AS (
            INSERT INTO perdure.job_executions (job_id, lane, run, attempt, crashes, interruptions, outcome, state, cause)
            SELECT g.job_id, g.lane, g.run, 0, 0, 0, 'cancelled', 'cancelled', 'a parent ended ' || ended FROM gone g
        ), keys AS (
            DELETE FROM perdure.unique_keys u USING gone g
            WHERE u.job_id = g.job_id AND NOT perdure.counts_in(u.states, 'cancelled')
        )
        SELECT array_agg(g.job_id) INTO doomed FROM gone g;
        IF doomed IS NOT NULL THEN
            RETURN QUERY SELECT * FROM perdure.settle_edges(doomed, 'cancelled');
        END IF;
    END IF;

    IF freed IS NULL THEN
        RETURN;
    END IF;
    -- Locked in one order everywhere, so that parents that end together cannot deadlock on shared children.
    PERFORM FROM perdure.blocked_jobs b WHERE b.job_id = ANY (freed) ORDER BY b.job_id FOR UPDATE;
    UPDATE perdure.blocked_jobs b SET waiting = b.waiting - f.edges
    FROM (SELECT child_id, count(*) AS edges FROM unnest(freed) AS child_id GROUP BY child_id) f
    WHERE b.job_id = f.child_id;
    RETURN QUERY
    WITH ready AS (
        DELETE FROM perdure.blocked_jobs b WHERE b.job_id = ANY (freed) AND b.waiting = 0
        RETURNING b.*
    ), later AS (
        INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, run, gated)
        SELECT r.job_id, r.run_at, r.lane, r.priority, r.run, r.gated FROM ready r WHERE r.run_at > now()
    )
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, gated)
    SELECT r.job_id, perdure.rank_of(now(), r.priority), r.lane, perdure.band_of(r.priority, 0::smallint), r.run, r.gated
    FROM ready r WHERE r.run_at IS NULL OR r.run_at <= now()
    RETURNING available_jobs.lane, available_jobs.band, available_jobs.rank, available_jobs.job_id;
END $$;

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
CREATE FUNCTION perdure.resolve_blocked(children uuid[])
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
