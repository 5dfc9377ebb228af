DROP INDEX perdure.job_executions_recent;
CREATE INDEX job_executions_recent ON perdure.job_executions
    USING brin (settled_at, claimed_at) WITH (pages_per_range = 32, autosummarize = on);
DROP INDEX perdure.job_events_waited;
