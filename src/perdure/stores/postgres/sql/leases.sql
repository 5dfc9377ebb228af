-- The leases as their guardians see them. What is found here is ended by the settling statements, with its token.

-- name: of_process(worker_id, process, most)
-- The leases of one process of a worker.
SELECT l.*, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit
FROM perdure.leases l JOIN perdure.jobs j ON j.id = l.job_id
WHERE l.worker_id = :worker_id AND l.process = :process
ORDER BY l.job_id LIMIT :most;

-- name: of_dead(most)
-- The leases of workers that are dead or have said goodbye. A lease that a handler's own transaction is about to
-- end is passed over, here and below: whoever waited for it would keep all other duties waiting too.
SELECT l.*, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit
FROM perdure.workers w
CROSS JOIN LATERAL (
    SELECT * FROM perdure.leases l WHERE l.worker_id = w.id ORDER BY l.deadline LIMIT :most FOR KEY SHARE SKIP LOCKED
) l
JOIN perdure.jobs j ON j.id = l.job_id
WHERE w.state IN ('dead', 'stopped')
LIMIT :most;

-- name: of_strangers(most)
-- The leases of workers that have no row at all, as after a restore. The holders are found by hopping from one to the next in the
-- index, however many leases each has; while a horizon is pinned that walks over the leases of all jobs that have ended since.
WITH RECURSIVE holders AS (
    (SELECT l.worker_id FROM perdure.leases l ORDER BY l.worker_id LIMIT 1)
    UNION ALL
    SELECT (SELECT l.worker_id FROM perdure.leases l WHERE l.worker_id > h.worker_id ORDER BY l.worker_id LIMIT 1)
    FROM holders h WHERE h.worker_id IS NOT NULL
)
SELECT l.*, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit
FROM (
    SELECT h.worker_id FROM holders h LEFT JOIN perdure.workers w ON w.id = h.worker_id WHERE h.worker_id IS NOT NULL AND w.id IS NULL
) strangers
CROSS JOIN LATERAL (
    SELECT * FROM perdure.leases l WHERE l.worker_id = strangers.worker_id ORDER BY l.deadline LIMIT :most FOR KEY SHARE SKIP LOCKED
) l
JOIN perdure.jobs j ON j.id = l.job_id
LIMIT :most;

-- name: overdue(observer, fresh_ms, steps_ms, steps_ago_ms, within_ms, most)
-- The leases past their deadline: their process is hung, for it would have settled them as timed out. Deadlines are moments of
-- this clock: what was claimed before it stepped has as much more time; and while the observer's own heartbeat is not fresh, the
-- clock may just have stepped. (The leases are not moved with the clock: settling finds them by their place in the table.)
-- With `within_ms` only those whose deadline passed within that time, so that it need not walk over what ended long ago and cannot be vacuumed.
-- How late each is comes with it, in seconds. One row without a job says that none was found; no row, that nobody looked.
SELECT f.*
FROM perdure.workers o
LEFT JOIN LATERAL (
    SELECT l.*, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit, extract(epoch FROM now() - l.deadline)::float8 AS late_s
    FROM perdure.workers w
    CROSS JOIN LATERAL (
        SELECT * FROM perdure.leases l
        WHERE l.worker_id = w.id AND l.deadline < now()
            AND l.deadline >= coalesce(now() - :within_ms::bigint * interval '1 millisecond', '-infinity')
            AND l.deadline < now() - interval '1 millisecond' * (
                SELECT coalesce(sum(s.by), 0)::bigint FROM unnest(:steps_ms::bigint[], :steps_ago_ms::bigint[]) AS s (by, ago)
                WHERE l.claimed_at < now() - s.ago * interval '1 millisecond'
            )
        ORDER BY l.deadline LIMIT :most FOR KEY SHARE SKIP LOCKED
    ) l
    JOIN perdure.jobs j ON j.id = l.job_id
    WHERE w.state IN ('active', 'draining')
) f ON true
WHERE o.id = :observer AND o.state IN ('active', 'draining')
    AND o.heartbeat_at BETWEEN now() - :fresh_ms::bigint * interval '1 millisecond' AND now() + :fresh_ms * interval '1 millisecond'
LIMIT :most;

-- name: report_progress(job_id, token, fraction, note)
-- Keep the newest report of an attempt that still holds its lease.
INSERT INTO perdure.job_progress AS p (job_id, token, fraction, note)
SELECT l.job_id, l.token, :fraction::real, :note::text FROM perdure.leases l WHERE l.job_id = :job_id AND l.token = :token
ON CONFLICT (job_id) DO UPDATE SET token = excluded.token, fraction = excluded.fraction, note = excluded.note, updated_at = now();

-- name: holds(job_id, token)
-- Whether a lease still stands.
SELECT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = :job_id AND l.token = :token) AS held;

-- name: of_job(job_id, token)
-- One lease by its token, with all that settling it needs.
SELECT l.*, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit
FROM perdure.leases l JOIN perdure.jobs j ON j.id = l.job_id
WHERE l.job_id = :job_id AND l.token = :token;
