-- Forget the samples, and their upkeep.

-- The day partitions that should be there and are not: from yesterday to `ahead` days from now, and those of rows that had to go
-- to a default partition.
CREATE OR REPLACE FUNCTION perdure.missing_partitions(ahead integer) RETURNS TABLE (parent text, name text, day timestamptz)
LANGUAGE sql STABLE AS $$
    WITH today AS (
        SELECT date_trunc('day', now() AT TIME ZONE 'UTC') AS day
    ), wanted AS (
        SELECT t.parent, n.day
        FROM today CROSS JOIN unnest(ARRAY['jobs', 'job_executions', 'job_events']) AS t (parent)
        CROSS JOIN generate_series(today.day - interval '1 day', today.day + ahead * interval '1 day', interval '1 day') AS n (day)
        UNION
        SELECT 'jobs', date_trunc('day', perdure.made_at(j.id) AT TIME ZONE 'UTC') FROM perdure.jobs_default j
        UNION
        SELECT 'job_executions', date_trunc('day', e.settled_at AT TIME ZONE 'UTC') FROM perdure.job_executions_default e
        UNION
        SELECT 'job_events', date_trunc('day', e.at AT TIME ZONE 'UTC') FROM perdure.job_events_default e
    )
    SELECT w.parent, n.name, w.day AT TIME ZONE 'UTC'
    FROM wanted w CROSS JOIN today CROSS JOIN LATERAL (SELECT format('%s_%s', w.parent, to_char(w.day, 'YYYYMMDD')) AS name) n
    WHERE w.day BETWEEN today.day - interval '10 years' AND today.day + ahead * interval '1 day'
        AND NOT EXISTS (SELECT FROM perdure.day_partitions d WHERE d.parent = w.parent AND d.name = n.name)
    ORDER BY w.day, w.parent
$$;

-- Make one day partition and move to it what had to go to the default partition: null when it is there, else why it is not.
-- The default partition is locked before rows move, so that none slips in between; the parent stays open to all.
CREATE OR REPLACE FUNCTION perdure.make_partition(of_table text, of_day timestamptz) RETURNS text LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
    wanted text := format('%s_%s', of_table, to_char(of_day AT TIME ZONE 'UTC', 'YYYYMMDD'));
    spare text := of_table || '_default';
    field text := CASE of_table WHEN 'jobs' THEN 'id' WHEN 'job_executions' THEN 'settled_at' WHEN 'job_events' THEN 'at' END;
    low text := CASE of_table WHEN 'jobs' THEN perdure.id_floor(of_day)::text ELSE of_day::text END;
    high text := CASE of_table WHEN 'jobs' THEN perdure.id_floor(of_day + interval '1 day')::text ELSE (of_day + interval '1 day')::text END;
    why text := perdure.obstacle(ARRAY[format('perdure.%I', spare)::regclass]);
BEGIN
    IF why IS NOT NULL OR EXISTS (SELECT FROM perdure.day_partitions d WHERE d.name = wanted) THEN
        RETURN why;
    END IF;
    EXECUTE format('LOCK TABLE ONLY perdure.%I IN SHARE UPDATE EXCLUSIVE MODE', of_table);
    EXECUTE format('LOCK TABLE perdure.%I IN ACCESS EXCLUSIVE MODE', spare);
    EXECUTE format('CREATE TABLE perdure.%I (LIKE perdure.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', wanted, of_table);
    EXECUTE format('WITH moved AS (DELETE FROM perdure.%1$I WHERE %2$I >= %3$L AND %2$I < %4$L RETURNING *) INSERT INTO perdure.%5$I SELECT * FROM moved',
        spare, field, low, high, wanted);
    EXECUTE format('ALTER TABLE perdure.%I ATTACH PARTITION perdure.%I FOR VALUES FROM (%L) TO (%L)', of_table, wanted, low, high);
    RETURN NULL;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN 'others held locks for 2 seconds';
    WHEN insufficient_privilege OR duplicate_table THEN
        RETURN SQLERRM;
END $$;

-- Why a day of history must stay; null when no body is left of the jobs that it tells of. As long as there is the body, a child
-- may be enqueued that asks how the job has ended.
CREATE OR REPLACE FUNCTION perdure.history_needed(of_table text, of_day timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('it tells of jobs in %s', b.name)
    FROM (
        SELECT d.name, perdure.id_floor(d.day) AS low, perdure.id_floor(d.day + interval '1 day') AS high
        FROM perdure.day_partitions d WHERE d.parent = 'jobs'
        UNION ALL
        SELECT 'jobs_default', j.id, j.id FROM perdure.jobs_default j
    ) b
    WHERE CASE of_table
        WHEN 'job_executions' THEN EXISTS (SELECT FROM perdure.job_executions e
            WHERE e.settled_at >= of_day AND e.settled_at < of_day + interval '1 day' AND e.job_id BETWEEN b.low AND b.high)
        ELSE EXISTS (SELECT FROM perdure.job_events v
            WHERE v.at >= of_day AND v.at < of_day + interval '1 day' AND v.job_id BETWEEN b.low AND b.high)
    END LIMIT 1
$$;

-- The attached day partitions; a day begins at midnight UTC.
CREATE OR REPLACE VIEW perdure.day_partitions AS
    SELECT p.relname::text AS parent, c.relname::text AS name, to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
    WHERE i.inhparent IN ('perdure.jobs'::regclass, 'perdure.job_executions'::regclass, 'perdure.job_events'::regclass)
        AND c.relname ~ '_\d{8}$';

DROP TABLE perdure.worker_samples;
