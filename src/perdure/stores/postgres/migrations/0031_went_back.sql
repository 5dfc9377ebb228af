-- Attempts that sent their job back to wait: released, interrupted, snoozed, lost. Whoever looks for what went wrong begins at these
-- and at those that failed, however many jobs wait that nobody has tried yet. Attempts that complete never enter it.
CREATE INDEX job_executions_went_back ON perdure.job_executions (job_id) WHERE state IN ('pending', 'scheduled', 'available');
