-- Upkeep: day partitions come and go without holding up those who work.

-- The attached day partitions; a day begins at midnight UTC.
CREATE VIEW perdure.day_partitions AS
    SELECT p.relname::text AS parent, c.relname::text AS name, to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
    WHERE i.inhparent IN ('perdure.jobs'::regclass, 'perdure.job_executions'::regclass, 'perdure.job_events'::regclass)
        AND c.relname ~ '_\d{8}$';

-- The day partitions that should be there and are not: from yesterday to `ahead` days from now, and those of rows that had to go
-- to a default partition.
CREATE FUNCTION perdure.missing_partitions(ahead integer) RETURNS TABLE (parent text, name text, day timestamptz)
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

-- Why partitions cannot be changed now; null when they can, and then this transaction has the sole right to. A request for an
-- exclusive lock makes everyone wait who comes after it; so none is made while a transaction older than a second holds one of
-- the tables. Autovacuum gives way by itself.
CREATE FUNCTION perdure.obstacle(tables regclass[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN 'needs the isolation level read committed, to see what others did while it waited for its locks';
    ELSIF NOT pg_try_advisory_xact_lock(hashtextextended('perdure upkeep ' || 'perdure.jobs'::regclass::oid, 0)) THEN
        RETURN 'another process is at it';
    END IF;
    RETURN (
        SELECT format('a transaction of process %s has held %s for more than a second', coalesce(l.pid::text, '(prepared)'), l.relation::regclass)
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.relation = ANY (tables) AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
            AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
            AND (l.pid IS NULL OR a.xact_start < clock_timestamp() - interval '1 second')
            AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
        ORDER BY a.xact_start LIMIT 1
    );
END $$;

-- Make one day partition and move to it what had to go to the default partition: null when it is there, else why it is not.
-- The default partition is locked before rows move, so that none slips in between; the parent stays open to all.
CREATE FUNCTION perdure.make_partition(of_table text, of_day timestamptz) RETURNS text LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
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

-- Why the bodies from `low` to below `high` must stay; null when nothing refers to them. A child that has ended holds no parent.
-- What ended, or happened, since the horizon is kept with its body. One query, so that no job slips from table to table unseen.
CREATE FUNCTION perdure.bodies_needed(low uuid, high uuid, horizon timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM perdure.leases l WHERE l.job_id >= low AND l.job_id < high) THEN 'a job runs'
        WHEN EXISTS (SELECT FROM perdure.available_jobs a WHERE a.job_id >= low AND a.job_id < high) THEN 'a job is available'
        WHEN EXISTS (SELECT FROM perdure.parked_jobs p WHERE p.job_id >= low AND p.job_id < high) THEN 'a job waits for a slot of its key'
        WHEN EXISTS (SELECT FROM perdure.scheduled_jobs s WHERE s.job_id >= low AND s.job_id < high) THEN 'a job is scheduled'
        WHEN EXISTS (SELECT FROM perdure.blocked_jobs b WHERE b.job_id >= low AND b.job_id < high) THEN 'a job waits for its parents'
        WHEN EXISTS (SELECT FROM perdure.dead_letter_queue q WHERE q.job_id >= low AND q.job_id < high) THEN 'a dead letter'
        WHEN EXISTS (SELECT FROM perdure.unique_keys u WHERE u.job_id >= low AND u.job_id < high) THEN 'a job holds a unique key'
        WHEN EXISTS (SELECT FROM perdure.job_executions e WHERE e.settled_at >= horizon AND e.job_id >= low AND e.job_id < high)
            THEN 'a job ended within the retention'
        WHEN EXISTS (SELECT FROM perdure.job_events v WHERE v.at >= horizon AND v.job_id >= low AND v.job_id < high)
            THEN 'an event of a job lies within the retention'
        WHEN EXISTS (SELECT FROM perdure.cancel_requests c WHERE c.job_id >= low AND c.job_id < high) THEN 'a request to cancel'
        WHEN EXISTS (SELECT FROM perdure.job_progress p WHERE p.job_id >= low AND p.job_id < high) THEN 'a report of progress'
        WHEN EXISTS (
            SELECT FROM perdure.job_dependencies d JOIN perdure.blocked_jobs b ON b.job_id = d.child_id
            WHERE d.parent_id >= low AND d.parent_id < high AND d.state = 'waiting'
        ) THEN 'a child waits for a job'
    END
$$;

-- Why a day of history must stay; null when no body is left of the jobs that it tells of. As long as there is the body, a child
-- may be enqueued that asks how the job has ended.
CREATE FUNCTION perdure.history_needed(of_table text, of_day timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
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

-- Drop one day partition that is older than the horizon: `dropped`, `kept` for a reason, or `postponed` by an obstacle. What speaks for
-- keeping it is looked for again under the lock: whoever makes a new reference to a job reads its body in the same transaction,
-- and so has either committed before the lock was granted or finds no body after it.
CREATE FUNCTION perdure.drop_partition(of_table text, of_day timestamptz, horizon timestamptz, OUT verdict text, OUT why text)
LANGUAGE plpgsql SET lock_timeout = '2s' SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    unwanted text := format('%s_%s', of_table, to_char(of_day AT TIME ZONE 'UTC', 'YYYYMMDD'));
    spare text := of_table || '_default';
    locked boolean := false;
BEGIN
    IF of_day + interval '1 day' > horizon THEN
        RAISE EXCEPTION 'partition % is younger than the horizon %', unwanted, horizon;
    END IF;
    LOOP
        why := CASE of_table WHEN 'jobs' THEN perdure.bodies_needed(perdure.id_floor(of_day), perdure.id_floor(of_day + interval '1 day'), horizon)
            ELSE perdure.history_needed(of_table, of_day) END;
        IF why IS NOT NULL THEN
            verdict := 'kept';
            RETURN;
        END IF;
        EXIT WHEN locked;
        why := perdure.obstacle(ARRAY[format('perdure.%I', of_table)::regclass, to_regclass(format('perdure.%I', unwanted)),
            format('perdure.%I', spare)::regclass]);
        IF why IS NOT NULL THEN
            verdict := 'postponed';
            RETURN;
        END IF;
        EXECUTE format('LOCK TABLE ONLY perdure.%I IN ACCESS EXCLUSIVE MODE', of_table);
        EXECUTE format('LOCK TABLE perdure.%I, perdure.%I IN ACCESS EXCLUSIVE MODE', unwanted, spare);
        locked := true;
    END LOOP;
    EXECUTE format('DROP TABLE perdure.%I', unwanted);
    verdict := 'dropped';
EXCEPTION
    WHEN undefined_table THEN
        verdict := 'postponed';
        why := 'another process has dropped it';
    WHEN lock_not_available THEN
        verdict := 'postponed';
        why := 'others held locks for 2 seconds';
    WHEN insufficient_privilege OR dependent_objects_still_exist THEN
        verdict := 'postponed';
        why := SQLERRM;
END $$;
