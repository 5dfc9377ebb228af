DROP INDEX perdure.job_executions_ended_lately;
