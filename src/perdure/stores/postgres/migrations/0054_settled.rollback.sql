DROP INDEX perdure.job_executions_settled;
