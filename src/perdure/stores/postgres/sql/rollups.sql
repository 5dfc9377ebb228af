-- Rollups: the counts of whole minutes, made from the history.

-- name: rolled(now)
-- The newest minute that is counted, and the time.
SELECT max(m.minute) AS newest, coalesce(:now::timestamptz, now()) AS now FROM perdure.minute_counts m;

-- name: roll_up(since, until, first, last)
-- Count the whole minutes of a span, those without anything too; a minute that was counted before is counted anew. The ids bound what is
-- read of the bodies, by the time that they carry.
WITH ended AS (
    SELECT date_bin('1 minute', e.settled_at, timestamptz '2000-01-01 00:00Z') AS minute,
        count(*) FILTER (WHERE e.outcome = 'completed') AS completed,
        count(*) FILTER (WHERE e.outcome IN ('failed', 'timed_out', 'crashed')) AS failed,
        count(*) FILTER (WHERE e.outcome NOT IN ('completed', 'failed', 'timed_out', 'crashed')) AS other
    FROM perdure.job_executions e
    WHERE e.settled_at >= :since::timestamptz AND e.settled_at < :until::timestamptz AND e.token IS NOT NULL GROUP BY 1
), enqueued AS (
    SELECT date_bin('1 minute', j.enqueued_at, timestamptz '2000-01-01 00:00Z') AS minute, count(*) AS enqueued
    FROM perdure.jobs j
    WHERE j.id >= :first::uuid AND j.id < :last::uuid AND j.enqueued_at >= :since AND j.enqueued_at < :until GROUP BY 1
)
INSERT INTO perdure.minute_counts (minute, enqueued, completed, failed, other)
SELECT m.minute, coalesce(q.enqueued, 0), coalesce(e.completed, 0), coalesce(e.failed, 0), coalesce(e.other, 0)
FROM generate_series(:since, :until - interval '1 minute', interval '1 minute') AS m (minute)
LEFT JOIN ended e ON e.minute = m.minute LEFT JOIN enqueued q ON q.minute = m.minute
ON CONFLICT (minute) DO UPDATE SET enqueued = excluded.enqueued, completed = excluded.completed, failed = excluded.failed, other = excluded.other
WHERE (minute_counts.enqueued, minute_counts.completed, minute_counts.failed, minute_counts.other)
    <> (excluded.enqueued, excluded.completed, excluded.failed, excluded.other);

-- name: forget_minutes(days)
-- Forget the counts of minutes that are too old.
DELETE FROM perdure.minute_counts m WHERE m.minute < now() - :days::integer * interval '1 day';

-- name: minutes(since, until)
-- The counted minutes that lie within a span.
SELECT m.minute AS at, m.enqueued, m.completed, m.failed, m.other FROM perdure.minute_counts m
WHERE m.minute >= :since::timestamptz AND m.minute <= :until::timestamptz - interval '1 minute' ORDER BY m.minute;
