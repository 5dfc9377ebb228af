-- Restores in place: what is to be again as it was at a cut, drawn up as a plan and carried out in steps that may be repeated.

-- One row for each plan. `jobs` or `lanes` are the scope; without either it is everything. `policy` tells what is done in each
-- circumstance, `cases` how often each was found. `before` is the cut at which the first row was about to be changed: an undoing
-- restores that. A restore that is under way takes its lanes out of all claims, unless its scope are single jobs.
CREATE TABLE perdure.restores (
    id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    planned_at timestamptz NOT NULL DEFAULT now(),
    begun_at timestamptz,
    touched_at timestamptz,
    drain_by timestamptz,
    ended_at timestamptz,
    cut_at timestamptz NOT NULL,
    before_at timestamptz,
    open_since timestamptz NOT NULL,
    cut pg_snapshot NOT NULL,
    before pg_snapshot,
    newest uuid NOT NULL,
    undoes uuid,
    tolerance integer NOT NULL DEFAULT 0 CHECK (tolerance >= 0),
    phase text NOT NULL DEFAULT 'planned' CHECK (phase IN ('planned', 'holding', 'draining', 'fencing', 'writing', 'checking', 'done',
        'refused', 'broken', 'released', 'abandoned')),
    source text NOT NULL,
    digest text NOT NULL DEFAULT '',
    actor text NOT NULL,
    reason text NOT NULL,
    scope jsonb NOT NULL,
    policy jsonb NOT NULL,
    cases jsonb NOT NULL DEFAULT '[]',
    report text NOT NULL DEFAULT '',
    lanes integer[],
    jobs uuid[],
    rerun_kinds text[] NOT NULL DEFAULT '{}'
);

-- Two restores at once would undo each other's work.
CREATE UNIQUE INDEX restores_under_way ON perdure.restores ((true))
WHERE phase IN ('holding', 'draining', 'fencing', 'writing', 'checking', 'broken');

-- The jobs that a restore changes, each with what is to be done, what was true when that was decided, and what came of it.
CREATE TABLE perdure.restore_items (
    restore_id uuid NOT NULL REFERENCES perdure.restores (id) ON DELETE CASCADE,
    job_id uuid NOT NULL,
    since timestamptz,
    run_at timestamptz,
    done_at timestamptz,
    state_then perdure.job_state,
    state_now perdure.job_state NOT NULL,
    run_now smallint NOT NULL,
    depth smallint NOT NULL,
    attempt smallint NOT NULL DEFAULT 0,
    crashes smallint NOT NULL DEFAULT 0,
    interruptions smallint NOT NULL DEFAULT 0,
    circumstance text NOT NULL,
    action text NOT NULL,
    outcome text,
    PRIMARY KEY (restore_id, job_id)
);
CREATE INDEX restore_items_next ON perdure.restore_items (restore_id, action, depth, job_id) WHERE done_at IS NULL;

-- A run that a restore opens begins with a record without a token, which carries the counts of the cut; such a job may be pending.
ALTER TABLE perdure.job_executions DROP CONSTRAINT job_executions_state_check;
ALTER TABLE perdure.job_executions ADD CONSTRAINT job_executions_state_check CHECK (state <> 'running');

