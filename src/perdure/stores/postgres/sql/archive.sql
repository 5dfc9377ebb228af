-- Saving a system whole and bringing it back.

-- name: frozen()
-- What one snapshot is: its cut, in this database's numbers and as it is saved, and which system, era and schema it is of.
SELECT pg_export_snapshot() AS exported, pg_current_snapshot()::text AS cut,
    perdure.aged_cut(pg_current_snapshot(), i.era)::text AS saved_cut, clock_timestamp() AS at, i.era, i.id AS installation,
    (SELECT max(m.number) FROM perdure.migrations m) AS migration, current_setting('server_version') AS server,
    ARRAY(SELECT DISTINCT d.day FROM perdure.day_partitions d ORDER BY d.day) AS days
FROM perdure.installation i;

-- name: parts(era, base, base_at)
-- The tables, each with its columns and the query of what is saved of it. What workers told of themselves minutes ago is not, nor are
-- alerts and their messages: a copy must not tell of what its original told. Nor are trained models, which belong to the workers they learnt from.
SELECT p.name, p.columns, p.query, p.estimate
FROM perdure.saved_parts(:era, :base::text::pg_snapshot, :base_at::timestamptz) p
WHERE p.name NOT IN ('worker_samples', 'alert_watch', 'alert_counts', 'minute_counts', 'levels', 'recent_counts', 'alerts', 'alert_messages', 'models', 'model_posts');

-- name: columns()
-- The columns of each table here.
SELECT p.name, p.columns FROM perdure.saved_parts(0, NULL, NULL) p;

-- name: held()
-- What a database holds that is to be restored into: a table that is not empty, or nothing.
SELECT coalesce(
    (SELECT 'jobs' FROM perdure.jobs LIMIT 1), (SELECT 'job_executions' FROM perdure.job_executions LIMIT 1),
    (SELECT 'queues' FROM perdure.queues LIMIT 1), (SELECT 'workers' FROM perdure.workers LIMIT 1)
) AS held;

-- name: lock()
-- Let nobody write while rows are brought back.
SELECT perdure.begin_restore();

-- name: day(parent, day)
-- Make the partition of one day.
SELECT perdure.make_partition(:parent, :day) AS obstacle;

-- name: stage_saved()
-- Make tables for the rows of several snapshots at once.
SELECT perdure.stage_saved();

-- name: generation(number)
-- Of which snapshot, counted from the full one on, the next rows are.
SELECT set_config('restore.generation', :number::text, true);

-- name: merge(cuts)
-- Put together what several snapshots say of the rows that move.
-- from: none   to: pending, scheduled, available
SELECT perdure.merge_saved(:cuts::text[]::pg_snapshot[]);

-- name: policy()
-- How often automatic snapshots are taken, and how many are kept.
SELECT extract(epoch FROM p.every)::float8 AS every_s, p.keep FROM perdure.snapshot_policy p;

-- name: set_policy(every_s, keep, actor)
-- Have automatic snapshots taken.
INSERT INTO perdure.snapshot_policy AS p (every, keep, set_by) VALUES (:every_s::float8 * interval '1 second', :keep, :actor)
ON CONFLICT (only_one) DO UPDATE SET every = excluded.every, keep = excluded.keep, set_by = excluded.set_by, set_at = now();

-- name: note_newest(at)
-- Keep of when the newest automatic snapshot is.
UPDATE perdure.snapshot_policy SET newest_at = :at WHERE newest_at IS DISTINCT FROM :at::timestamptz;

-- name: note_verified()
-- Keep that a snapshot was read again and found sound.
UPDATE perdure.snapshot_policy SET unverified_since = now() RETURNING unverified_since;

-- name: drop_policy()
-- Have no more automatic snapshots taken.
DELETE FROM perdure.snapshot_policy RETURNING every;

-- name: unlock()
-- Let the triggers do their work again.
SELECT perdure.end_restore();

-- name: take_name(era, installation)
-- Open a new era; without an installation the copy keeps the name that it was made with.
UPDATE perdure.installation SET era = :era, id = coalesce(:installation::uuid, id);

-- name: requeue(cause)
-- What ran when the snapshot was taken runs no more: its lease is given back, which counts as nothing, and it is
-- available where it stood.
-- from: running   to: available
WITH gone AS (
    DELETE FROM perdure.leases RETURNING *
), history AS (
    INSERT INTO perdure.job_executions (job_id, token, worker_id, process, isolated, lane, run, attempt, crashes, interruptions, slot,
        concurrency_key, outcome, state, available_at, claimed_at, available_xid, claim_xid, cause)
    SELECT g.job_id, g.token, g.worker_id, g.process, g.isolated, g.lane, g.run, g.attempt, g.crashes, g.interruptions, g.slot,
        g.concurrency_key, 'released', 'available', g.available_at, g.claimed_at, g.available_xid, g.claim_xid, :cause::text
    FROM gone g
)
INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, attempt, crashes, interruptions, suspicion, gated, returned_key)
SELECT g.job_id, g.rank, g.lane, g.band, g.run, g.attempt - 1, g.crashes, g.interruptions, g.suspicion,
    j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true), j.concurrency_key
