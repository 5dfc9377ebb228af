-- How often the processes of a worker claimed since its last sample, and how long that took altogether.
ALTER TABLE perdure.worker_samples ADD COLUMN claims integer NOT NULL DEFAULT 0, ADD COLUMN claim_ms integer NOT NULL DEFAULT 0;
