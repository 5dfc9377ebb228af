-- Alerts: facts, standing, silences and messages.

-- name: span_to_count(now, step_ms)
-- What the next count is of: from where the last one ended on, two minutes at most of the last ten, and the ids of the jobs that may have been
-- enqueued then, by the time that they carry, which clocks that are off make a minute wrong at most. Asked for by itself, so that the count is
-- planned for values: with bounds that it learns only as it runs it was planned as if all of a day were to be read, and read all of it.
SELECT s.counted_to, s.since, u.until, perdure.id_floor(s.since - interval '1 minute') AS first, perdure.id_floor(u.until + interval '1 minute') AS last
FROM (
    SELECT w.counted_to, greatest(w.counted_to, n.present - interval '10 minutes') AS since, n.present
    FROM perdure.alert_watch w, (SELECT coalesce(:now::timestamptz, now()) - interval '5 seconds' AS present) n
) s, LATERAL (SELECT least(s.present, s.since + :step_ms::bigint * interval '1 millisecond') AS until) u
WHERE s.since < u.until;

-- name: count_up(counted_to, since, until, first, last, late_s)
-- Count what has happened in a span into its minutes, once, whoever counts: nothing if another has counted since; the last seconds are
-- left for those who commit late.
WITH mark AS MATERIALIZED (
    SELECT w.counted_to FROM perdure.alert_watch w WHERE w.counted_to = :counted_to::timestamptz FOR UPDATE
), counted AS (
    SELECT date_trunc('minute', e.settled_at) AS minute, n.queue, n.kind, 0 AS enqueued,
        count(*) FILTER (WHERE e.outcome NOT IN ('released', 'interrupted')) AS attempts,
        count(*) FILTER (WHERE e.outcome IN ('failed', 'timed_out', 'crashed')) AS failed,
        count(*) FILTER (WHERE e.state IN ('completed', 'cancelled', 'discarded')) AS finished,
        count(*) FILTER (WHERE e.state = 'discarded') AS died,
        count(e.available_at) AS waited,
        count(*) FILTER (WHERE e.claimed_at - e.available_at > :late_s::float8 * interval '1 second') AS late, 0 AS refused
    FROM perdure.job_executions e JOIN perdure.lanes n ON n.lane = e.lane
    WHERE e.settled_at >= :since::timestamptz AND e.settled_at < :until::timestamptz AND e.token IS NOT NULL AND EXISTS (SELECT FROM mark)
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT date_trunc('minute', j.enqueued_at), n.queue, n.kind, count(*), 0, 0, 0, 0, 0, 0, 0
    FROM perdure.jobs j JOIN perdure.lanes n ON n.lane = j.lane
    WHERE j.id >= :first::uuid AND j.id < :last::uuid AND j.enqueued_at >= :since AND j.enqueued_at < :until AND EXISTS (SELECT FROM mark)
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT date_trunc('minute', v.at), '', '', 0, 0, 0, 0, 0, 0, 0, count(*)
    FROM perdure.job_events v
    WHERE v.at >= :since AND v.at < :until AND v.event = 'result_refused' AND EXISTS (SELECT FROM mark) GROUP BY 1
), kept AS (
    INSERT INTO perdure.alert_counts AS c (minute, queue, kind, enqueued, attempts, failed, finished, died, waited, late, refused)
    SELECT minute, queue, kind, sum(enqueued), sum(attempts), sum(failed), sum(finished), sum(died), sum(waited), sum(late), sum(refused)
    FROM counted GROUP BY 1, 2, 3
    ON CONFLICT (minute, queue, kind) DO UPDATE SET enqueued = c.enqueued + excluded.enqueued, attempts = c.attempts + excluded.attempts,
        failed = c.failed + excluded.failed, finished = c.finished + excluded.finished, died = c.died + excluded.died,
        waited = c.waited + excluded.waited, late = c.late + excluded.late, refused = c.refused + excluded.refused
), errors AS (
    SELECT e.error ->> 'fingerprint' AS fingerprint, min(e.settled_at) AS first_at, max(e.settled_at) AS seen_at, count(*) AS times
    FROM perdure.job_executions e
    WHERE e.settled_at >= :since AND e.settled_at < :until AND e.token IS NOT NULL AND e.state <> 'completed'
        AND e.error ->> 'fingerprint' <> '' AND EXISTS (SELECT FROM mark)
    GROUP BY 1 ORDER BY count(*) DESC LIMIT 100
), noted AS (
    INSERT INTO perdure.known_errors AS k (fingerprint, first_at, seen_at, times)
    SELECT fingerprint, first_at, seen_at, times FROM errors
    ON CONFLICT (fingerprint) DO UPDATE SET seen_at = greatest(k.seen_at, excluded.seen_at),
        first_at = CASE WHEN k.seen_at < excluded.first_at - interval '30 days' THEN excluded.first_at ELSE k.first_at END,
        times = CASE WHEN k.seen_at < excluded.first_at - interval '30 days' THEN excluded.times
            WHEN excluded.first_at < k.first_at + interval '10 minutes' THEN k.times + excluded.times ELSE k.times END
)
UPDATE perdure.alert_watch SET counted_to = :until WHERE EXISTS (SELECT FROM mark);

