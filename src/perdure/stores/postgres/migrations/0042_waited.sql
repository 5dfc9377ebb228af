-- Where to begin for the jobs that waited at a moment of the past: for those that waited for a time, at the events that tell of it; for those that
-- were available, at the attempts since whose job had become available by then, few block ranges where nobody waits for long.
CREATE INDEX job_events_waited ON perdure.job_events (job_id) WHERE detail ? 'scheduled_xid' OR detail ? 'delay_ms';
DROP INDEX perdure.job_executions_recent;
CREATE INDEX job_executions_recent ON perdure.job_executions
    USING brin (settled_at, claimed_at, available_at) WITH (pages_per_range = 32, autosummarize = on);
