ALTER TABLE perdure.jobs
    DROP CONSTRAINT jobs_keys_check,
    ALTER COLUMN priority TYPE smallint,
    ALTER COLUMN max_attempts TYPE smallint,
    ALTER COLUMN depth TYPE smallint,
    ALTER COLUMN timeout_ms TYPE integer,
    ALTER COLUMN crash_limit TYPE smallint,
    ALTER COLUMN concurrency_limit TYPE smallint,
    ALTER COLUMN args TYPE jsonb,
    ALTER COLUMN unique_key TYPE text,
    ALTER COLUMN concurrency_key TYPE text,
    ADD CONSTRAINT jobs_priority_check CHECK (priority BETWEEN 1 AND 5),
    ADD CONSTRAINT jobs_max_attempts_check CHECK (max_attempts >= 1),
    ADD CONSTRAINT jobs_depth_check CHECK (depth BETWEEN 0 AND 500),
    ADD CONSTRAINT jobs_timeout_ms_check CHECK (timeout_ms > 0),
    ADD CONSTRAINT jobs_crash_limit_check CHECK (crash_limit >= 1),
    ADD CONSTRAINT jobs_concurrency_limit_check CHECK (concurrency_limit >= 1),
    ADD CONSTRAINT jobs_args_check CHECK (jsonb_typeof(args) = 'object'),
    ADD CONSTRAINT jobs_unique_key_check CHECK (length(unique_key) BETWEEN 1 AND 500),
    ADD CONSTRAINT jobs_concurrency_key_check CHECK (length(concurrency_key) BETWEEN 1 AND 500),
    ADD CONSTRAINT jobs_check CHECK ((unique_key IS NULL) = (unique_states IS NULL)),
    ADD CONSTRAINT jobs_check1 CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL));
DROP DOMAIN perdure.priority, perdure.positive, perdure.depth, perdure.milliseconds, perdure.arguments, perdure.key;

CREATE OR REPLACE FUNCTION perdure.rank_of(ready timestamptz, priority smallint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (extract(epoch FROM ready) * 1000000)::bigint
    - CASE WHEN priority >= 4 THEN 180000000 WHEN priority >= 2 THEN 60000000 ELSE 0 END;

CREATE OR REPLACE FUNCTION perdure.id_floor(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
