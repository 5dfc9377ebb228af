-- An enqueue locks nothing of the jobs that hold its unique keys, so that no transaction of a user holds up their settlements.

DROP FUNCTION perdure.enqueue_jobs(jsonb, text), perdure.read_links(jsonb), perdure.take_unique_keys(jsonb);

-- Take the unique keys of a batch where they are free or have run out, and give the other job that holds the key, by the place in
-- the batch; none where the job has it itself, or is stored already. No row of a holder is locked: it may be settled at any moment, by
-- those who must not wait for this transaction, which may be a user's and stand open (docs/decisions/0005-late-parents.md). So a
-- holder may be gone as soon as it was met; then its key is free, and is tried again.
CREATE FUNCTION perdure.take_unique_keys(jobs jsonb) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    holders uuid[];
    unsettled boolean;
BEGIN
    FOR look IN 1 .. 100 LOOP
        DELETE FROM perdure.unique_keys u WHERE u.expires_at <= now() AND u.key = ANY (ARRAY(
            SELECT k.key FROM perdure.read_jobs(jobs) j JOIN perdure.unique_keys k ON k.key = j.unique_key
            WHERE k.expires_at <= now() AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)
            ORDER BY k.key FOR UPDATE OF k
        ));
        INSERT INTO perdure.unique_keys (key, job_id, states, expires_at)
        SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, now() + j.unique_for_ms * interval '1 millisecond'
        FROM perdure.read_jobs(jobs) j
        WHERE j.unique_key IS NOT NULL AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)
        ORDER BY j.unique_key, j.ordinal
        ON CONFLICT (key) DO NOTHING;
        SELECT array_agg(nullif(f.holder, f.id) ORDER BY f.ordinal), bool_or(f.asks AND f.holder IS NULL) INTO holders, unsettled
        FROM (
            SELECT a.*, CASE WHEN a.asks THEN (
                -- The own row first: a snapshot of the whole transaction may show one that has gone since beside it.
                SELECT u.job_id FROM perdure.unique_keys u WHERE u.key = a.unique_key ORDER BY u.job_id = a.id DESC LIMIT 1
            ) END AS holder
            FROM (
                SELECT j.ordinal, j.id, j.unique_key,
                    j.unique_key IS NOT NULL AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id) AS asks
                FROM perdure.read_jobs(jobs) j
            ) a
        ) f;
        IF NOT unsettled THEN
            RETURN holders;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'a unique key changed its holder too often meanwhile' USING ERRCODE = 'serialization_failure';
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
    holders uuid[];
    linked boolean := jobs @? '$[*] ? (exists (@.parents[*]))';
BEGIN
    IF jobs @? '$[*] ? (!exists (@.id))' THEN
        SELECT jsonb_agg(CASE WHEN e.job ? 'id' THEN e.job ELSE e.job || jsonb_build_object('id', perdure.new_job_id()) END ORDER BY e.n)
        INTO jobs FROM jsonb_array_elements(jobs) WITH ORDINALITY AS e (job, n);
    END IF;
    PERFORM perdure.check_jobs(jobs);
    PERFORM perdure.ensure_lanes(jobs);
    IF jobs @? '$[*].unique_key' THEN
        holders := perdure.take_unique_keys(jobs);
        FOR clash IN
            SELECT j.unique_key, holders[j.ordinal] AS job_id FROM perdure.read_jobs(jobs) j
            WHERE on_duplicate = 'raise' AND holders[j.ordinal] IS NOT NULL LIMIT 1
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
            holders[j.ordinal] AS key_holder,
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

-- The jobs and edges of a batch as arrays: `ids` to `outward` by the place of the job in the batch, `children` to
-- `outer_priorities` by edge, those with a parent outside of the batch first. A parent that was refused for its unique
-- key is replaced by the holder of the key, who is asked for once more, so that what is written goes by one answer. Joins are hashed: the
-- planner takes a batch for a hundred rows.
CREATE FUNCTION perdure.read_links(
    jobs jsonb, OUT ids uuid[], OUT lanes integer[], OUT priorities smallint[], OUT inherits boolean[], OUT holders uuid[],
    OUT created boolean[], OUT outward boolean[], OUT children integer[], OUT parents uuid[],
    OUT policies perdure.on_parent_failure[], OUT inner_parents integer[], OUT outer_depths smallint[],
    OUT outer_priorities smallint[]
) LANGUAGE plpgsql SET enable_nestloop = off AS $$
DECLARE
    missing uuid;
    key_holders uuid[] := CASE WHEN jobs @? '$[*].unique_key' THEN perdure.take_unique_keys(jobs) END;
BEGIN
    SELECT array_agg(b.id ORDER BY b.n), array_agg(b.lane ORDER BY b.n), array_agg(b.priority ORDER BY b.n),
        array_agg(b.inherit_priority ORDER BY b.n), array_agg(b.holder ORDER BY b.n),
        array_agg(b.holder IS NULL AND NOT b.stored ORDER BY b.n), array_agg(false)
    INTO ids, lanes, priorities, inherits, holders, created, outward
    FROM (
        SELECT j.ordinal AS n, j.id, j.priority, j.inherit_priority,
            (SELECT l.lane FROM perdure.lanes l WHERE l.queue = j.queue AND l.kind = j.kind AND l.labels = j.labels) AS lane,
            key_holders[j.ordinal] AS holder,
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
