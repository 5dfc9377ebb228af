-- Functions: the rank, unique keys, the release of children, enqueueing from any language, partitions.

-- The rank of a job that is ready at `ready` with this priority: see perdure/domain/rank.py.
CREATE FUNCTION perdure.rank_of(ready timestamptz, priority smallint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (extract(epoch FROM ready) * 1000000)::bigint
    - CASE WHEN priority >= 4 THEN 180000000 WHEN priority >= 2 THEN 60000000 ELSE 0 END;

-- The band of a priority; suspects of the second degree run alone.
CREATE FUNCTION perdure.band_of(priority smallint, suspicion smallint) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (CASE WHEN suspicion >= 2 THEN 3 WHEN priority >= 4 THEN 0 WHEN priority >= 2 THEN 1 ELSE 2 END)::smallint;

-- Whether a unique key with this mask counts in this state.
CREATE FUNCTION perdure.counts_in(states smallint, state perdure.job_state) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (states >> (array_position(enum_range(NULL::perdure.job_state), state) - 1)) & 1 = 1;

-- The smallest version 7 id of a moment: the bounds of the partitions of jobs.
CREATE FUNCTION perdure.id_floor(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- The moment that a version 7 id carries.
CREATE FUNCTION perdure.made_at(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    timestamptz 'epoch' + ('x0000' || left(replace(id::text, '-', ''), 12))::bit(64)::bigint * interval '1 millisecond';

-- A new job id (UUID version 7) for producers that write plain SQL.
CREATE FUNCTION perdure.new_job_id() RETURNS uuid
LANGUAGE sql VOLATILE RETURN
    (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
     || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid;

-- The guard against cycles: an edge must lead from a lower depth to a higher one.
CREATE FUNCTION perdure.check_depth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Sub-selects and not joins: each is a look-up by key, however large the table of jobs is.
    IF EXISTS (
        SELECT FROM added a
        WHERE (SELECT p.depth FROM perdure.jobs p WHERE p.id = a.parent_id)
            >= (SELECT c.depth FROM perdure.jobs c WHERE c.id = a.child_id)
    ) THEN
        RAISE EXCEPTION 'a dependency must lead from a job to a deeper one'
            USING ERRCODE = 'PD003', HINT = 'edges are written with their child, by perdure.enqueue_jobs';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER job_dependencies_depth AFTER INSERT ON perdure.job_dependencies
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION perdure.check_depth();

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

-- How jobs have ended: the newest row of history of those that are in no state table.
CREATE FUNCTION perdure.endings(ids uuid[]) RETURNS TABLE (job_id uuid, state perdure.job_state, run smallint)
LANGUAGE sql STABLE AS $$
    SELECT j.id, e.state, e.run
    FROM unnest(ids) AS j (id)
    CROSS JOIN LATERAL (
        SELECT x.state, x.run FROM perdure.job_executions x
        WHERE x.job_id = j.id AND x.state IN ('completed', 'cancelled', 'discarded')
        ORDER BY x.run DESC, x.settled_at DESC LIMIT 1
    ) e
    WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = j.id)
        AND NOT EXISTS (SELECT FROM perdure.available_jobs a WHERE a.job_id = j.id)
        AND NOT EXISTS (SELECT FROM perdure.scheduled_jobs s WHERE s.job_id = j.id)
        AND NOT EXISTS (SELECT FROM perdure.parked_jobs p WHERE p.job_id = j.id)
        AND NOT EXISTS (SELECT FROM perdure.blocked_jobs b WHERE b.job_id = j.id)
$$;

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

-- The jobs of an enqueue call as rows, with the defaults filled in.
CREATE FUNCTION perdure.read_jobs(jobs jsonb) RETURNS TABLE (
    ordinal bigint, id uuid, queue text, kind text, args jsonb, priority smallint, max_attempts smallint,
    timeout_ms integer, labels text[], run_at timestamptz, parents jsonb, inherit_priority boolean,
    unique_key text, unique_states smallint, unique_for_ms bigint, concurrency_key text,
    concurrency_limit smallint, crash_limit smallint, metadata jsonb
) LANGUAGE sql STABLE AS $$
    SELECT r.ordinal, r.id, coalesce(r.queue, 'default'), r.kind, coalesce(r.args, '{}'), coalesce(r.priority, 3::smallint),
        coalesce(r.max_attempts, 4::smallint), CASE WHEN r.timeout_ms = 0 THEN NULL ELSE coalesce(r.timeout_ms, 300000) END,
        coalesce(r.labels, '{}'), coalesce(r.run_at, now() + r.delay_ms * interval '1 millisecond'),
        CASE WHEN jsonb_array_length(r.parents) > 0 THEN r.parents END, coalesce(r.inherit_priority, true),
        r.unique_key, CASE WHEN r.unique_key IS NOT NULL THEN coalesce(r.unique_states, 31::smallint) END, r.unique_for_ms,
        r.concurrency_key, CASE WHEN r.concurrency_key IS NOT NULL THEN coalesce(r.concurrency_limit, 1::smallint) END,
        r.crash_limit, r.metadata
    FROM ROWS FROM (jsonb_to_recordset(jobs) AS (
        id uuid, queue text, kind text, args jsonb, priority smallint, max_attempts smallint, timeout_ms integer,
        labels text[], run_at timestamptz, delay_ms bigint, parents jsonb, inherit_priority boolean, unique_key text,
        unique_states smallint, unique_for_ms bigint, concurrency_key text, concurrency_limit smallint,
        crash_limit smallint, metadata jsonb
    )) WITH ORDINALITY AS r (
        id, queue, kind, args, priority, max_attempts, timeout_ms, labels, run_at, delay_ms, parents, inherit_priority,
        unique_key, unique_states, unique_for_ms, concurrency_key, concurrency_limit, crash_limit, metadata, ordinal
    )
$$;

-- Make the queues and lanes that a batch of jobs needs.
CREATE FUNCTION perdure.ensure_lanes(jobs jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM perdure.read_jobs(jobs) j
        LEFT JOIN perdure.lanes l ON l.queue = j.queue AND l.kind = j.kind AND l.labels = j.labels
        WHERE l.lane IS NULL
    ) THEN
        RETURN;
    END IF;
    INSERT INTO perdure.queues (name) SELECT DISTINCT j.queue FROM perdure.read_jobs(jobs) j ORDER BY 1 ON CONFLICT DO NOTHING;
    INSERT INTO perdure.lanes (queue, kind, labels)
    SELECT DISTINCT j.queue, j.kind, j.labels FROM perdure.read_jobs(jobs) j ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING;
END $$;

-- Store jobs, all or none; `jobs` is an array of objects (docs/reference/sql.md names the fields). A job whose id is
-- there already is answered `exists`, so that a call whose answer was lost can be repeated. A job whose unique key is
-- held by another is answered `duplicate` with that holder, or, with on_duplicate 'raise', the whole call fails.
-- Any language can be a producer:
--   SELECT * FROM perdure.enqueue_jobs('[{"kind": "app.resize", "args": {"width": 640}}]');
-- from: none   to: pending, scheduled, available
CREATE FUNCTION perdure.enqueue_jobs(jobs jsonb, on_duplicate text DEFAULT 'raise')
RETURNS TABLE (ordinal bigint, job_id uuid, disposition text, holder uuid, lane integer, band smallint, rank bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    clash record;
    linked boolean := jobs @? '$[*] ? (exists (@.parents[*]))';
BEGIN
    IF jobs @? '$[*] ? (!exists (@.id))' THEN
        SELECT jsonb_agg(CASE WHEN e.job ? 'id' THEN e.job ELSE e.job || jsonb_build_object('id', perdure.new_job_id()) END ORDER BY e.n)
        INTO jobs FROM jsonb_array_elements(jobs) WITH ORDINALITY AS e (job, n);
    END IF;
    PERFORM perdure.check_jobs(jobs);
    PERFORM perdure.ensure_lanes(jobs);
    IF jobs @? '$[*].unique_key' THEN
        PERFORM perdure.take_unique_keys(jobs);
        FOR clash IN
            SELECT j.unique_key, u.job_id FROM perdure.read_jobs(jobs) j JOIN perdure.unique_keys u ON u.key = j.unique_key
            WHERE u.job_id <> j.id AND on_duplicate = 'raise' AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id) LIMIT 1
        LOOP
            RAISE EXCEPTION 'unique key % is held by job %', clash.unique_key, clash.job_id
                USING ERRCODE = 'PD001', DETAIL = jsonb_build_object('key', clash.unique_key, 'holder', clash.job_id)::text;
        END LOOP;
    END IF;
    IF linked THEN
        RETURN QUERY SELECT * FROM perdure.enqueue_linked(jobs);
        RETURN;
    END IF;
    RETURN QUERY
    WITH input AS MATERIALIZED (
        -- Sub-selects and not joins: they keep the planner's idea of the number of rows, and with it the hash joins below.
        SELECT j.*,
            (SELECT l.lane FROM perdure.lanes l WHERE l.queue = j.queue AND l.kind = j.kind AND l.labels = j.labels) AS lane,
            CASE WHEN j.unique_key IS NOT NULL THEN
                (SELECT u.job_id FROM perdure.unique_keys u WHERE u.key = j.unique_key AND u.job_id <> j.id
                    AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)) END AS key_holder,
            (j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)) AS gated
        FROM perdure.read_jobs(jobs) j
    ), bodies AS (
        INSERT INTO perdure.jobs AS b (id, lane, priority, max_attempts, timeout_ms, crash_limit, unique_states, unique_until,
            concurrency_limit, args, unique_key, concurrency_key, metadata)
        SELECT i.id, i.lane, i.priority, i.max_attempts, i.timeout_ms, i.crash_limit, i.unique_states,
            now() + i.unique_for_ms * interval '1 millisecond', i.concurrency_limit, i.args, i.unique_key, i.concurrency_key, i.metadata
        FROM input i WHERE i.key_holder IS NULL ORDER BY i.id
        ON CONFLICT (id) DO NOTHING RETURNING b.id
    ), later AS (
        INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, gated)
        SELECT i.id, i.run_at, i.lane, i.priority, i.gated FROM input i JOIN bodies b ON b.id = i.id WHERE i.run_at > now()
    ), ready AS (
        INSERT INTO perdure.available_jobs AS a (job_id, rank, lane, band, gated)
        SELECT i.id, perdure.rank_of(now(), i.priority), i.lane, perdure.band_of(i.priority, 0::smallint), i.gated
        FROM input i JOIN bodies b ON b.id = i.id WHERE i.run_at IS NULL OR i.run_at <= now()
        RETURNING a.job_id, a.lane, a.band, a.rank
    )
    SELECT i.ordinal, i.id,
        CASE WHEN i.key_holder IS NOT NULL THEN 'duplicate' WHEN b.id IS NULL THEN 'exists' ELSE 'created' END,
        i.key_holder, r.lane, r.band, r.rank
    FROM input i LEFT JOIN bodies b ON b.id = i.id LEFT JOIN ready r ON r.job_id = i.id;
