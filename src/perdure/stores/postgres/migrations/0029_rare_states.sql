-- Pages of the past of states that few jobs are in: found by when attempts began and ended, and by how they ended.

-- An attempt that ran at a moment began before it and ended after it. Both times rise with the place in the table, so that block ranges
-- tell which few pages hold such attempts.
DROP INDEX perdure.job_executions_recent;
CREATE INDEX job_executions_recent ON perdure.job_executions USING brin (settled_at, claimed_at) WITH (pages_per_range = 32, autosummarize = on);

-- Attempts after which their job was to be tried again; only failures pay for it.
CREATE INDEX job_executions_retried ON perdure.job_executions (job_id) WHERE state = 'retryable';
