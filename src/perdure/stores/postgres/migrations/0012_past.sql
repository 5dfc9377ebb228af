-- The past: moments to look back to, what a row that moves would take with it, and where each job stood at a cut.

-- The moments to look back to, about a second apart while somebody leads. `cut` tells which transactions had committed, `newest` is
-- the greatest id of a job that was there, and no transaction that was open then had begun before `open_since`.
CREATE TABLE perdure.moments (
    at timestamptz NOT NULL PRIMARY KEY,
    cut pg_snapshot NOT NULL,
    newest uuid NOT NULL,
    open_since timestamptz NOT NULL
);

-- What each worker was, from each change on; a heartbeat is none.
CREATE TABLE perdure.worker_history (
    worker_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    state perdure.worker_state NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    type text NOT NULL,
    queues text[] NOT NULL,
    kinds text[] NOT NULL,
    labels text[] NOT NULL,
    capacity integer NOT NULL,
    processes integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    stopped_at timestamptz,
    cordoned_at timestamptz,
    cause text
);
CREATE INDEX worker_history_worker ON perdure.worker_history (worker_id, at);
CREATE INDEX worker_history_at ON perdure.worker_history (at);

CREATE FUNCTION perdure.keep_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO perdure.worker_history (worker_id, state, name, host, pid, type, queues, kinds, labels, capacity, processes, version,
        started_at, stopped_at, cordoned_at, cause)
    VALUES (NEW.id, NEW.state, NEW.name, NEW.host, NEW.pid, NEW.type, NEW.queues, NEW.kinds, NEW.labels, NEW.capacity, NEW.processes,
        NEW.version, NEW.started_at, NEW.stopped_at, NEW.cordoned_at, NEW.cause);
    RETURN NULL;
END $$;
CREATE TRIGGER workers_made AFTER INSERT ON perdure.workers FOR EACH ROW EXECUTE FUNCTION perdure.keep_worker();
CREATE TRIGGER workers_changed AFTER UPDATE ON perdure.workers FOR EACH ROW
    WHEN (OLD.state <> NEW.state OR OLD.kinds <> NEW.kinds OR OLD.processes <> NEW.processes OR OLD.capacity <> NEW.capacity
        OR OLD.cordoned_at IS DISTINCT FROM NEW.cordoned_at)
    EXECUTE FUNCTION perdure.keep_worker();
INSERT INTO perdure.worker_history (worker_id, state, name, host, pid, type, queues, kinds, labels, capacity, processes, version,
    started_at, stopped_at, cordoned_at, cause)
SELECT w.id, w.state, w.name, w.host, w.pid, w.type, w.queues, w.kinds, w.labels, w.capacity, w.processes, w.version, w.started_at,
    w.stopped_at, w.cordoned_at, w.cause
FROM perdure.workers w;

-- Since when a queue is known.
ALTER TABLE perdure.queues ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();

-- Whether what a transaction wrote was there at a cut. Numbers of transactions from before a restore into another database lie
-- above 2^48, in order; those of the database itself never reach it.
CREATE FUNCTION perdure.seen(xid xid8, cut pg_snapshot) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN pg_snapshot_xmin(cut) < '281474976710656'::xid8
        THEN xid >= '281474976710656'::xid8 OR pg_visible_in_snapshot(xid, cut)
        ELSE xid >= '281474976710656'::xid8 AND pg_visible_in_snapshot(xid, cut) END;

DROP FUNCTION perdure.unpark(text[]);

-- Let parked jobs of these concurrency keys try again: those that would get the free slots of their key. Of each limit the best ranked are
-- looked at, as many as slots are free, so that however many wait behind a small limit, the others are found.
-- The key's lock is taken before looking, so that a slot freed at the same time is not overlooked.
-- A job that comes back has been available all the time: it keeps the moment and the transaction since when.
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
    INSERT INTO perdure.available_jobs (job_id, rank, available_at, xid, lane, band, run, attempt, crashes, interruptions, suspicion, gated,
        returned_key)
    SELECT g.job_id, g.rank, g.available_at, g.xid, g.lane, g.band, g.run, g.attempt, g.crashes, g.interruptions, g.suspicion, true,
        g.concurrency_key
    FROM gone g
    RETURNING available_jobs.lane, available_jobs.band, available_jobs.rank, available_jobs.job_id;
END $$;

