-- Levels: what the leader counts so that no page has to.

-- name: count_recent(since, until, first, last)
-- Count what each lane got and ended in each ten seconds of a span; what was counted before is counted anew. The ids bound what is read
-- of the bodies, by the time that they carry.
WITH counted AS (
    SELECT date_bin('10 seconds', e.settled_at, timestamptz '2000-01-01 00:00Z') AS at, e.lane, e.outcome::text AS what, count(*) AS jobs
    FROM perdure.job_executions e
    WHERE e.settled_at >= :since::timestamptz AND e.settled_at < :until::timestamptz AND e.token IS NOT NULL GROUP BY 1, 2, 3
    UNION ALL
    SELECT date_bin('10 seconds', j.enqueued_at, timestamptz '2000-01-01 00:00Z'), j.lane, 'enqueued', count(*)
    FROM perdure.jobs j
    WHERE j.id >= :first::uuid AND j.id < :last::uuid AND j.enqueued_at >= :since AND j.enqueued_at < :until GROUP BY 1, 2
    UNION ALL
    SELECT s.at, 0, 'counted', 0 FROM generate_series(:since, :until - interval '10 seconds', interval '10 seconds') AS s (at)
)
INSERT INTO perdure.recent_counts (at, lane, what, jobs) SELECT c.at, c.lane, c.what, c.jobs FROM counted c
ON CONFLICT (at, lane, what) DO UPDATE SET jobs = excluded.jobs;

-- name: newest_recent(now)
-- The newest ten seconds that were counted, and the time.
SELECT max(r.at) AS newest, coalesce(:now::timestamptz, now()) AS now FROM perdure.recent_counts r;

-- name: forget_recent(kept_ms)
-- Forget counts that nobody asks for any more.
DELETE FROM perdure.recent_counts r WHERE r.at < now() - :kept_ms::bigint * interval '1 millisecond';

-- name: count_levels(at)
-- Count how many jobs each lane has in each state now, and keep it. `cancelled` and `discarded` are all that ended so; of those without a
-- dead letter only the last ending is looked at.
WITH lanes AS (
    SELECT x.lane, count(*) FILTER (WHERE x.state = 'pending') AS pending, count(*) FILTER (WHERE x.state = 'scheduled') AS scheduled,
        count(*) FILTER (WHERE x.state = 'retryable') AS retryable, count(*) FILTER (WHERE x.state = 'running') AS running,
        count(*) FILTER (WHERE x.state = 'discarded') AS discarded, count(*) FILTER (WHERE x.state = 'parked') AS parked,
        count(*) FILTER (WHERE x.state = 'available') AS available, min(x.since) FILTER (WHERE x.state IN ('available', 'parked')) AS oldest
    FROM (
        SELECT b.lane, 'pending' AS state, b.since FROM perdure.blocked_jobs b
        UNION ALL SELECT s.lane, CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END, s.since FROM perdure.scheduled_jobs s
        UNION ALL SELECT r.lane, 'running', r.claimed_at FROM perdure.leases r
        UNION ALL SELECT p.lane, 'parked', p.available_at FROM perdure.parked_jobs p
        UNION ALL SELECT a.lane, 'available', a.available_at FROM perdure.available_jobs a
        UNION ALL SELECT g.lane, 'discarded', g.dead_at FROM perdure.dead_letter_queue g
    ) x GROUP BY x.lane
), unlettered AS (
    SELECT n.state, count(*) AS jobs FROM (
        SELECT DISTINCT e.job_id FROM perdure.job_executions e
        WHERE e.state IN ('cancelled', 'discarded') AND NOT EXISTS (SELECT FROM perdure.dead_letter_queue d WHERE d.job_id = e.job_id)
    ) x
    CROSS JOIN LATERAL perdure.standing(x.job_id) n
    WHERE n.state IN ('cancelled', 'discarded') GROUP BY n.state
), ended AS (
    SELECT r.what, sum(r.jobs)::bigint AS jobs FROM perdure.recent_counts r
    WHERE r.at >= coalesce(:at::timestamptz, now()) - interval '70 seconds' AND r.at < coalesce(:at, now()) - interval '10 seconds'
        AND r.what NOT IN ('counted', 'enqueued') GROUP BY r.what
)
INSERT INTO perdure.levels (at, jobs, cancelled, discarded, lanes, ended)
SELECT coalesce(:at, now()), perdure.estimated_rows('perdure.jobs'),
    coalesce((SELECT u.jobs FROM unlettered u WHERE u.state = 'cancelled'), 0),
    coalesce((SELECT u.jobs FROM unlettered u WHERE u.state = 'discarded'), 0) + coalesce((SELECT sum(l.discarded)::bigint FROM lanes l), 0),
    coalesce((SELECT jsonb_agg(to_jsonb(l)) FROM lanes l), '[]'), coalesce((SELECT jsonb_object_agg(e.what, e.jobs) FROM ended e), '{}')
ON CONFLICT (at) DO NOTHING;

-- name: thin_levels(days, dense_ms)
-- Forget what is too old, and of what is not recent any more all but the first of each minute.
DELETE FROM perdure.levels l
WHERE l.at < now() - :days::integer * interval '1 day' OR (l.at < now() - :dense_ms::bigint * interval '1 millisecond' AND EXISTS (
    SELECT FROM perdure.levels f WHERE f.at >= date_trunc('minute', l.at) AND f.at < l.at));

-- name: level(at, within_ms, few)
-- The last levels counted at or before a moment (now, without one), if they are no older than that, and if so many jobs live now that counting
-- them would take long.
SELECT l.at, l.jobs, l.cancelled, l.discarded, l.lanes::text AS lanes, l.ended::text AS ended
FROM perdure.levels l
WHERE l.at <= coalesce(:at::timestamptz, now()) AND l.at >= coalesce(:at, now()) - :within_ms::bigint * interval '1 millisecond'
    AND perdure.estimated_rows('perdure.available_jobs') + perdure.estimated_rows('perdure.scheduled_jobs')
    + perdure.estimated_rows('perdure.blocked_jobs') + perdure.estimated_rows('perdure.leases') + perdure.estimated_rows('perdure.parked_jobs')
    + perdure.estimated_rows('perdure.dead_letter_queue') > :few::bigint
ORDER BY l.at DESC LIMIT 1;
