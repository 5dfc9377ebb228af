-- Reading: where one job stands, what a filter's clauses mean, and the indexes that lists and rates need.

-- Jobs that ended badly are few among millions that completed; lists of them begin here. Completed rows never enter it.
CREATE INDEX job_executions_ended_badly ON perdure.job_executions (job_id) WHERE state IN ('cancelled', 'discarded');

-- The last minute of a history that only grows at its end (docs/decisions/0009-reading-indexes.md has the price).
CREATE INDEX job_executions_recent ON perdure.job_executions USING brin (settled_at) WITH (pages_per_range = 32, autosummarize = on);

-- Where one job stands: the one live row that it has, or else how its newest run ended. No row: there is no such job, or
-- its history has been pruned.
CREATE FUNCTION perdure.standing(of_job uuid) RETURNS TABLE (
    state perdure.job_state, run smallint, attempt smallint, crashes smallint, interruptions smallint, suspicion smallint,
    since timestamptz, run_at timestamptz, worker_id uuid, rank bigint, band smallint, parked_for text
) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT s.state, s.run, s.attempt, s.crashes, s.interruptions, s.suspicion, s.since, s.run_at, s.worker_id, s.rank, s.band, s.parked_for
    FROM (
        SELECT 1 AS place, 'running'::perdure.job_state AS state, l.run, l.attempt, l.crashes, l.interruptions, l.suspicion,
            l.claimed_at AS since, NULL::timestamptz AS run_at, l.worker_id, l.rank, l.band, NULL::text AS parked_for
        FROM perdure.leases l WHERE l.job_id = of_job
        UNION ALL
        SELECT 2, 'available', a.run, a.attempt, a.crashes, a.interruptions, a.suspicion, a.available_at, NULL, NULL, a.rank, a.band, NULL
        FROM perdure.available_jobs a WHERE a.job_id = of_job
        UNION ALL
        SELECT 3, 'available', p.run, p.attempt, p.crashes, p.interruptions, p.suspicion, p.available_at, NULL, NULL, p.rank, p.band,
            p.concurrency_key
        FROM perdure.parked_jobs p WHERE p.job_id = of_job
        UNION ALL
        SELECT 4, CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END::perdure.job_state, s.run, s.attempt, s.crashes,
            s.interruptions, s.suspicion, s.since, s.run_at, NULL, NULL, NULL, NULL
        FROM perdure.scheduled_jobs s WHERE s.job_id = of_job
        UNION ALL
        SELECT 5, 'pending', b.run, 0::smallint, 0::smallint, 0::smallint, 0::smallint, b.since, b.run_at, NULL, NULL, NULL, NULL
        FROM perdure.blocked_jobs b WHERE b.job_id = of_job
        UNION ALL
        (SELECT 6, e.state, e.run, e.attempt, e.crashes, e.interruptions, 0::smallint, e.settled_at, NULL, e.worker_id, NULL, NULL, NULL
        FROM perdure.job_executions e
        WHERE e.job_id = of_job AND e.state IN ('completed', 'cancelled', 'discarded')
        ORDER BY e.run DESC, e.settled_at DESC LIMIT 1)
    ) s ORDER BY s.place LIMIT 1
$$;

-- Whether a number compares with any of the numbers.
CREATE FUNCTION perdure.number_fits(value numeric, comparison text, numbers numeric[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE comparison WHEN '=' THEN value = ANY (numbers) WHEN '>=' THEN value >= ANY (numbers) WHEN '<=' THEN value <= ANY (numbers)
        WHEN '>' THEN value > ANY (numbers) WHEN '<' THEN value < ANY (numbers) END;

-- Whether a text is like any of the patterns.
CREATE FUNCTION perdure.text_fits(value text, folded boolean, patterns text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE WHEN folded THEN value ILIKE ANY (patterns) ELSE value LIKE ANY (patterns) END;

-- The lanes that fit all clauses on kind, queue and label.
CREATE FUNCTION perdure.lanes_that_fit(clauses jsonb) RETURNS SETOF integer LANGUAGE sql STABLE AS $$
    SELECT l.lane FROM perdure.lanes l
    WHERE NOT EXISTS (
        SELECT FROM jsonb_to_recordset(clauses) AS c (field text, negated boolean, folded boolean, patterns text[])
        WHERE c.negated = EXISTS (
            SELECT FROM unnest(CASE c.field WHEN 'kind' THEN ARRAY[l.kind] WHEN 'queue' THEN ARRAY[l.queue] ELSE l.labels END) AS t (word)
            WHERE perdure.text_fits(t.word, c.folded, c.patterns)
        )
    )
$$;

-- One row if arguments fit all clauses, none if not. The value at a path is compared as text, numbers as numbers; of an array,
-- any element. These are sets and not booleans because the planner then makes them part of the query: a fifth of the time.
CREATE FUNCTION perdure.args_that_fit(args jsonb, clauses jsonb) RETURNS SETOF boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1 AS $$
    SELECT true WHERE clauses IS NULL OR NOT EXISTS (
        SELECT FROM jsonb_to_recordset(clauses) AS c (negated boolean, folded boolean, patterns text[], numbers numeric[],
            strings text[], comparison text, path text[])
        WHERE c.negated = EXISTS (
            SELECT FROM jsonb_array_elements(CASE WHEN jsonb_typeof(args #> c.path) = 'array' THEN args #> c.path
                ELSE jsonb_build_array(args #> c.path) END) AS v (value)
            WHERE args #> c.path IS NOT NULL AND (
                perdure.text_fits(v.value #>> '{}', c.folded, c.patterns)
                OR CASE WHEN jsonb_typeof(v.value) = 'number' THEN perdure.number_fits(v.value::numeric, c.comparison, c.numbers) END
                OR CASE WHEN jsonb_typeof(v.value) = 'string' THEN v.value #>> '{}' = ANY (c.strings) END
            )
        )
    )
$$;

-- One row if a job fits all clauses on its words: a clause fits if any text of its field does, and `words` holds pairs of
-- field and text.
CREATE FUNCTION perdure.words_that_fit(words text[], attempt smallint, clauses jsonb) RETURNS SETOF boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1 AS $$
    SELECT true WHERE clauses IS NULL OR NOT EXISTS (
        SELECT FROM jsonb_to_recordset(clauses) AS c (field text, negated boolean, folded boolean, patterns text[], numbers numeric[],
            comparison text)
        WHERE c.negated = CASE WHEN c.field = 'attempt' THEN perdure.number_fits(attempt, c.comparison, c.numbers)
            ELSE EXISTS (
                SELECT FROM generate_series(1, cardinality(words), 2) AS i (place)
                WHERE words[i.place] = c.field AND perdure.text_fits(words[i.place + 1], c.folded, c.patterns)
            ) END
    )
$$;
