DROP INDEX perdure.job_executions_order;
DROP TABLE perdure.execution_memory;