-- All jobs of the dependency graph that a job is in.
CREATE FUNCTION perdure.graph_of(of_job uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE graph AS (
        SELECT j.id FROM perdure.jobs j WHERE j.id = of_job
        UNION
        SELECT n.id FROM graph g CROSS JOIN LATERAL (
            SELECT d.parent_id AS id FROM perdure.job_dependencies d WHERE d.child_id = g.id
            UNION ALL
            SELECT d.child_id FROM perdure.job_dependencies d WHERE d.parent_id = g.id
        ) n
    )
    SELECT g.id FROM graph g
$$;

-- How each job of a scope stood at a cut, how it stands now, and what that is called. Jobs that had ended and are as they were are
-- told of only where the scope names them.
CREATE FUNCTION perdure.restore_cases(cut pg_snapshot, newest uuid, open_since timestamptz, of_lanes integer[], of_jobs uuid[])
RETURNS TABLE (job_id uuid, circumstance text, state_then perdure.job_state, state_now perdure.job_state, run_now smallint)
LANGUAGE sql STABLE ROWS 100000 AS $$
    WITH stood AS MATERIALIZED (
        SELECT s.job_id, s.state FROM perdure.standings_at(cut, newest, open_since) s
        WHERE of_jobs IS NULL AND (of_lanes IS NULL OR s.lane = ANY (of_lanes))
        UNION ALL
        SELECT j.id, s.state FROM unnest(of_jobs) AS u (id)
        JOIN perdure.jobs j ON j.id = u.id AND perdure.seen(j.xid, cut)
        CROSS JOIN LATERAL perdure.standing_at(j.id, cut) s
    ), fresh AS MATERIALIZED (
        -- No id is more than a day older than the transaction that wrote it, and none of those was open before `open_since`.
        SELECT j.id FROM perdure.jobs j
        WHERE of_jobs IS NULL AND (of_lanes IS NULL OR j.lane = ANY (of_lanes)) AND NOT perdure.seen(j.xid, cut)
            AND j.id >= CASE WHEN open_since > '1971-01-01' THEN perdure.id_floor(open_since - interval '1 day')
                ELSE '00000000-0000-0000-0000-000000000000' END
        UNION ALL
        SELECT j.id FROM unnest(of_jobs) AS u (id) JOIN perdure.jobs j ON j.id = u.id AND NOT perdure.seen(j.xid, cut)
    )
    SELECT b.job_id, CASE
        WHEN b.state IS NULL AND n.state IN ('pending', 'scheduled', 'retryable', 'available') AND NOT EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = b.job_id AND e.token IS NOT NULL) THEN 'created_since'
        WHEN b.state IS NULL THEN 'started_since'
        WHEN b.state IN ('completed', 'cancelled', 'discarded') THEN
            CASE WHEN n.state IN ('completed', 'cancelled', 'discarded') THEN 'ended'
                WHEN n.state = 'running' THEN 'started_again' ELSE 'reopened_since' END
        WHEN n.state = 'completed' THEN 'completed_since'
        WHEN n.state = 'discarded' THEN 'failed_since'
        WHEN n.state = 'cancelled' THEN 'cancelled_since'
        WHEN n.state = 'running' AND b.state = 'running' AND perdure.seen(l.claim_xid, cut) THEN 'same_lease'
        WHEN n.state = 'running' THEN 'running_now'
        ELSE 'still_live' END, b.state, n.state, n.run
    FROM (SELECT s.job_id, s.state FROM stood s UNION ALL SELECT f.id, NULL FROM fresh f) b
    CROSS JOIN LATERAL perdure.standing(b.job_id) n
    LEFT JOIN perdure.leases l ON l.job_id = b.job_id
$$;

-- What a restore does with each job of its scope, as things are now; finished work is done again only for kinds that it names.
CREATE FUNCTION perdure.restore_choices(of_restore uuid)
RETURNS TABLE (job_id uuid, circumstance text, action text, state_then perdure.job_state, state_now perdure.job_state, run_now smallint)
LANGUAGE sql STABLE ROWS 100000 AS $$
    SELECT c.job_id, c.circumstance, CASE
        WHEN c.circumstance = 'completed_since' AND r.policy ->> 'completed_since' = 'rerun' AND NOT EXISTS (
            SELECT FROM perdure.jobs j JOIN perdure.lanes n ON n.lane = j.lane WHERE j.id = c.job_id AND n.kind = ANY (r.rerun_kinds)
        ) THEN 'keep' ELSE coalesce(r.policy ->> c.circumstance, 'keep') END, c.state_then, c.state_now, c.run_now
    FROM perdure.restores r
    CROSS JOIN LATERAL perdure.restore_cases(r.cut, r.newest, r.open_since, r.lanes, r.jobs) c
    WHERE r.id = of_restore
$$;