END $$;

-- Refuse what no later statement would catch with a clear word: ids out of time, bad values.
CREATE FUNCTION perdure.check_jobs(jobs jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    bad record;
BEGIN
    SELECT bool_or(j.id IS NULL OR j.id NOT BETWEEN perdure.id_floor(now() - interval '1 day') AND perdure.id_floor(now() + interval '1 day')
        OR substr(j.id::text, 15, 1) <> '7' OR j.kind IS NULL OR length(j.kind) NOT BETWEEN 1 AND 200
        OR length(j.queue) NOT BETWEEN 1 AND 200 OR jsonb_typeof(j.args) <> 'object' OR j.priority NOT BETWEEN 1 AND 5
        OR j.max_attempts < 1 OR j.timeout_ms < 0 OR j.crash_limit < 1 OR j.concurrency_limit < 1
        OR length(j.unique_key) NOT BETWEEN 1 AND 500 OR length(j.concurrency_key) NOT BETWEEN 1 AND 500
        OR j.unique_states & 23 <> 23) AS wrong, count(DISTINCT j.id) < count(j.id) AS repeated
    INTO bad FROM perdure.read_jobs(jobs) j;
    IF bad.repeated THEN
        RAISE EXCEPTION 'one id is given to two jobs'
            USING ERRCODE = 'PD004', DETAIL = jsonb_build_object('field', 'id', 'why', 'is given to two jobs of the call')::text;
    ELSIF bad.wrong THEN
        PERFORM perdure.refuse_job(jobs);
    END IF;
END $$;

-- Say which job of a batch is wrong, and how.
CREATE FUNCTION perdure.refuse_job(jobs jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    bad record;
BEGIN
    SELECT j.ordinal, c.field, c.why INTO bad
    FROM perdure.read_jobs(jobs) j
    CROSS JOIN LATERAL (VALUES
        (j.kind IS NULL OR length(j.kind) NOT BETWEEN 1 AND 200, 'kind', 'must be a name of 1 to 200 characters'),
        (length(j.queue) NOT BETWEEN 1 AND 200, 'queue', 'must be a name of 1 to 200 characters'),
        (jsonb_typeof(j.args) <> 'object', 'args', 'must be a JSON object'),
        (j.priority NOT BETWEEN 1 AND 5, 'priority', 'must be between 1 and 5'),
        (j.max_attempts < 1, 'max_attempts', 'must be at least 1'),
        (j.timeout_ms < 0, 'timeout_ms', 'must be positive, or 0 for none'),
        (j.crash_limit < 1, 'crash_limit', 'must be at least 1'),
        (j.concurrency_limit < 1, 'concurrency_limit', 'must be at least 1'),
        (length(j.concurrency_key) NOT BETWEEN 1 AND 500, 'concurrency_key', 'must have 1 to 500 characters'),
        (length(j.unique_key) NOT BETWEEN 1 AND 500, 'unique_key', 'must have 1 to 500 characters'),
        (j.unique_states & 23 <> 23, 'unique_states', 'must count pending, scheduled, available and retryable'),
        (j.id IS NULL OR substr(j.id::text, 15, 1) <> '7' OR j.id NOT BETWEEN perdure.id_floor(now() - interval '1 day')
            AND perdure.id_floor(now() + interval '1 day'), 'id', 'must be a version 7 UUID made within a day of the database''s time')
    ) AS c (wrong, field, why)
    WHERE c.wrong ORDER BY j.ordinal LIMIT 1;
    RAISE EXCEPTION 'job %: % %', bad.ordinal, bad.field, bad.why
        USING ERRCODE = 'PD004', DETAIL = jsonb_build_object('field', bad.field, 'why', bad.why)::text;
END $$;

-- Take the unique keys of a batch where they are free or have run out; a job already stored takes none anew.
CREATE FUNCTION perdure.take_unique_keys(jobs jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO perdure.unique_keys AS u (key, job_id, states, expires_at)
    SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, now() + j.unique_for_ms * interval '1 millisecond'
    FROM perdure.read_jobs(jobs) j
    WHERE j.unique_key IS NOT NULL AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)
    ORDER BY j.unique_key, j.ordinal
    ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, states = excluded.states, expires_at = excluded.expires_at
    WHERE u.expires_at <= now()
$$;

-- The part of enqueue_jobs for batches in which some jobs have parents. The links are worked out in arrays by the place
-- of the job in the batch, so that nothing is written but the jobs themselves.
-- from: none   to: pending, scheduled, available
CREATE FUNCTION perdure.enqueue_linked(jobs jsonb)
RETURNS TABLE (ordinal bigint, job_id uuid, disposition text, holder uuid, lane integer, band smallint, rank bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    links record;
    ranked record;
    stored bigint;
BEGIN
    SELECT * INTO links FROM perdure.read_links(jobs);
    SELECT * INTO ranked FROM perdure.deepen(links.ids, links.priorities, links.inherits, links.children, links.inner_parents,
        links.outer_depths, links.outer_priorities);
    WITH input AS MATERIALIZED (
        SELECT j.*, links.lanes[j.ordinal] AS lane, links.holders[j.ordinal] AS key_holder, links.created[j.ordinal] AS created,
            ranked.depths[j.ordinal] AS depth, ranked.priorities[j.ordinal] AS highest, ranked.waiting[j.ordinal] AS waiting,
            links.outward[j.ordinal] AS outward,
            (j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)) AS gated
        FROM perdure.read_jobs(jobs) j
    ), bodies AS (
        INSERT INTO perdure.jobs (id, lane, priority, max_attempts, depth, timeout_ms, crash_limit, unique_states,
            unique_until, concurrency_limit, args, unique_key, concurrency_key, metadata)
        SELECT i.id, i.lane, i.highest, i.max_attempts, i.depth, i.timeout_ms, i.crash_limit, i.unique_states,
            now() + i.unique_for_ms * interval '1 millisecond', i.concurrency_limit, i.args, i.unique_key, i.concurrency_key, i.metadata
        FROM input i WHERE i.created ORDER BY i.id
    ), edges AS (
        INSERT INTO perdure.job_dependencies (child_id, parent_id, on_failure)
        SELECT links.ids[e.child], e.parent_id, e.on_failure
        FROM unnest(links.children, links.parents, links.policies) AS e (child, parent_id, on_failure)
    ), blocked AS (
        -- Parents of the same batch cannot have ended yet; only others are looked at again.
        INSERT INTO perdure.blocked_jobs (job_id, waiting, run_at, lane, priority, gated, verified)
        SELECT i.id, i.waiting, i.run_at, i.lane, i.highest, i.gated, NOT i.outward
        FROM input i WHERE i.created AND i.waiting > 0
    ), later AS (
        INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, gated)
        SELECT i.id, i.run_at, i.lane, i.highest, i.gated FROM input i WHERE i.created AND i.waiting = 0 AND i.run_at > now()
    ), ready AS (
        INSERT INTO perdure.available_jobs (job_id, rank, lane, band, gated)
        SELECT i.id, perdure.rank_of(now(), i.highest), i.lane, perdure.band_of(i.highest, 0::smallint), i.gated
        FROM input i WHERE i.created AND i.waiting = 0 AND (i.run_at IS NULL OR i.run_at <= now())
    )
    SELECT count(*) FROM input i WHERE i.created INTO stored;
    PERFORM FROM perdure.resolve_blocked(ARRAY(
        SELECT links.ids[n] FROM generate_subscripts(links.ids, 1) AS n WHERE links.outward[n]
    ));
    RETURN QUERY
    SELECT n::bigint, links.ids[n],
        CASE WHEN links.created[n] THEN 'created' WHEN links.holders[n] IS NOT NULL THEN 'duplicate' ELSE 'exists' END,
        links.holders[n], a.lane, a.band, a.rank
    FROM generate_subscripts(links.ids, 1) AS n
    LEFT JOIN LATERAL (
        -- The limit keeps it a look-up by key, however many jobs are available.
        SELECT w.lane, w.band, w.rank FROM perdure.available_jobs w WHERE links.created[n] AND w.job_id = links.ids[n] LIMIT 1
    ) a ON true;
EXCEPTION WHEN unique_violation THEN
    -- The same call ran at the same time and was faster; a repeat finds its jobs.
    RAISE EXCEPTION 'the jobs were stored by another call meanwhile' USING ERRCODE = 'serialization_failure';
END $$;

-- The jobs and edges of a batch as arrays: `ids` to `outward` by the place of the job in the batch, `children` to
-- `outer_priorities` by edge, those with a parent outside of the batch first. A parent that was refused for its unique
-- key is replaced by the holder of the key. Joins are hashed: the planner takes a batch for a hundred rows.
CREATE FUNCTION perdure.read_links(
    jobs jsonb, OUT ids uuid[], OUT lanes integer[], OUT priorities smallint[], OUT inherits boolean[], OUT holders uuid[],
    OUT created boolean[], OUT outward boolean[], OUT children integer[], OUT parents uuid[],
    OUT policies perdure.on_parent_failure[], OUT inner_parents integer[], OUT outer_depths smallint[],
    OUT outer_priorities smallint[]
) LANGUAGE plpgsql SET enable_nestloop = off AS $$
DECLARE
    missing uuid;
BEGIN
    SELECT array_agg(b.id ORDER BY b.n), array_agg(b.lane ORDER BY b.n), array_agg(b.priority ORDER BY b.n),
        array_agg(b.inherit_priority ORDER BY b.n), array_agg(b.holder ORDER BY b.n),
        array_agg(b.holder IS NULL AND NOT b.stored ORDER BY b.n), array_agg(false)
    INTO ids, lanes, priorities, inherits, holders, created, outward
    FROM (
        SELECT j.ordinal AS n, j.id, j.priority, j.inherit_priority,
            (SELECT l.lane FROM perdure.lanes l WHERE l.queue = j.queue AND l.kind = j.kind AND l.labels = j.labels) AS lane,
            CASE WHEN j.unique_key IS NOT NULL THEN
                (SELECT u.job_id FROM perdure.unique_keys u WHERE u.key = j.unique_key AND u.job_id <> j.id
                    AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)) END AS holder,
            coalesce((SELECT true FROM perdure.jobs s WHERE s.id = j.id), false) AS stored
        FROM perdure.read_jobs(jobs) j
    ) b;
    WITH batch AS MATERIALIZED (
        SELECT u.id, u.holder, u.fresh, u.n FROM unnest(ids, holders, created) WITH ORDINALITY AS u (id, holder, fresh, n)
    ), edges AS (
        SELECT DISTINCT ON (j.ordinal, coalesce(i.holder, p.parent_id)) j.ordinal AS child,
            coalesce(i.holder, p.parent_id) AS parent_id, coalesce(p.on_failure, 'hold') AS on_failure
        FROM perdure.read_jobs(jobs) j
        CROSS JOIN LATERAL jsonb_to_recordset(j.parents) AS p (parent_id uuid, on_failure perdure.on_parent_failure)
        LEFT JOIN batch i ON i.id = p.parent_id
        WHERE created[j.ordinal]
        ORDER BY 1, 2
    ), placed AS (
        SELECT e.*, i.n AS place, CASE WHEN i.n IS NULL THEN
            (SELECT ARRAY[s.depth, s.priority] FROM perdure.jobs s WHERE s.id = e.parent_id) END AS known
        FROM edges e LEFT JOIN batch i ON i.id = e.parent_id AND i.fresh
    )
    SELECT array_agg(p.child ORDER BY p.place NULLS FIRST, p.child), array_agg(p.parent_id ORDER BY p.place NULLS FIRST, p.child),
        array_agg(p.on_failure ORDER BY p.place NULLS FIRST, p.child), array_agg(p.place ORDER BY p.place NULLS FIRST, p.child),
        array_agg(p.known[1] ORDER BY p.place NULLS FIRST, p.child), array_agg(p.known[2] ORDER BY p.place NULLS FIRST, p.child),
        min(p.parent_id::text) FILTER (WHERE p.place IS NULL AND p.known IS NULL)
    INTO children, parents, policies, inner_parents, outer_depths, outer_priorities, missing
    FROM placed p;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'there is no job % to depend on', missing
            USING ERRCODE = 'PD002', DETAIL = jsonb_build_object('parent_id', missing)::text;
    END IF;
    FOR e IN 1 .. coalesce(array_length(children, 1), 0) LOOP
        EXIT WHEN inner_parents[e] IS NOT NULL;
        outward[children[e]] := true;
    END LOOP;
