-- Activity: how much was enqueued and ended, minute by minute, and what was done by whom.

-- name: ended(since, until)
-- Attempts that ended, for each minute and outcome; the index over the times of the history bounds what is read. Many are not counted here
-- but by the leader, up to the last seconds.
WITH lately AS MATERIALIZED (SELECT c.* FROM perdure.counted_since(:since::timestamptz) c WHERE c.at < :until::timestamptz)
SELECT date_bin('1 minute', l.at, timestamptz '2000-01-01 00:00Z') AS at,
    coalesce(sum(l.jobs) FILTER (WHERE l.what = 'completed'), 0)::bigint AS completed,
    coalesce(sum(l.jobs) FILTER (WHERE l.what IN ('failed', 'timed_out', 'crashed')), 0)::bigint AS failed,
    coalesce(sum(l.jobs) FILTER (WHERE l.what NOT IN ('enqueued', 'completed', 'failed', 'timed_out', 'crashed')), 0)::bigint AS other
FROM lately l GROUP BY 1
UNION ALL
SELECT date_bin('1 minute', e.settled_at, timestamptz '2000-01-01 00:00Z'),
    count(*) FILTER (WHERE e.outcome = 'completed'),
    count(*) FILTER (WHERE e.outcome IN ('failed', 'timed_out', 'crashed')),
    count(*) FILTER (WHERE e.outcome NOT IN ('completed', 'failed', 'timed_out', 'crashed'))
FROM perdure.job_executions e
WHERE e.settled_at >= :since AND e.settled_at < :until AND e.token IS NOT NULL AND NOT EXISTS (SELECT FROM lately)
GROUP BY 1;

-- name: enqueued(since, until, first, last)
-- Jobs enqueued, for each minute; ids carry the time of their making, so the primary key bounds what is read. Many are counted as above.
WITH lately AS MATERIALIZED (SELECT c.* FROM perdure.counted_since(:since::timestamptz) c WHERE c.at < :until::timestamptz)
SELECT date_bin('1 minute', l.at, timestamptz '2000-01-01 00:00Z') AS at, sum(l.jobs)::bigint AS enqueued
FROM lately l WHERE l.what = 'enqueued' GROUP BY 1
UNION ALL
SELECT date_bin('1 minute', j.enqueued_at, timestamptz '2000-01-01 00:00Z'), count(*)
FROM perdure.jobs j WHERE j.id >= :first::uuid AND j.id < :last::uuid AND NOT EXISTS (SELECT FROM lately) GROUP BY 1;

-- name: queue_rates(first)
-- What each queue got and ended during the last minute; `first` is an id below those of jobs of that minute. Of many, what the leader has
-- counted of the last whole minute.
WITH lately AS MATERIALIZED (
    SELECT c.* FROM (
        SELECT r.*, max(r.at) OVER () AS newest FROM perdure.counted_since(now() - interval '70 seconds') r
    ) c WHERE c.at > c.newest - interval '1 minute'
)
SELECT n.queue, sum(c.arrived)::bigint AS arrived, sum(c.ended)::bigint AS ended, sum(c.failed)::bigint AS failed
FROM (
    SELECT l.lane, coalesce(sum(l.jobs) FILTER (WHERE l.what = 'enqueued'), 0) AS arrived,
        coalesce(sum(l.jobs) FILTER (WHERE l.what NOT IN ('enqueued', 'released', 'interrupted')), 0) AS ended,
        coalesce(sum(l.jobs) FILTER (WHERE l.what IN ('failed', 'timed_out', 'crashed')), 0) AS failed
    FROM lately l GROUP BY l.lane
    UNION ALL
    SELECT e.lane, 0, count(*) FILTER (WHERE e.outcome NOT IN ('released', 'interrupted')),
        count(*) FILTER (WHERE e.outcome IN ('failed', 'timed_out', 'crashed'))
    FROM perdure.job_executions e
    WHERE e.settled_at > now() - interval '1 minute' AND e.token IS NOT NULL AND NOT EXISTS (SELECT FROM lately) GROUP BY e.lane
    UNION ALL
    SELECT j.lane, count(*), 0, 0 FROM perdure.jobs j
    WHERE j.id >= :first::uuid AND j.enqueued_at > now() - interval '1 minute' AND NOT EXISTS (SELECT FROM lately) GROUP BY j.lane
) c JOIN perdure.lanes n ON n.lane = c.lane GROUP BY n.queue ORDER BY n.queue;

