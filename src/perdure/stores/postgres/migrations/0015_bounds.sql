-- Values from plain SQL that the program itself would refuse: a time-out that no deadline can hold, a null label, a time without end.

-- Refuse what no later statement would catch with a clear word: ids out of time, bad values.
CREATE OR REPLACE FUNCTION perdure.check_jobs(jobs jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    bad record;
BEGIN
    SELECT bool_or(j.id IS NULL OR j.id NOT BETWEEN perdure.id_floor(now() - interval '1 day') AND perdure.id_floor(now() + interval '1 day')
        OR substr(j.id::text, 15, 1) <> '7' OR j.kind IS NULL OR length(j.kind) NOT BETWEEN 1 AND 200
        OR length(j.queue) NOT BETWEEN 1 AND 200 OR jsonb_typeof(j.args) <> 'object' OR j.priority NOT BETWEEN 1 AND 5
        OR j.max_attempts < 1 OR j.timeout_ms NOT BETWEEN 0 AND 2073600000 OR j.crash_limit < 1 OR j.concurrency_limit < 1
        OR length(j.unique_key) NOT BETWEEN 1 AND 500 OR length(j.concurrency_key) NOT BETWEEN 1 AND 500
        OR j.unique_states & 23 <> 23 OR array_position(j.labels, NULL) IS NOT NULL OR NOT isfinite(j.run_at)) AS wrong, count(DISTINCT j.id) < count(j.id) AS repeated
    INTO bad FROM perdure.read_jobs(jobs) j;
    IF bad.repeated THEN
        RAISE EXCEPTION 'one id is given to two jobs'
            USING ERRCODE = 'PD004', DETAIL = jsonb_build_object('field', 'id', 'why', 'is given to two jobs of the call')::text;
    ELSIF bad.wrong THEN
        PERFORM perdure.refuse_job(jobs);
    END IF;
END $$;

-- Say which job of a batch is wrong, and how.
CREATE OR REPLACE FUNCTION perdure.refuse_job(jobs jsonb) RETURNS void LANGUAGE plpgsql AS $$
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
        (j.timeout_ms NOT BETWEEN 0 AND 2073600000, 'timeout_ms', 'must be at most 2073600000 (24 days), or 0 for none'),
        (j.crash_limit < 1, 'crash_limit', 'must be at least 1'),
        (j.concurrency_limit < 1, 'concurrency_limit', 'must be at least 1'),
        (length(j.concurrency_key) NOT BETWEEN 1 AND 500, 'concurrency_key', 'must have 1 to 500 characters'),
        (length(j.unique_key) NOT BETWEEN 1 AND 500, 'unique_key', 'must have 1 to 500 characters'),
        (j.unique_states & 23 <> 23, 'unique_states', 'must count pending, scheduled, available and retryable'),
        (array_position(j.labels, NULL) IS NOT NULL, 'labels', 'must not hold null'),
        (NOT isfinite(j.run_at), 'run_at', 'must be a moment'),
        (j.id IS NULL OR substr(j.id::text, 15, 1) <> '7' OR j.id NOT BETWEEN perdure.id_floor(now() - interval '1 day')
            AND perdure.id_floor(now() + interval '1 day'), 'id', 'must be a version 7 UUID made within a day of the database''s time')
    ) AS c (wrong, field, why)
    WHERE c.wrong ORDER BY j.ordinal LIMIT 1;
    RAISE EXCEPTION 'job %: % %', bad.ordinal, bad.field, bad.why
        USING ERRCODE = 'PD004', DETAIL = jsonb_build_object('field', bad.field, 'why', bad.why)::text;
END $$;
