-- Back to domains for the columns of jobs and a CHECK for the band; reads and writes every job once.
CREATE DOMAIN perdure.priority AS smallint CHECK (VALUE BETWEEN 1 AND 5);
CREATE DOMAIN perdure.positive AS smallint CHECK (VALUE >= 1);
CREATE DOMAIN perdure.depth AS smallint CHECK (VALUE BETWEEN 0 AND 500);
CREATE DOMAIN perdure.milliseconds AS integer CHECK (VALUE > 0);
CREATE DOMAIN perdure.key AS text CHECK (length(VALUE) BETWEEN 1 AND 500);
ALTER TABLE perdure.available_jobs ADD CONSTRAINT available_jobs_band_check CHECK (band BETWEEN 0 AND 3);
ALTER TABLE perdure.jobs
    ALTER priority TYPE perdure.priority, ALTER max_attempts TYPE perdure.positive, ALTER depth TYPE perdure.depth,
    ALTER timeout_ms TYPE perdure.milliseconds, ALTER crash_limit TYPE perdure.positive, ALTER concurrency_limit TYPE perdure.positive,
    ALTER unique_key TYPE perdure.key, ALTER concurrency_key TYPE perdure.key;
