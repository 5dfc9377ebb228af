-- What the jobs of one kind have in common is checked where it comes in, and no longer with each job: a domain is prepared anew for every
-- column of every statement, and a CHECK is read anew. Together they were half of what storing a job cost the server above a bare insert
-- (docs/decisions/0033-what-is-checked-once.md). No row is written anew; the arguments, which each job has of its own, keep their domain.
ALTER TABLE perdure.jobs
    ALTER priority TYPE smallint, ALTER max_attempts TYPE smallint, ALTER depth TYPE smallint, ALTER timeout_ms TYPE integer,
    ALTER crash_limit TYPE smallint, ALTER concurrency_limit TYPE smallint, ALTER unique_key TYPE text, ALTER concurrency_key TYPE text;
ALTER TABLE perdure.available_jobs DROP CONSTRAINT available_jobs_band_check;
DROP DOMAIN perdure.priority, perdure.positive, perdure.depth, perdure.milliseconds, perdure.key;
