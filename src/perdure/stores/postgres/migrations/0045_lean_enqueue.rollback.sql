ALTER TABLE perdure.available_jobs ADD CONSTRAINT available_jobs_band_check CHECK (band BETWEEN 0 AND 3);
ALTER TABLE perdure.jobs
    ADD CONSTRAINT jobs_keys_check
        CHECK ((unique_key IS NULL) = (unique_states IS NULL) AND (concurrency_key IS NULL) = (concurrency_limit IS NULL));
