DROP INDEX perdure.job_executions_retried;
DROP INDEX perdure.job_executions_recent;
CREATE INDEX job_executions_recent ON perdure.job_executions USING brin (settled_at) WITH (pages_per_range = 32, autosummarize = on);
