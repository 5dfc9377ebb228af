ALTER TABLE perdure.jobs
    ADD CONSTRAINT jobs_keys_check
        CHECK ((unique_key IS NULL) = (unique_states IS NULL) AND (concurrency_key IS NULL) = (concurrency_limit IS NULL));
