-- How often the processes of a worker claimed since its last sample, and how long that took altogether.
ALTER TABLE perdure.worker_samples ADD COLUMN claims integer NOT NULL DEFAULT 0, ADD COLUMN claim_ms integer NOT NULL DEFAULT 0;
CREATE INDEX worker_samples_at ON perdure.worker_samples USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