-- name: events(before_at, before_xid, before_key, event, actor, queue, since, until, most)
-- What was done, the newest first; rows of one transaction are told apart by what they are about.
SELECT e.at, e.event, e.job_id, e.worker_id, e.queue, e.actor, e.reason, e.detail::text AS detail, e.xid::text AS xid, k.key
FROM perdure.job_events e
CROSS JOIN LATERAL (SELECT concat_ws(' ', e.event, e.job_id, e.worker_id, e.queue, md5(e.detail::text)) AS key) k
WHERE (:before_at::timestamptz IS NULL OR (e.at <= :before_at AND (e.at, e.xid, k.key) < (:before_at, :before_xid::text::xid8, :before_key::text)))
    AND (:event::text IS NULL OR e.event LIKE :event) AND (:actor::text IS NULL OR e.actor = :actor)
    AND (:queue::text IS NULL OR e.queue = :queue) AND (:since::timestamptz IS NULL OR e.at >= :since)
    AND (:until::timestamptz IS NULL OR e.at <= :until)
ORDER BY e.at DESC, e.xid DESC, k.key DESC LIMIT :most;

-- name: record(event, job_id, worker_id, queue, actor, reason, detail)
-- Leave an event for something that was done and moved no job.
INSERT INTO perdure.job_events (event, job_id, worker_id, queue, actor, reason, detail)
VALUES (:event, :job_id, :worker_id, :queue, :actor, :reason, :detail::jsonb);

-- name: meter_ended(since, until, buckets)
-- Attempts that ended in a span, by lane, outcome and the buckets of their waits and runs; for counters that only grow.
SELECT n.queue, n.kind, c.* FROM (
    SELECT e.lane, e.outcome, e.state, width_bucket(w.wait, :buckets::float8[]) AS wait_bucket, width_bucket(w.run, :buckets) AS run_bucket,
        count(*) AS attempts, coalesce(sum(w.wait), 0) AS wait_s, coalesce(sum(w.run), 0) AS run_s
    FROM perdure.job_executions e
    CROSS JOIN LATERAL (SELECT
        greatest(0, extract(epoch FROM e.claimed_at - e.available_at))::float8 AS wait,
        greatest(0, extract(epoch FROM coalesce(e.finished_at, e.settled_at) - coalesce(e.started_at, e.claimed_at)))::float8 AS run) w
    WHERE e.settled_at >= :since::timestamptz AND e.settled_at < :until::timestamptz AND e.token IS NOT NULL
    GROUP BY e.lane, e.outcome, e.state, 4, 5
) c JOIN perdure.lanes n ON n.lane = c.lane;

-- name: meter_finished(since, until, buckets)
-- Jobs that ended for good in a span, by queue and the bucket of the time since they were enqueued, which their ids carry.
SELECT n.queue, width_bucket(w.whole, :buckets::float8[]) AS bucket, count(*) AS jobs, sum(w.whole) AS whole_s
FROM perdure.job_executions e
JOIN perdure.lanes n ON n.lane = e.lane
CROSS JOIN LATERAL (SELECT greatest(0, extract(epoch FROM e.settled_at)::float8
    - ('x' || left(replace(e.job_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AS whole) w
WHERE e.settled_at >= :since::timestamptz AND e.settled_at < :until::timestamptz AND e.state IN ('completed', 'cancelled', 'discarded')
GROUP BY 1, 2;

-- name: meter_enqueued(first, last, since, until)
-- Jobs enqueued in a span, by lane; the ids bound what is read.
SELECT n.queue, n.kind, c.jobs FROM (
    SELECT j.lane, count(*) AS jobs FROM perdure.jobs j
    WHERE j.id >= :first::uuid AND j.id < :last::uuid AND j.enqueued_at >= :since::timestamptz AND j.enqueued_at < :until::timestamptz
    GROUP BY j.lane
) c JOIN perdure.lanes n ON n.lane = c.lane;

-- name: meter_claims(since, until, buckets)
-- Claims in a span, those of each sample at what they took in the mean, by its bucket.
SELECT width_bucket(s.claim_ms / 1000.0 / s.claims, :buckets::float8[]) AS bucket, sum(s.claims)::bigint AS claims, sum(s.claim_ms) / 1000.0 AS claim_s
FROM perdure.worker_samples s WHERE s.at >= :since::timestamptz AND s.at < :until::timestamptz AND s.claims > 0 GROUP BY 1;

-- name: meter_messages(since, until)
-- Messages of alerts that got through in a span, by channel, and the tries before that did not.
SELECT m.channel, count(*) AS delivered, sum(m.tries - 1)::bigint AS failed FROM perdure.alert_messages m
WHERE m.delivered_at >= :since::timestamptz AND m.delivered_at < :until::timestamptz GROUP BY m.channel;

-- name: meter_events(since, until)
-- Events in a span, by what they are.
SELECT e.event, count(*) AS events FROM perdure.job_events e WHERE e.at >= :since::timestamptz AND e.at < :until::timestamptz GROUP BY e.event;