-- The one row of a live job, as far as it tells of the past: since when it is available and runs, or waits.
CREATE FUNCTION perdure.live_row(of_job uuid) RETURNS TABLE (
    state perdure.job_state, run smallint, attempt smallint, available_xid xid8, claim_xid xid8, wait_xid xid8, available_at timestamptz,
    claimed_at timestamptz, since timestamptz, run_at timestamptz, worker_id uuid, token uuid
) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT 'running'::perdure.job_state, l.run, (l.attempt - 1)::smallint, l.available_xid, l.claim_xid, NULL::xid8, l.available_at, l.claimed_at,
        NULL::timestamptz, NULL::timestamptz, l.worker_id, l.token
    FROM perdure.leases l WHERE l.job_id = of_job
    UNION ALL
    SELECT 'available', a.run, a.attempt, a.xid, NULL, NULL, a.available_at, NULL, NULL, NULL, NULL, NULL
    FROM perdure.available_jobs a WHERE a.job_id = of_job
    UNION ALL
    SELECT 'available', p.run, p.attempt, p.xid, NULL, NULL, p.available_at, NULL, NULL, NULL, NULL, NULL
    FROM perdure.parked_jobs p WHERE p.job_id = of_job
    UNION ALL
    SELECT CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END::perdure.job_state, s.run, s.attempt, NULL, NULL, s.xid, NULL, NULL,
        s.since, s.run_at, NULL, NULL
    FROM perdure.scheduled_jobs s WHERE s.job_id = of_job
    UNION ALL
    SELECT 'pending', b.run, 0::smallint, NULL, NULL, b.xid, NULL, NULL, b.since, b.run_at, NULL, NULL
    FROM perdure.blocked_jobs b WHERE b.job_id = of_job
$$;

-- Where one job that was there stood at a cut. What it did next tells: the first attempt that ended after the cut, or else its live
-- row, says since when it was available and ran. Before that it waited: for parents, for its first time, for a retry, or ended, for a
-- new run; what happened last before the cut tells for what. No row: its history has been pruned. Its plans are made once and not with
-- the values at hand, as reads otherwise ask for: that would cost more than the look-ups.
CREATE FUNCTION perdure.standing_at(of_job uuid, cut pg_snapshot) RETURNS TABLE (
    state perdure.job_state, run smallint, attempt smallint, crashes smallint, interruptions smallint, since timestamptz,
    run_at timestamptz, worker_id uuid, token uuid
) LANGUAGE plpgsql STABLE ROWS 1 SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    last record;
    next record;
BEGIN
    SELECT e.state, e.run, e.attempt, e.crashes, e.interruptions, e.settled_at, e.retry_at, e.worker_id INTO last
    FROM perdure.job_executions e WHERE e.job_id = of_job AND perdure.seen(e.settle_xid, cut)
    ORDER BY e.run DESC, e.settled_at DESC, e.settle_xid DESC LIMIT 1;
    IF last.state = 'completed' THEN
        RETURN QUERY SELECT last.state, last.run, last.attempt, last.crashes, last.interruptions, last.settled_at, NULL::timestamptz,
            last.worker_id, NULL::uuid;
        RETURN;
    END IF;
    SELECT NULL::perdure.job_state AS state, e.run, CASE WHEN e.token IS NULL THEN e.attempt ELSE e.attempt - 1 END::smallint AS attempt,
        e.available_xid, e.claim_xid, NULL::xid8 AS wait_xid, e.available_at, e.claimed_at, NULL::timestamptz AS since,
        NULL::timestamptz AS run_at, e.worker_id, e.token INTO next
    FROM perdure.job_executions e WHERE e.job_id = of_job AND NOT perdure.seen(e.settle_xid, cut)
    ORDER BY e.run, e.settled_at, e.settle_xid LIMIT 1;
    IF next.run IS NULL THEN
        SELECT r.* INTO next FROM perdure.live_row(of_job) r;
    END IF;

    run := next.run;
    attempt := next.attempt;
    IF perdure.seen(next.claim_xid, cut) THEN
        state := 'running';
        since := next.claimed_at;
        attempt := next.attempt + 1;
        worker_id := next.worker_id;
        token := next.token;
    ELSIF perdure.seen(next.available_xid, cut) THEN
        state := 'available';
        since := next.available_at;
    ELSIF next.run = last.run THEN
        state := last.state;
        since := last.settled_at;
        run_at := last.retry_at;
    ELSIF last.run IS NOT NULL THEN
        -- It had ended, unless a later run had been opened and waited for its time.
        SELECT 'scheduled', v.at, v.at + (v.detail ->> 'delay_ms')::bigint * interval '1 millisecond' INTO state, since, run_at
        FROM perdure.job_events v
        WHERE v.job_id = of_job AND v.detail ? 'delay_ms' AND (v.detail ->> 'run')::smallint = next.run AND perdure.seen(v.xid, cut) LIMIT 1;
    ELSIF perdure.seen(next.wait_xid, cut) THEN
        state := next.state;
        since := next.since;
        run_at := next.run_at;
    ELSIF next.run IS NOT NULL THEN
        -- Nothing had ended yet. It waited for its first time, as whoever made it available or cancelled it has written, or for parents.
        SELECT 'scheduled', (v.detail ->> 'scheduled_at')::timestamptz, (v.detail ->> 'run_at')::timestamptz INTO state, since, run_at
        FROM perdure.job_events v
        WHERE v.job_id = of_job AND perdure.seen((v.detail ->> 'scheduled_xid')::xid8, cut) AND NOT perdure.seen(v.xid, cut) LIMIT 1;
        IF NOT FOUND THEN
            state := 'pending';
            SELECT j.enqueued_at INTO since FROM perdure.jobs j WHERE j.id = of_job;
        END IF;
    ELSE
        RETURN;
    END IF;
    IF state IS NULL THEN
        state := last.state;
        run := last.run;
        attempt := last.attempt;
        since := last.settled_at;
        worker_id := last.worker_id;
    END IF;
    crashes := CASE WHEN run = last.run THEN last.crashes ELSE 0 END;
    interruptions := CASE WHEN run = last.run THEN last.interruptions ELSE 0 END;
    RETURN NEXT;
