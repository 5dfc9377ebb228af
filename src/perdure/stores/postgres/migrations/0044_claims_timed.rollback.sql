DROP INDEX perdure.worker_samples_at;
ALTER TABLE perdure.worker_samples DROP COLUMN claims, DROP COLUMN claim_ms;
