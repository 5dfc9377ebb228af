-- What workers tell of themselves.

-- name: write(ages_ms, worker_ids, running, finished, failed, timed_out, retried, crashed, cpu_percent, resident_mb, memory_percent, open_files, loop_lag_ms, beat_late_ms, database_ms, slowness, queue_wait_ms, claims, claim_ms)
-- Keep samples, many at once. Their ages come as milliseconds, so that the database's clock dates them.
INSERT INTO perdure.worker_samples (at, worker_id, running, finished, failed, timed_out, retried, crashed, cpu_percent, resident_mb, memory_percent, open_files,
    loop_lag_ms, beat_late_ms, database_ms, slowness, queue_wait_ms, claims, claim_ms)
SELECT now() - s.age_ms * interval '1 millisecond', s.worker_id, s.running, s.finished, s.failed, s.timed_out, s.retried, s.crashed, s.cpu_percent,
    s.resident_mb, s.memory_percent, s.open_files, s.loop_lag_ms, s.beat_late_ms, s.database_ms, s.slowness, s.queue_wait_ms,
    s.claims, s.claim_ms
FROM unnest(:ages_ms::bigint[], :worker_ids::uuid[], :running::integer[], :finished::integer[], :failed::integer[], :timed_out::integer[],
    :retried::integer[], :crashed::integer[], :cpu_percent::real[], :resident_mb::real[], :memory_percent::real[], :open_files::integer[], :loop_lag_ms::real[], :beat_late_ms::real[],
    :database_ms::real[], :slowness::real[], :queue_wait_ms::real[], :claims::integer[], :claim_ms::integer[])
    AS s (age_ms, worker_id, running, finished, failed, timed_out, retried, crashed, cpu_percent, resident_mb, memory_percent, open_files, loop_lag_ms,
        beat_late_ms, database_ms, slowness, queue_wait_ms, claims, claim_ms);

-- name: latest(worker_id, most)
-- The newest samples of a worker, the newest first.
SELECT s.* FROM perdure.worker_samples s WHERE s.worker_id = :worker_id ORDER BY s.at DESC LIMIT :most;

-- name: of_others(worker_id, most, workers)
-- The newest samples of a few living workers that know the same kinds, each oldest first.
SELECT s.* FROM (
    SELECT o.id FROM perdure.workers w JOIN perdure.workers o ON o.kinds = w.kinds AND o.id <> w.id AND o.state = 'active'
    WHERE w.id = :worker_id ORDER BY o.started_at LIMIT :workers
) o
CROSS JOIN LATERAL (
    SELECT x.* FROM perdure.worker_samples x WHERE x.worker_id = o.id ORDER BY x.at DESC LIMIT :most
) s
ORDER BY s.worker_id, s.at;
