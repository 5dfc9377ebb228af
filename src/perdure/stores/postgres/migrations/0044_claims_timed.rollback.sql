ALTER TABLE perdure.worker_samples DROP COLUMN claims, DROP COLUMN claim_ms;
