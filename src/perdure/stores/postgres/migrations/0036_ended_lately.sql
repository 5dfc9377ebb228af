-- Attempts that did not complete their job, by when they ended: whoever asks for the errors of the last hour looks at those, and not at all
-- that had failed before. Attempts that complete never enter it.
CREATE INDEX job_executions_ended_lately ON perdure.job_executions (settled_at) WHERE state <> 'completed';