END $$;

-- Give every job of a batch its depth (one more than its deepest parent), the number of its parents and, where it
-- inherits, the highest priority of its parents: parents before children, each edge once. A circle and a chain that is
-- too long are refused.
CREATE FUNCTION perdure.deepen(
    ids uuid[], INOUT priorities smallint[], inherits boolean[], children integer[], inner_parents integer[],
    outer_depths smallint[], outer_priorities smallint[], OUT depths smallint[], OUT waiting integer[]
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    jobs integer := array_length(ids, 1);
    edges integer := coalesce(array_length(children, 1), 0);
    first integer[] := array_fill(NULL::integer, ARRAY[jobs]);
    left_over integer[] := array_fill(0, ARRAY[jobs]);
    line integer[] := '{}';
    e integer;
    child integer;
    parent integer;
BEGIN
    depths := array_fill(0::smallint, ARRAY[jobs]);
    waiting := array_fill(0, ARRAY[jobs]);
    FOR e IN 1 .. edges LOOP
        child := children[e];
        parent := inner_parents[e];
        waiting[child] := waiting[child] + 1;
        IF parent IS NULL THEN
            depths[child] := greatest(depths[child], outer_depths[e] + 1);
            IF inherits[child] THEN
                priorities[child] := greatest(priorities[child], outer_priorities[e]);
            END IF;
        ELSE
            left_over[child] := left_over[child] + 1;
            first[parent] := coalesce(first[parent], e);
        END IF;
    END LOOP;
    FOR n IN 1 .. jobs LOOP
        IF left_over[n] = 0 THEN
            line := array_append(line, n);
        END IF;
    END LOOP;
    FOR n IN 1 .. jobs LOOP
        parent := line[n];
        IF parent IS NULL THEN
            PERFORM perdure.refuse_circle(ids, children, inner_parents, left_over);
        END IF;
        IF depths[parent] > 500 THEN
            RAISE EXCEPTION 'a chain of dependencies is longer than 500' USING ERRCODE = 'PD003';
        END IF;
        e := first[parent];
        WHILE inner_parents[e] = parent LOOP
            child := children[e];
            depths[child] := greatest(depths[child], depths[parent] + 1);
            IF inherits[child] THEN
                priorities[child] := greatest(priorities[child], priorities[parent]);
            END IF;
            left_over[child] := left_over[child] - 1;
            IF left_over[child] = 0 THEN
                line := array_append(line, child);
            END IF;
            e := e + 1;
        END LOOP;
    END LOOP;
END $$;

-- Name a circle among the jobs that still wait for one another.
CREATE FUNCTION perdure.refuse_circle(ids uuid[], children integer[], inner_parents integer[], left_over integer[])
RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    parent_of integer[] := array_fill(NULL::integer, ARRAY[array_length(ids, 1)]);
    path integer[];
    n integer;
BEGIN
    FOR e IN 1 .. array_length(children, 1) LOOP
        IF left_over[inner_parents[e]] > 0 THEN
            parent_of[children[e]] := inner_parents[e];
            n := children[e];
        END IF;
    END LOOP;
    WHILE array_position(path, n) IS NULL LOOP
        path := array_append(path, n);
        n := parent_of[n];
    END LOOP;
    path := path[array_position(path, n):] || n;
    RAISE EXCEPTION 'the dependencies run in a circle' USING ERRCODE = 'PD005', DETAIL = (
        SELECT jsonb_build_object('job_ids', jsonb_agg(ids[p.n] ORDER BY p.at DESC))::text FROM unnest(path) WITH ORDINALITY AS p (n, at)
    );
END $$;

-- Let parked jobs of these concurrency keys try again: as many of each as slots of the key are free.
-- The key's lock is taken before looking, so that a slot freed at the same time is not overlooked.
-- from: available   to: available
CREATE FUNCTION perdure.unpark(keys text[])
RETURNS TABLE (lane integer, band smallint, rank bigint, job_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM perdure.lock_keys(keys);
    RETURN QUERY
    WITH room AS (
        -- The slots that the best ranked parked job may use; another of the same key may allow more or fewer.
        SELECT k.key, (
            SELECT count(*) FROM generate_series(1, (
                SELECT (SELECT j.concurrency_limit FROM perdure.jobs j WHERE j.id = p.job_id) FROM perdure.parked_jobs p
                WHERE p.concurrency_key = k.key ORDER BY p.rank, p.job_id LIMIT 1
            )) AS n (slot)
            WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.concurrency_key = k.key AND l.slot = n.slot)
        ) AS slots
        FROM (SELECT DISTINCT u.key FROM unnest(keys) AS u (key)) k
    ), chosen AS (
        SELECT c.job_id FROM room r CROSS JOIN LATERAL (
            SELECT p.job_id FROM perdure.parked_jobs p WHERE p.concurrency_key = r.key
            ORDER BY p.rank, p.job_id LIMIT r.slots
        ) c
    ), gone AS (
        DELETE FROM perdure.parked_jobs p USING chosen c WHERE p.job_id = c.job_id RETURNING p.*
    )
    INSERT INTO perdure.available_jobs (job_id, rank, available_at, lane, band, run, attempt, crashes, interruptions, suspicion, gated)
    SELECT g.job_id, g.rank, g.available_at, g.lane, g.band, g.run, g.attempt, g.crashes, g.interruptions, g.suspicion, true
    FROM gone g
    RETURNING available_jobs.lane, available_jobs.band, available_jobs.rank, available_jobs.job_id;
END $$;

-- Hold the locks of concurrency keys until the transaction ends, taken in one order everywhere.
CREATE FUNCTION perdure.lock_keys(keys text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    FOR number IN SELECT DISTINCT hashtextextended(u.key, 0) FROM unnest(keys) AS u (key) ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock(number);
    END LOOP;
END $$;

-- Make the day partitions from yesterday to `days` ahead; rows that had to go to the default partition move over.
CREATE FUNCTION perdure.make_partitions(days integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    made integer := 0;
    wanted record;
BEGIN
    -- Two at once would make the same tables.
    PERFORM pg_advisory_xact_lock(hashtextextended('perdure.make_partitions', 0));
    FOR wanted IN
        SELECT t.parent, format('%s_%s', t.parent, to_char(d.day AT TIME ZONE 'UTC', 'YYYYMMDD')) AS name, t.column_name,
            CASE WHEN t.parent = 'jobs' THEN quote_literal(perdure.id_floor(d.day)) ELSE quote_literal(d.day) END AS low,
            CASE WHEN t.parent = 'jobs' THEN quote_literal(perdure.id_floor(d.day + interval '1 day'))
                ELSE quote_literal(d.day + interval '1 day') END AS high
        FROM (VALUES ('jobs', 'id'), ('job_executions', 'settled_at'), ('job_events', 'at')) AS t (parent, column_name)
        CROSS JOIN LATERAL (
            SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') + n * interval '1 day') AT TIME ZONE 'UTC' AS day
            FROM generate_series(-1, days) AS n
        ) d
        WHERE to_regclass(format('perdure.%I', format('%s_%s', t.parent, to_char(d.day AT TIME ZONE 'UTC', 'YYYYMMDD')))) IS NULL
    LOOP
        EXECUTE format('CREATE TABLE perdure.%I (LIKE perdure.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', wanted.name, wanted.parent);
        EXECUTE format('WITH moved AS (DELETE FROM perdure.%I WHERE %I >= %s AND %I < %s RETURNING *) INSERT INTO perdure.%I SELECT * FROM moved',
            wanted.parent || '_default', wanted.column_name, wanted.low, wanted.column_name, wanted.high, wanted.name);
        EXECUTE format('ALTER TABLE perdure.%I ATTACH PARTITION perdure.%I FOR VALUES FROM (%s) TO (%s)',
            wanted.parent, wanted.name, wanted.low, wanted.high);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
SELECT perdure.make_partitions(3);

-- The state of every job under the field's usual names. `available` includes jobs that wait for a slot of their key.
CREATE VIEW perdure.job_states AS
    SELECT job_id, 'pending'::perdure.job_state AS state, lane, run, 0::smallint AS attempt, 0::smallint AS crashes,
        0::smallint AS interruptions, since, run_at, NULL::text AS concurrency_key FROM perdure.blocked_jobs
    UNION ALL
    SELECT job_id, (CASE WHEN retry THEN 'retryable' ELSE 'scheduled' END)::perdure.job_state, lane, run, attempt, crashes,
        interruptions, since, run_at, NULL FROM perdure.scheduled_jobs
    UNION ALL
    SELECT job_id, 'available', lane, run, attempt, crashes, interruptions, available_at, NULL, NULL FROM perdure.available_jobs
    UNION ALL
    SELECT job_id, 'available', lane, run, attempt, crashes, interruptions, available_at, NULL, concurrency_key FROM perdure.parked_jobs
    UNION ALL
    SELECT job_id, 'running', lane, run, attempt, crashes, interruptions, claimed_at, NULL, concurrency_key FROM perdure.leases
    UNION ALL
    SELECT e.job_id, e.state, e.lane, e.run, e.attempt, e.crashes, e.interruptions, e.settled_at, NULL, NULL
    FROM perdure.job_executions e
    WHERE e.state IN ('completed', 'cancelled', 'discarded')
        AND NOT EXISTS (SELECT FROM perdure.job_executions n WHERE n.job_id = e.job_id AND n.run > e.run
            AND n.state IN ('completed', 'cancelled', 'discarded'))
        AND NOT EXISTS (SELECT FROM perdure.blocked_jobs b WHERE b.job_id = e.job_id)
        AND NOT EXISTS (SELECT FROM perdure.scheduled_jobs s WHERE s.job_id = e.job_id)
        AND NOT EXISTS (SELECT FROM perdure.available_jobs a WHERE a.job_id = e.job_id)
        AND NOT EXISTS (SELECT FROM perdure.parked_jobs p WHERE p.job_id = e.job_id)
        AND NOT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = e.job_id);
