-- What the leader counts, so that no page has to: how many jobs stand in each state, and what came and ended lately. All of it follows from
-- the other tables and can be counted anew at any time.

-- How many jobs there were in each state: `lanes` holds an object for each lane with any, `ended` how many attempts of the minute before
-- had ended in each way, where that was known. `jobs`, all bodies, is an estimate. Those that have ended stand here, not in their lanes.
CREATE TABLE perdure.levels (
    at timestamptz NOT NULL PRIMARY KEY,
    jobs bigint NOT NULL,
    cancelled bigint NOT NULL,
    discarded bigint NOT NULL,
    lanes jsonb NOT NULL,
    ended jsonb NOT NULL
);

-- What each lane got (`enqueued`) and how its attempts ended (an outcome) in ten seconds from `at` on; kept for minutes. Of each ten seconds that
-- were counted, with or without anything to count, one row says `counted`.
CREATE TABLE perdure.recent_counts (
    at timestamptz NOT NULL,
    lane integer NOT NULL,
    what text NOT NULL,
    jobs bigint NOT NULL,
    PRIMARY KEY (at, lane, what)
) WITH (fillfactor = 80);

-- The counts of ten seconds each from a moment on, where the leader has counted without a gap until lately and there are so many
-- that counting the history itself would take long; no row otherwise.
CREATE FUNCTION perdure.counted_since(begun timestamptz) RETURNS TABLE (at timestamptz, lane integer, what text, jobs bigint)
LANGUAGE sql STABLE ROWS 100 AS $$
    WITH found AS MATERIALIZED (
        SELECT r.* FROM perdure.recent_counts r WHERE r.at >= date_bin('10 seconds', begun, timestamptz '2000-01-01 00:00Z')
    )
    SELECT f.at, f.lane, f.what, f.jobs
    FROM found f
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE c.what = 'counted') AS bins, min(c.at) AS oldest, max(c.at) AS newest, sum(c.jobs) AS jobs FROM found c
    ) m
    WHERE f.what <> 'counted' AND m.jobs >= 10000 AND m.newest > now() - interval '35 seconds'
        AND m.oldest <= begun AND m.bins = 1 + extract(epoch FROM m.newest - m.oldest)::bigint / 10
$$;

-- How many rows a table holds, with all its partitions, by the density that was last found in each and the size that it has now.
CREATE FUNCTION perdure.estimated_rows(of_table regclass) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(CASE WHEN c.relpages > 0 AND c.reltuples >= 0 THEN c.reltuples / c.relpages ELSE 50 END * s.pages), 0)::bigint
    FROM (SELECT of_table AS oid UNION ALL SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = of_table) t
    JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'r'
    CROSS JOIN LATERAL (SELECT pg_relation_size(c.oid) / current_setting('block_size')::integer AS pages) s
$$;

-- The dead letters of a cut: what had been discarded, and neither been replayed nor acknowledged. A letter that was there then and is there
-- now has never left; only of the others the job is looked at.
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
    JOIN perdure.job_executions e ON e.job_id = g.job_id AND e.state = 'discarded' AND perdure.seen(e.settle_xid, cut)
    CROSS JOIN LATERAL perdure.standing_at(e.job_id, cut) s
    WHERE s.state = 'discarded' AND s.run = e.run
        AND NOT EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = e.job_id AND v.event = 'dead_letter_discarded'
                AND (v.detail ->> 'run')::smallint = e.run AND perdure.seen(v.xid, cut)
        )
$$;