FROM gone g JOIN perdure.jobs j ON j.id = g.job_id
RETURNING job_id;

-- name: reopen_edges()
-- A child that waits is not doomed: what its edge is told to have done to it would have ended it. Its parents are looked at anew, and end it then.
WITH reopened AS (
    UPDATE perdure.job_dependencies d SET state = 'waiting' FROM perdure.blocked_jobs b
    WHERE d.child_id = b.job_id AND d.state = 'cancelled' RETURNING d.child_id
)
UPDATE perdure.blocked_jobs b SET waiting = b.waiting + r.edges, verified = false
FROM (SELECT child_id, count(*) AS edges FROM reopened GROUP BY child_id) r
WHERE b.job_id = r.child_id RETURNING b.job_id;

-- name: look_again()
-- Whether a parent ended unseen while its child was written is found out anew, by the transactions of this database.
UPDATE perdure.blocked_jobs SET xid = pg_current_xact_id(), looked_xid = NULL, look_at = now() WHERE NOT verified RETURNING job_id;

-- name: let_go()
-- A child that nothing holds any more goes on. Of edges from before an earlier restore history tells by what their parents had become, which
-- may be more than the system had noticed by then.
-- from: pending   to: scheduled, available
WITH ready AS (
    DELETE FROM perdure.blocked_jobs b WHERE b.waiting = 0 RETURNING b.*
), later AS (
    INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, run, gated)
    SELECT r.job_id, r.run_at, r.lane, r.priority, r.run, r.gated FROM ready r WHERE r.run_at > now()
)
INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, gated)
SELECT r.job_id, perdure.rank_of(now(), r.priority), r.lane, perdure.band_of(r.priority, 0::smallint), r.run, r.gated
FROM ready r WHERE r.run_at IS NULL OR r.run_at <= now()
RETURNING job_id;

-- name: end_workers(cause)
-- The workers of the saved system are not here.
UPDATE perdure.workers SET state = 'stopped', stopped_at = now(), cause = :cause WHERE state IN ('active', 'draining') RETURNING id;

-- name: open_epoch(cause, actor)
-- Whoever remembers more than the snapshot had is told so, and goes on: who brings it back adopts it. What was given back counts for
-- the unique keys again that it had let go when it started.
SELECT perdure.open_epoch(perdure.epoch_now(), :cause::text, :actor::text, :actor, :cause) AS epoch;

-- name: pause_all(actor)
-- A copy starts with all queues paused.
WITH paused AS (
    UPDATE perdure.queues q SET paused_at = now(), paused_by = :actor::text WHERE q.paused_at IS NULL RETURNING q.name
)
INSERT INTO perdure.job_events (event, queue, actor, reason) SELECT 'queue_paused', p.name, :actor, 'restored as a fork' FROM paused p
RETURNING queue;

-- name: tell(actor, detail)
-- Record that and from what this database was restored.
INSERT INTO perdure.job_events (event, actor, detail) VALUES ('restored', :actor, :detail::jsonb);

-- name: abandon_restores()
-- A restore that was under way when the snapshot was taken is not carried on here.
UPDATE perdure.restores SET phase = 'abandoned', report = 'was under way when this database was saved', ended_at = now()
WHERE phase IN ('planned', 'holding', 'draining', 'fencing', 'writing', 'checking', 'broken') RETURNING id;

-- name: recorded_parts(era, base, base_at, cut, cut_at, newest, open_since)
-- The tables as history tells of them between two cuts, each with its columns and its query.
SELECT p.name, p.columns, p.query, p.estimate
FROM perdure.recorded_parts(:era, :base::text::pg_snapshot, :base_at::timestamptz, :cut::text::pg_snapshot, :cut_at::timestamptz,
    :newest::uuid, :open_since::timestamptz) p;

-- name: system()
-- Which system a database holds, and in which era.
SELECT i.id AS installation, i.era FROM perdure.installation i;

-- name: contains(cut, earlier)
-- Whether all that one cut had seen was seen by another.
SELECT perdure.cut_contains(:cut::text::pg_snapshot, :earlier::text::pg_snapshot) AS contained;

-- name: aged_cut(cut, era)
-- A cut as it is saved.
SELECT perdure.aged_cut(:cut::text::pg_snapshot, :era)::text AS saved_cut;