-- Draw up a plan anew: what has been done stays, all else is as things are now.
CREATE FUNCTION perdure.draw_restore(of_restore uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    found jsonb;
BEGIN
    DELETE FROM perdure.restore_items i WHERE i.restore_id = of_restore AND i.done_at IS NULL;
    WITH choices AS MATERIALIZED (
        SELECT * FROM perdure.restore_choices(of_restore)
    ), items AS (
        INSERT INTO perdure.restore_items (restore_id, job_id, since, run_at, state_then, state_now, run_now, depth, attempt, crashes,
            interruptions, circumstance, action)
        SELECT of_restore, c.job_id, t.since, t.run_at, c.state_then, c.state_now, c.run_now, j.depth,
            coalesce(t.attempt - (c.state_then = 'running')::integer, 0), coalesce(t.crashes, 0), coalesce(t.interruptions, 0), c.circumstance,
            c.action
        FROM choices c
        JOIN perdure.restores r ON r.id = of_restore
        JOIN perdure.jobs j ON j.id = c.job_id
        LEFT JOIN LATERAL (
            SELECT s.* FROM perdure.standing_at(c.job_id, r.cut) s WHERE c.action IN ('requeue', 'rerun')
        ) t ON true
        WHERE c.action NOT IN ('keep', 'leave')
        ON CONFLICT DO NOTHING
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('circumstance', g.circumstance, 'action', g.action, 'jobs', g.jobs, 'sample', g.sample)
        ORDER BY g.circumstance, g.action), '[]') INTO found
    FROM (
        SELECT c.circumstance, c.action, count(*) AS jobs, (array_agg(c.job_id ORDER BY c.job_id))[1:20] AS sample
        FROM choices c GROUP BY c.circumstance, c.action
    ) g;
    UPDATE perdure.restores r SET cases = found, digest = CASE WHEN r.phase = 'planned' THEN (
        SELECT encode(sha256(convert_to(concat_ws(' ', r.cut, r.scope, r.policy, r.rerun_kinds,
            string_agg(concat_ws(' ', i.job_id, i.action, i.run_now), E'\n' ORDER BY i.job_id)), 'UTF8')), 'hex')
        FROM perdure.restore_items i WHERE i.restore_id = of_restore) ELSE r.digest END
    WHERE r.id = of_restore;
END $$;

-- How many jobs would now be dealt with otherwise than a plan says, and some of them. What ran when the plan was drawn ends meanwhile,
-- as the plan expects.
CREATE FUNCTION perdure.restore_moved(of_restore uuid, OUT moved bigint, OUT sample uuid[])
LANGUAGE sql STABLE AS $$
    WITH planned AS (
        SELECT i.job_id, i.action, i.run_now FROM perdure.restore_items i WHERE i.restore_id = of_restore
    ), apart AS (
        SELECT coalesce(c.job_id, p.job_id) AS job_id
        FROM (
            SELECT * FROM perdure.restore_choices(of_restore) c WHERE c.action NOT IN ('keep', 'leave', 'drain', 'fence')
        ) c
        FULL JOIN planned p ON p.job_id = c.job_id
        WHERE coalesce(p.action, '') NOT IN ('drain', 'fence') AND (c.action, c.run_now) IS DISTINCT FROM (p.action, p.run_now)
    )
    SELECT count(*), (array_agg(a.job_id ORDER BY a.job_id))[1:20] FROM apart a
$$;

-- A cut as it is saved; there may be none.
CREATE OR REPLACE FUNCTION perdure.aged_cut(cut pg_snapshot, era integer) RETURNS pg_snapshot LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN cut IS NULL OR pg_snapshot_xmin(cut) >= '281474976710656'::xid8 THEN cut ELSE
        concat_ws(':', perdure.aged(pg_snapshot_xmin(cut), era), perdure.aged(pg_snapshot_xmax(cut), era),
            coalesce((SELECT string_agg(perdure.aged(x, era)::text, ',' ORDER BY x) FROM pg_snapshot_xip(cut) AS x), ''))::pg_snapshot END;
