DROP INDEX perdure.job_executions_went_back;
