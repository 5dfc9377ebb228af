-- What costs every single enqueue. A CHECK of a table is read and prepared anew by each statement, 4 microseconds each and 40 for
-- those of `jobs`; the constraint of a domain is prepared once for a session. And a function that calls one which depends on the
-- session's time zone is never inlined: 35 microseconds for each statement that names it (docs/decisions/0011-quick-enqueue.md).
-- What no domain can say, that a key stands with its states or its limit, stays a CHECK, one for both.

CREATE DOMAIN perdure.priority AS smallint CHECK (VALUE BETWEEN 1 AND 5);
CREATE DOMAIN perdure.positive AS smallint CHECK (VALUE >= 1);
CREATE DOMAIN perdure.depth AS smallint CHECK (VALUE BETWEEN 0 AND 500);
CREATE DOMAIN perdure.milliseconds AS integer CHECK (VALUE > 0);
CREATE DOMAIN perdure.arguments AS jsonb CHECK (jsonb_typeof(VALUE) = 'object');
CREATE DOMAIN perdure.key AS text CHECK (length(VALUE) BETWEEN 1 AND 500);

ALTER TABLE perdure.jobs
    DROP CONSTRAINT jobs_priority_check, DROP CONSTRAINT jobs_max_attempts_check, DROP CONSTRAINT jobs_depth_check,
    DROP CONSTRAINT jobs_timeout_ms_check, DROP CONSTRAINT jobs_crash_limit_check, DROP CONSTRAINT jobs_concurrency_limit_check,
    DROP CONSTRAINT jobs_args_check, DROP CONSTRAINT jobs_unique_key_check, DROP CONSTRAINT jobs_concurrency_key_check,
    DROP CONSTRAINT jobs_check, DROP CONSTRAINT jobs_check1,
    ALTER COLUMN priority TYPE perdure.priority,
    ALTER COLUMN max_attempts TYPE perdure.positive,
    ALTER COLUMN depth TYPE perdure.depth,
    ALTER COLUMN timeout_ms TYPE perdure.milliseconds,
    ALTER COLUMN crash_limit TYPE perdure.positive,
    ALTER COLUMN concurrency_limit TYPE perdure.positive,
    ALTER COLUMN args TYPE perdure.arguments,
    ALTER COLUMN unique_key TYPE perdure.key,
    ALTER COLUMN concurrency_key TYPE perdure.key,
    ADD CONSTRAINT jobs_keys_check
        CHECK ((unique_key IS NULL) = (unique_states IS NULL) AND (concurrency_key IS NULL) = (concurrency_limit IS NULL));

CREATE OR REPLACE FUNCTION perdure.rank_of(ready timestamptz, priority smallint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (extract(epoch FROM ready - timestamptz '1970-01-01 00:00:00+00') * 1000000)::bigint
    - CASE WHEN priority >= 4 THEN 180000000 WHEN priority >= 2 THEN 60000000 ELSE 0 END;

CREATE OR REPLACE FUNCTION perdure.id_floor(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (lpad(to_hex((extract(epoch FROM moment - timestamptz '1970-01-01 00:00:00+00') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- Producers remember lanes for a second. Numbers that begin somewhere else in every schema keep what they remember of one that was
-- dropped from naming another lane in the one that took its place.
SELECT setval(pg_get_serial_sequence('perdure.lanes', 'lane'),
    (SELECT coalesce(max(l.lane), 0) FROM perdure.lanes l) + 1 + (random() * 500000000)::integer);