END $$;

-- All jobs that had not ended at a cut, and those that had ended cancelled or discarded. Most rows decide by themselves: an attempt
-- that began before the cut and ended after it ran then. Only the others are looked at one by one.
CREATE FUNCTION perdure.standings_at(cut pg_snapshot, newest uuid, open_since timestamptz) RETURNS TABLE (
    job_id uuid, lane integer, state perdure.job_state, since timestamptz
) LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH moved AS MATERIALIZED (
        SELECT e.job_id, e.lane, e.claimed_at, e.available_at, perdure.seen(e.claim_xid, cut) AS ran, perdure.seen(e.available_xid, cut) AS ready
        FROM perdure.job_executions e
        WHERE e.settled_at >= open_since AND e.job_id <= newest AND NOT perdure.seen(e.settle_xid, cut)
        UNION ALL
        SELECT l.job_id, l.lane, l.claimed_at, l.available_at, perdure.seen(l.claim_xid, cut), perdure.seen(l.available_xid, cut)
        FROM perdure.leases l WHERE l.job_id <= newest
        UNION ALL
        SELECT a.job_id, a.lane, NULL, a.available_at, false, perdure.seen(a.xid, cut) FROM perdure.available_jobs a WHERE a.job_id <= newest
        UNION ALL
        SELECT p.job_id, p.lane, NULL, p.available_at, false, perdure.seen(p.xid, cut) FROM perdure.parked_jobs p WHERE p.job_id <= newest
    ), others AS (
        SELECT m.job_id FROM moved m WHERE m.ran IS NOT TRUE AND m.ready IS NOT TRUE
        UNION
        SELECT s.job_id FROM perdure.scheduled_jobs s WHERE s.job_id <= newest
        UNION
        SELECT b.job_id FROM perdure.blocked_jobs b WHERE b.job_id <= newest
        UNION
        SELECT e.job_id FROM perdure.job_executions e
        WHERE e.state IN ('cancelled', 'discarded') AND e.job_id <= newest AND perdure.seen(e.settle_xid, cut)
        EXCEPT
        SELECT m.job_id FROM moved m WHERE m.ran OR m.ready
    )
    SELECT m.job_id, m.lane, CASE WHEN m.ran THEN 'running' ELSE 'available' END::perdure.job_state,
        CASE WHEN m.ran THEN m.claimed_at ELSE m.available_at END
    FROM moved m WHERE m.ran OR m.ready
    UNION ALL
    SELECT o.job_id, j.lane, s.state, s.since
    FROM others o
    JOIN perdure.jobs j ON j.id = o.job_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL perdure.standing_at(o.job_id, cut) s
    WHERE s.state <> 'completed'
$$;

-- The dead letters of a cut: what had been discarded, and neither been replayed nor acknowledged.
CREATE FUNCTION perdure.letters_at(cut pg_snapshot) RETURNS TABLE (
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