-- name: totals(now)
-- What was counted in the spans that the rules look at.
SELECT coalesce(sum(c.attempts) FILTER (WHERE c.minute > m.t - interval '10 minutes'), 0)::bigint AS attempts,
    coalesce(sum(c.failed) FILTER (WHERE c.minute > m.t - interval '10 minutes'), 0)::bigint AS failed,
    coalesce(sum(c.finished) FILTER (WHERE c.minute > m.t - interval '10 minutes'), 0)::bigint AS finished,
    coalesce(sum(c.died) FILTER (WHERE c.minute > m.t - interval '10 minutes'), 0)::bigint AS died,
    coalesce(sum(c.died) FILTER (WHERE c.minute > m.t - interval '15 minutes'), 0)::bigint AS died_15m,
    coalesce(sum(c.refused) FILTER (WHERE c.minute > m.t - interval '10 minutes'), 0)::bigint AS refused,
    coalesce(sum(c.waited) FILTER (WHERE c.minute > m.t - interval '5 minutes'), 0)::bigint AS waited_5m,
    coalesce(sum(c.late) FILTER (WHERE c.minute > m.t - interval '5 minutes'), 0)::bigint AS late_5m,
    coalesce(sum(c.waited) FILTER (WHERE c.minute > m.t - interval '30 minutes'), 0)::bigint AS waited_30m,
    coalesce(sum(c.late) FILTER (WHERE c.minute > m.t - interval '30 minutes'), 0)::bigint AS late_30m,
    coalesce(sum(c.waited) FILTER (WHERE c.minute > m.t - interval '1 hour'), 0)::bigint AS waited_1h,
    coalesce(sum(c.late) FILTER (WHERE c.minute > m.t - interval '1 hour'), 0)::bigint AS late_1h,
    coalesce(sum(c.waited), 0)::bigint AS waited_6h, coalesce(sum(c.late), 0)::bigint AS late_6h
FROM (SELECT coalesce(:now::timestamptz, now()) AS t) m
LEFT JOIN perdure.alert_counts c ON c.minute > m.t - interval '6 hours' AND c.minute <= m.t;

-- name: kinds(now)
-- Attempts of each kind that ended in the last ten minutes.
SELECT c.kind, sum(c.attempts)::bigint AS ended, sum(c.failed)::bigint AS failed FROM perdure.alert_counts c
WHERE c.minute > coalesce(:now::timestamptz, now()) - interval '10 minutes' AND c.kind <> '' GROUP BY 1 HAVING sum(c.attempts) > 0;

-- name: paces(now)
-- What each queue got and finished in the last 15 minutes.
SELECT c.queue, sum(c.enqueued)::bigint AS enqueued, sum(c.finished)::bigint AS finished FROM perdure.alert_counts c
WHERE c.minute > coalesce(:now::timestamptz, now()) - interval '15 minutes' AND c.queue <> '' GROUP BY 1;

-- name: new_errors(most)
-- Errors that first came within the last hour, and how often they came in their first ten minutes.
SELECT k.fingerprint AS name, k.times AS count FROM perdure.known_errors k WHERE k.first_at > now() - interval '1 hour'
ORDER BY k.times DESC, k.fingerprint LIMIT :most;

-- name: short_lives(most)
-- Workers of each host that were declared dead in the last 15 minutes and had lived less than five.
SELECT w.host AS name, count(*) AS count FROM perdure.workers w
WHERE w.state = 'dead' AND w.stopped_at > now() - interval '15 minutes' AND w.stopped_at < w.started_at + interval '5 minutes'
GROUP BY w.host ORDER BY 2 DESC, 1 LIMIT :most;

