-- Take the core away, with all that it holds; the table of migrations stays.

DROP TABLE perdure.leaders, perdure.job_events, perdure.workers, perdure.job_progress, perdure.unique_keys,
    perdure.dead_letter_queue, perdure.job_executions, perdure.cancel_requests, perdure.leases,
    perdure.job_dependencies, perdure.blocked_jobs, perdure.scheduled_jobs, perdure.parked_jobs,
    perdure.available_jobs, perdure.jobs, perdure.lanes, perdure.queues;
DROP TYPE perdure.worker_state, perdure.edge_state, perdure.on_parent_failure, perdure.outcome, perdure.job_state;
