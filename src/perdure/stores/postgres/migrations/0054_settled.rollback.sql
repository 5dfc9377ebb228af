DROP INDEX perdure.job_executions_settled;

DROP FUNCTION perdure.just_ended(timestamptz);