-- name: vitals(overdue_s, most)
-- How the parts stand that no other reading tells of: old letters, lost workers, late evacuations and snapshots, overdue jobs, children of
-- dead letters, restores that came to nothing, the model in force, connections.
SELECT extract(epoch FROM now() - (SELECT min(d.dead_at) FROM perdure.dead_letter_queue d))::float8 AS oldest_letter_s,
    (SELECT count(*) FROM (SELECT 1 FROM perdure.leases l WHERE l.deadline < now() - :overdue_s::float8 * interval '1 second' LIMIT :most) o) AS overdue,
    (SELECT count(*) FROM perdure.workers w WHERE w.state = 'dead' AND w.stopped_at > now() - interval '15 minutes') AS workers_lost,
    extract(epoch FROM now() - (SELECT min(w.evacuate_by) FROM perdure.workers w
        WHERE w.state IN ('active', 'draining') AND w.evacuated_at IS NULL))::float8 AS evacuation_late_s,
    (SELECT extract(epoch FROM now() - greatest(p.newest_at, p.set_at) - p.every)::float8 FROM perdure.snapshot_policy p) AS snapshot_late_s,
    (SELECT extract(epoch FROM now() - p.newest_at)::float8 FROM perdure.snapshot_policy p) AS snapshot_age_s,
    (SELECT extract(epoch FROM now() - p.unverified_since)::float8 FROM perdure.snapshot_policy p) AS snapshot_verified_age_s,
    (SELECT count(*) FROM perdure.restores r
        WHERE r.phase = 'broken' OR (r.phase = 'refused' AND r.ended_at > now() - interval '1 hour')) AS restores_failed,
    (SELECT (m.facts -> 'quality' ->> 'error')::float8 FROM perdure.model_posts o JOIN perdure.models m ON m.id = o.champion) AS calibration_error,
    (SELECT count(*) FROM (SELECT 1 FROM perdure.dead_letter_queue q JOIN perdure.job_dependencies e ON e.parent_id = q.job_id
        JOIN perdure.blocked_jobs b ON b.job_id = e.child_id WHERE e.state = 'waiting' LIMIT :most) h) AS held,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'client backend') AS connections,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer AS connections_max;

-- name: tables(schema)
-- Dead and live rows of our tables, as the server estimates them.
SELECT t.relname AS name, t.n_dead_tup AS dead, t.n_live_tup AS live FROM pg_stat_user_tables t
WHERE t.schemaname = :schema AND t.relname IN ('available_jobs', 'scheduled_jobs', 'blocked_jobs', 'parked_jobs', 'leases', 'workers', 'unique_keys');

-- name: failing_channels()
-- Channels with a message that has been tried more than once and has not got through.
SELECT m.channel FROM perdure.alert_messages m WHERE m.delivered_at IS NULL AND m.tries > 1 AND m.created_at > now() - interval '1 day' GROUP BY 1;

-- name: alerts()
-- All alerts that are pending, firing or lately resolved.
SELECT * FROM perdure.alerts a ORDER BY a.state, a.rule, a.target;

-- name: firing()
-- How many alerts of each rule fire.
SELECT a.rule, count(*) AS alerts FROM perdure.alerts a WHERE a.state = 'firing' GROUP BY 1;

-- name: keep_alerts(alerts)
-- Write how alerts stand.
INSERT INTO perdure.alerts AS a (rule, target, state, since, seen_at, value, fired_at, resolved_at, told, told_at)
SELECT n.* FROM jsonb_to_recordset(:alerts::jsonb) AS n (rule text, target text, state text, since timestamptz, seen_at timestamptz,
    value float8, fired_at timestamptz, resolved_at timestamptz, told text, told_at timestamptz)
ON CONFLICT (rule, target) DO UPDATE SET state = excluded.state, since = excluded.since, seen_at = excluded.seen_at, value = excluded.value,
    fired_at = excluded.fired_at, resolved_at = excluded.resolved_at, told = excluded.told, told_at = excluded.told_at;

-- name: forget_alerts(rules, targets)
-- Remove alerts that came to nothing, or ended long ago.
DELETE FROM perdure.alerts a USING unnest(:rules::text[], :targets::text[]) AS g (rule, target) WHERE a.rule = g.rule AND a.target = g.target;

-- name: keep_messages(channels, ids, bodies)
-- Put messages on their way; one that is there already is the same one.
INSERT INTO perdure.alert_messages (channel, id, body)
SELECT g.channel, g.id, g.body FROM unnest(:channels::text[], :ids::uuid[], :bodies::jsonb[]) AS g (channel, id, body) ON CONFLICT DO NOTHING;

-- name: mark_events(events, queues, details)
-- Leave alerts in the trail of what happened.
INSERT INTO perdure.job_events (event, queue, actor, detail)
SELECT g.event, g.queue, 'perdure alerts', g.detail FROM unnest(:events::text[], :queues::text[], :details::jsonb[]) AS g (event, queue, detail);

-- name: due_messages(most, again_ms)
-- Messages that are to be sent now; each is taken for a while, so that another leader does not send it, too.
UPDATE perdure.alert_messages m SET tries = m.tries + 1, next_at = now() + :again_ms::bigint * interval '1 millisecond'
FROM (
    SELECT d.id, d.channel FROM perdure.alert_messages d WHERE d.delivered_at IS NULL AND d.next_at <= now()
    ORDER BY d.next_at LIMIT :most FOR UPDATE SKIP LOCKED
) t WHERE m.id = t.id AND m.channel = t.channel
RETURNING m.id, m.channel, m.body::text AS body, m.tries;

-- name: delivered(id, channel)
-- A message got through.
UPDATE perdure.alert_messages SET delivered_at = now(), error = NULL WHERE id = :id AND channel = :channel;

-- name: refused(id, channel, error, again_ms)
-- A message did not get through; it is tried again later.
UPDATE perdure.alert_messages SET error = :error, next_at = now() + :again_ms::bigint * interval '1 millisecond'
WHERE id = :id AND channel = :channel AND delivered_at IS NULL;

-- name: silences(now)
-- Silences in force.
SELECT * FROM perdure.alert_silences s WHERE s.expires_at > coalesce(:now::timestamptz, now()) ORDER BY s.expires_at;

-- name: silence(rule, target, author, reason, seconds)
-- Say nothing of some alerts for a while; the trail keeps who asked for it.
WITH made AS (
    INSERT INTO perdure.alert_silences (rule, target, author, reason, expires_at)
    VALUES (:rule::text, :target::text, :author::text, :reason::text, now() + :seconds::float8 * interval '1 second') RETURNING *
), marked AS (
    INSERT INTO perdure.job_events (event, actor, reason, detail)
    SELECT 'alert_silenced', m.author, m.reason, jsonb_build_object('rule', m.rule, 'target', m.target, 'until', m.expires_at) FROM made m
)
SELECT * FROM made;

-- name: unsilence(id, author)
-- End a silence now.
WITH ended AS (
    UPDATE perdure.alert_silences s SET expires_at = greatest(now(), s.created_at + interval '1 microsecond')
    WHERE s.id = :id::uuid AND s.expires_at > now() RETURNING *
), marked AS (
    INSERT INTO perdure.job_events (event, actor, detail)
    SELECT 'alert_unsilenced', :author::text, jsonb_build_object('rule', e.rule, 'target', e.target) FROM ended e
)
SELECT * FROM ended;

-- name: sweep_alerts()
-- Remove counts, messages and silences that nothing looks at any more.
WITH counts AS (DELETE FROM perdure.alert_counts WHERE minute < now() - interval '7 hours'),
    messages AS (DELETE FROM perdure.alert_messages WHERE created_at < now() - interval '7 days'),
    errors AS (DELETE FROM perdure.known_errors k USING (
        SELECT e.fingerprint, e.seen_at, row_number() OVER (ORDER BY e.seen_at DESC) AS place FROM perdure.known_errors e
    ) old WHERE old.fingerprint = k.fingerprint AND (old.seen_at < now() - interval '30 days' OR old.place > 10000))
DELETE FROM perdure.alert_silences WHERE expires_at < now() - interval '30 days';

-- name: slots()
-- The workers that live, the longest silence among them, and their slots: all, and those busy by what each told last.
SELECT count(*) AS workers, coalesce(extract(epoch FROM max(now() - w.heartbeat_at)), 0)::float8 AS heartbeat_age_s,
    coalesce(sum(s.running), 0)::integer AS busy, greatest(coalesce(sum(w.capacity), 0), coalesce(sum(s.running), 0))::integer AS slots
FROM perdure.workers w
LEFT JOIN LATERAL (
    SELECT x.running FROM perdure.worker_samples x WHERE x.worker_id = w.id AND x.at > now() - interval '1 hour' ORDER BY x.at DESC LIMIT 1
) s ON true
WHERE w.state IN ('active', 'draining');
