-- The life of jobs: enqueue, settle, stage, resolve.

-- name: enqueue(jobs, on_duplicate)
-- Store jobs, all or none.
-- from: none   to: pending, scheduled, available
SELECT e.ordinal, e.job_id, e.disposition, e.holder, e.lane, e.band, e.rank
FROM perdure.enqueue_jobs(:jobs::jsonb, :on_duplicate) e ORDER BY e.ordinal;

-- name: shape(queue, kind, labels, priority, max_attempts, timeout_ms, crash_limit)
-- Where plain jobs of one shape go: their lane, and the ids that are in time; no row where the lane is not known yet, or where no job
-- may be of this shape. What is checked here is not checked with each job (docs/decisions/0033-what-is-checked-once.md).
SELECT l.lane, perdure.band_of(:priority::smallint, 0::smallint) AS band, perdure.rank_of(now(), :priority::smallint) AS rank,
    perdure.id_floor(now() - interval '1 day') AS first_id, perdure.id_floor(now() + interval '1 day') AS last_id
FROM perdure.lanes l WHERE l.queue = :queue AND l.kind = :kind AND l.labels = :labels::text[]
    AND :priority BETWEEN 1 AND 5 AND :max_attempts::smallint >= 1
    AND coalesce(:timeout_ms::integer, 1) BETWEEN 1 AND 2073600000 AND coalesce(:crash_limit::smallint, 1) >= 1;

-- name: make_lanes(jobs)
-- Make the lanes of jobs that are about to be copied, where they are missing; in a transaction of its own, or calls of other producers
-- would wait for it.
SELECT perdure.ensure_lanes(:jobs::jsonb);

-- name: enqueue_one(id, rank, args, lane, priority, max_attempts, timeout_ms, crash_limit, band)
-- Store one plain job. Nothing but two rows of what comes with the call, for each further node of the plan would be felt in a single
-- enqueue; and values of plain types, for one of a domain is checked by machinery that is set up anew for each.
-- from: none   to: available
WITH body AS (
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, timeout_ms, crash_limit, args)
    VALUES (:id, :lane, :priority::smallint, :max_attempts::smallint, :timeout_ms::integer, :crash_limit::smallint, :args::jsonb)
)
INSERT INTO perdure.available_jobs (job_id, rank, lane, band) VALUES (:id, :rank, :lane, :band::smallint);

-- name: enqueue_several(ids, args, lane, priority, max_attempts, timeout_ms, crash_limit)
-- Store plain jobs of one shape.
-- from: none   to: available
WITH bodies AS (
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, timeout_ms, crash_limit, args)
    SELECT u.id, :lane, :priority::smallint, :max_attempts::smallint, :timeout_ms::integer, :crash_limit::smallint, u.args::jsonb
    FROM unnest(:ids::uuid[], :args::text[]) AS u (id, args)
), available AS (
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band)
    SELECT i.id, perdure.rank_of(now(), :priority::smallint), :lane, perdure.band_of(:priority::smallint, 0::smallint)
    FROM unnest(:ids::uuid[]) AS i (id)
)
SELECT perdure.rank_of(now(), :priority::smallint) AS rank;

-- name: settle_completed(job_ids, tokens, results, started_us, finished_us)
-- Record success for the leases that still stand, let go their unique keys (not those that have run out: an enqueue may be taking them
-- over in a transaction that stands open), and release children and parked jobs in the same
-- transaction. Times are counted back in microseconds. Each accepted token comes back, and each place that became available.
-- Each lease is looked up by its key, and then deleted where it stands: a join would read all leases for each one whenever
-- the planner takes the table for an empty one, as it often is (docs/decisions/0004-claim-plan.md).
-- from: running   to: completed
WITH settled AS MATERIALIZED (
    SELECT l.*, d.result, d.started_us, d.finished_us
    FROM (
        SELECT DISTINCT ON (u.job_id, u.token) u.*
        FROM unnest(:job_ids::uuid[], :tokens::uuid[], :results::text[], :started_us::bigint[], :finished_us::bigint[])
            AS u (job_id, token, result, started_us, finished_us)
    ) d
    CROSS JOIN LATERAL (
        SELECT l.ctid AS at, l.* FROM perdure.leases l
        WHERE l.job_id = d.job_id AND l.token = d.token
        LIMIT 1 FOR UPDATE
    ) l
), gone AS (
    DELETE FROM perdure.leases WHERE ctid = ANY (ARRAY(SELECT s.at FROM settled s)) RETURNING concurrency_key
), history AS (
    INSERT INTO perdure.job_executions (job_id, token, worker_id, process, isolated, lane, run, attempt, crashes, interruptions, slot,
        concurrency_key, outcome, state, available_at, claimed_at, started_at, finished_at, available_xid, claim_xid, result)
    SELECT s.job_id, s.token, s.worker_id, s.process, s.isolated, s.lane, s.run, s.attempt, s.crashes, s.interruptions, s.slot,
        s.concurrency_key, 'completed', 'completed', s.available_at, s.claimed_at,
        now() - s.started_us * interval '1 microsecond', now() - s.finished_us * interval '1 microsecond',
        s.available_xid, s.claim_xid, s.result::jsonb
    FROM settled s
), keys AS (
    DELETE FROM perdure.unique_keys WHERE ctid = ANY (ARRAY(
        SELECT (SELECT u.ctid FROM perdure.unique_keys u WHERE u.key = s.unique_key AND u.job_id = s.job_id
            AND (u.expires_at IS NULL OR u.expires_at > now()) LIMIT 1)
        FROM settled s
        WHERE s.unique_key IS NOT NULL AND NOT perdure.counts_in(s.unique_states, 'completed')
    ))
), parents AS (
    SELECT array_agg(s.job_id) AS ids FROM settled s
    WHERE (SELECT true FROM perdure.job_dependencies d WHERE d.parent_id = s.job_id LIMIT 1)
), slots AS (
    -- From what is gone and not from what is settled, so that the slots are free when parked jobs are looked for.
    SELECT array_agg(DISTINCT g.concurrency_key) AS keys FROM gone g WHERE g.concurrency_key IS NOT NULL
)
SELECT s.token, NULL::integer AS lane, NULL::smallint AS band, NULL::bigint AS rank, s.job_id FROM settled s
UNION ALL
SELECT NULL, e.lane, e.band, e.rank, e.job_id FROM parents p CROSS JOIN LATERAL perdure.settle_edges(p.ids, 'completed') e
WHERE p.ids IS NOT NULL
UNION ALL
SELECT NULL, u.lane, u.band, u.rank, u.job_id FROM slots s CROSS JOIN LATERAL perdure.unpark(s.keys) u WHERE s.keys IS NOT NULL;

-- name: complete(job_id, token, result, started_us)
-- Record the success of one job in its handler's own transaction, if its lease still stands; its children are released with it. It
-- ends now and not when that transaction began, which may have been long ago; its children are dated from that all the same. Nobody is
-- let into its slot here: that takes the lock of the key, for which every claim would wait until the handler commits. The leader does it
-- afterwards (`unpark`). The accepted token comes back, and each place that became available.
-- from: running   to: completed
WITH settled AS MATERIALIZED (
    SELECT l.ctid AS at, l.* FROM perdure.leases l WHERE l.job_id = :job_id AND l.token = :token LIMIT 1 FOR UPDATE
), gone AS (
    DELETE FROM perdure.leases WHERE ctid = ANY (ARRAY(SELECT s.at FROM settled s))
), history AS (
    INSERT INTO perdure.job_executions (job_id, token, worker_id, process, isolated, lane, run, attempt, crashes, interruptions, slot,
        concurrency_key, outcome, state, settled_at, available_at, claimed_at, started_at, finished_at, available_xid, claim_xid, result)
    SELECT s.job_id, s.token, s.worker_id, s.process, s.isolated, s.lane, s.run, s.attempt, s.crashes, s.interruptions, s.slot,
        s.concurrency_key, 'completed', 'completed', t.now, s.available_at, s.claimed_at,
        t.now - :started_us::bigint * interval '1 microsecond', t.now, s.available_xid, s.claim_xid, :result::text::jsonb
    FROM settled s CROSS JOIN (SELECT clock_timestamp() AS now) t
), keys AS (
    DELETE FROM perdure.unique_keys WHERE ctid = ANY (ARRAY(
        SELECT (SELECT u.ctid FROM perdure.unique_keys u WHERE u.key = s.unique_key AND u.job_id = s.job_id
            AND (u.expires_at IS NULL OR u.expires_at > now()) LIMIT 1)
        FROM settled s
        WHERE s.unique_key IS NOT NULL AND NOT perdure.counts_in(s.unique_states, 'completed')
    ))
), parents AS (
    SELECT array_agg(s.job_id) AS ids FROM settled s
    WHERE (SELECT true FROM perdure.job_dependencies d WHERE d.parent_id = s.job_id LIMIT 1)
)
SELECT s.token, NULL::integer AS lane, NULL::smallint AS band, NULL::bigint AS rank, s.job_id FROM settled s
UNION ALL
SELECT NULL, e.lane, e.band, e.rank, e.job_id FROM parents p CROSS JOIN LATERAL perdure.settle_edges(p.ids, 'completed') e
WHERE p.ids IS NOT NULL;

-- name: settle_others(job_ids, tokens, outcomes, states, attempts, crashes, interruptions, suspicions, delays_ms, causes, errors, fingerprints, started_us, finished_us)
-- Record every other ending for the leases that still stand, and put each job where its ending leaves it. A job that goes back
-- and finds its unique key taken by another meanwhile is discarded, with the clash as the cause; the rest of the batch goes on.
-- A released job keeps its rank and so its place.
-- from: running   to: retryable, scheduled, available, cancelled, discarded
WITH ended AS MATERIALIZED (
    SELECT l.*, d.outcome, d.state AS wanted, d.failures, d.crash_count, d.interruption_count, d.doubt, d.delay_ms, d.cause, d.error,
        d.fingerprint, d.started_us, d.finished_us
    FROM (
        SELECT DISTINCT ON (u.job_id, u.token) u.*
        FROM unnest(:job_ids::uuid[], :tokens::uuid[], :outcomes::perdure.outcome[], :states::perdure.job_state[], :attempts::smallint[],
                :crashes::smallint[], :interruptions::smallint[], :suspicions::smallint[], :delays_ms::bigint[], :causes::text[],
                :errors::text[], :fingerprints::text[], :started_us::bigint[], :finished_us::bigint[])
            AS u (job_id, token, outcome, state, failures, crash_count, interruption_count, doubt, delay_ms, cause, error, fingerprint,
                started_us, finished_us)
    ) d
    CROSS JOIN LATERAL (
        SELECT l.ctid AS at, l.* FROM perdure.leases l
        WHERE l.job_id = d.job_id AND l.token = d.token
        LIMIT 1 FOR UPDATE
    ) l
), gone AS (
    DELETE FROM perdure.leases WHERE ctid = ANY (ARRAY(SELECT e.at FROM ended e)) RETURNING concurrency_key
), retaken AS (
    INSERT INTO perdure.unique_keys AS u (key, job_id, states, expires_at)
    SELECT DISTINCT ON (e.unique_key) e.unique_key, e.job_id, e.unique_states, j.unique_until
    FROM ended e JOIN perdure.jobs j ON j.id = e.job_id
    WHERE e.unique_key IS NOT NULL AND NOT perdure.counts_in(e.unique_states, 'running')
        AND e.wanted IN ('retryable', 'scheduled', 'available') AND (j.unique_until IS NULL OR j.unique_until > now())
    ORDER BY e.unique_key, e.rank, e.job_id
    ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, states = excluded.states, expires_at = excluded.expires_at
    WHERE u.expires_at <= now() RETURNING u.job_id
), settled AS MATERIALIZED (
    SELECT e.*, c.clashed, CASE WHEN c.clashed THEN 'discarded' ELSE e.wanted END AS state,
        CASE WHEN c.clashed THEN concat_ws('; ', e.cause, 'its unique key ' || e.unique_key || ' was taken meanwhile') ELSE e.cause END AS why,
        j.priority, (j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)) AS gated
    FROM ended e JOIN perdure.jobs j ON j.id = e.job_id
    CROSS JOIN LATERAL (SELECT e.unique_key IS NOT NULL AND NOT perdure.counts_in(e.unique_states, 'running')
        AND e.wanted IN ('retryable', 'scheduled', 'available') AND (j.unique_until IS NULL OR j.unique_until > now())
        AND NOT EXISTS (SELECT FROM retaken r WHERE r.job_id = e.job_id) AS clashed) c
), history AS (
    INSERT INTO perdure.job_executions (job_id, token, worker_id, process, isolated, lane, run, attempt, crashes, interruptions, slot,
        concurrency_key, outcome, state, available_at, claimed_at, started_at, finished_at, available_xid, claim_xid, retry_at, cause, error)
    SELECT s.job_id, s.token, s.worker_id, s.process, s.isolated, s.lane, s.run, s.attempt, s.crash_count, s.interruption_count, s.slot,
        s.concurrency_key, s.outcome, s.state, s.available_at, s.claimed_at,
        now() - s.started_us * interval '1 microsecond', now() - s.finished_us * interval '1 microsecond',
        s.available_xid, s.claim_xid, now() + s.delay_ms * interval '1 millisecond', s.why, s.error::jsonb
    FROM settled s
), later AS (
    INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, run, attempt, crashes, interruptions, suspicion, retry, gated)
    SELECT s.job_id, now() + s.delay_ms * interval '1 millisecond', s.lane, s.priority, s.run, s.failures, s.crash_count,
        s.interruption_count, s.doubt, s.state = 'retryable', s.gated
    FROM settled s WHERE s.state IN ('retryable', 'scheduled')
), back AS (
    INSERT INTO perdure.available_jobs AS a (job_id, rank, lane, band, run, attempt, crashes, interruptions, suspicion, gated, returned_key)
    SELECT s.job_id, s.rank, s.lane, perdure.band_of(s.priority, s.doubt), s.run, s.failures, s.crash_count, s.interruption_count,
        s.doubt, s.gated, s.concurrency_key
    FROM settled s WHERE s.state = 'available'
    RETURNING a.lane, a.band, a.rank, a.job_id
), letters AS (
    INSERT INTO perdure.dead_letter_queue (job_id, lane, run, attempt, crashes, interruptions, outcome, fingerprint, cause, error)
    SELECT s.job_id, s.lane, s.run, s.attempt, s.crash_count, s.interruption_count, s.outcome, s.fingerprint, s.why, s.error::jsonb
    FROM settled s WHERE s.state = 'discarded'
), clashes AS (
    INSERT INTO perdure.job_events (event, job_id, worker_id, actor, reason, detail)
    SELECT 'unique_clash', s.job_id, s.worker_id, 'perdure', s.why, jsonb_build_object('key', s.unique_key)
    FROM settled s WHERE s.clashed
), keys AS (
    DELETE FROM perdure.unique_keys WHERE ctid = ANY (ARRAY(
        SELECT (SELECT u.ctid FROM perdure.unique_keys u WHERE u.key = s.unique_key AND u.job_id = s.job_id
            AND (u.expires_at IS NULL OR u.expires_at > now()) LIMIT 1)
        FROM settled s WHERE s.unique_key IS NOT NULL AND NOT perdure.counts_in(s.unique_states, s.state)
    ))
), parents AS (
    SELECT s.state, array_agg(s.job_id) AS ids FROM settled s
    WHERE s.state IN ('cancelled', 'discarded')
        AND (SELECT true FROM perdure.job_dependencies d WHERE d.parent_id = s.job_id LIMIT 1)
    GROUP BY s.state
), slots AS (
    -- From what is gone and not from what is settled, so that the slots are free when parked jobs are looked for.
    SELECT array_agg(DISTINCT g.concurrency_key) AS keys FROM gone g WHERE g.concurrency_key IS NOT NULL
)
SELECT s.token, NULL::integer AS lane, NULL::smallint AS band, NULL::bigint AS rank, s.job_id FROM settled s
UNION ALL
SELECT NULL, b.lane, b.band, b.rank, b.job_id FROM back b
UNION ALL
SELECT NULL, e.lane, e.band, e.rank, e.job_id FROM parents p CROSS JOIN LATERAL perdure.settle_edges(p.ids, p.state) e
UNION ALL
SELECT NULL, u.lane, u.band, u.rank, u.job_id FROM slots s CROSS JOIN LATERAL perdure.unpark(s.keys) u WHERE s.keys IS NOT NULL;

-- name: refuse(job_ids, tokens, worker_id, outcomes)
-- Record results that came too late: their leases were gone and nothing was changed. A result that was accepted by an earlier
-- try of the same call, whose answer was lost, is no refusal. The tokens that were really refused come back. Where the lease was
-- ended at its deadline, no worker lost anything: that is another event, of which no alert tells.
INSERT INTO perdure.job_events (event, job_id, worker_id, actor, reason, detail)
SELECT CASE WHEN t.timed_out THEN 'result_late' ELSE 'result_refused' END, d.job_id, :worker_id, 'perdure',
    CASE WHEN t.timed_out THEN 'its time was up' ELSE 'its lease was gone' END, jsonb_build_object('token', d.token, 'outcome', d.outcome)
FROM unnest(:job_ids::uuid[], :tokens::uuid[], :outcomes::text[]) AS d (job_id, token, outcome)
CROSS JOIN LATERAL (SELECT EXISTS (
    SELECT FROM perdure.job_executions e WHERE e.job_id = d.job_id AND e.token = d.token AND e.outcome = 'timed_out'
) AS timed_out) t
WHERE NOT EXISTS (
    SELECT FROM perdure.job_executions e WHERE e.job_id = d.job_id AND e.token = d.token AND e.outcome::text = d.outcome
)
RETURNING (detail ->> 'token')::uuid AS token;

-- name: stage(most)
-- Make due jobs available, oldest first. Since when and until when a job waited for its first time, nothing else would tell later.
-- from: scheduled, retryable   to: available
WITH due AS (
    DELETE FROM perdure.scheduled_jobs WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM perdure.scheduled_jobs s WHERE s.run_at <= now()
        ORDER BY s.run_at, s.job_id LIMIT :most FOR UPDATE SKIP LOCKED
    ))
    RETURNING *
), events AS (
    INSERT INTO perdure.job_events (event, job_id, actor, detail)
    SELECT 'staged', d.job_id, 'perdure', jsonb_build_object('run_at', d.run_at, 'scheduled_at', d.since, 'scheduled_xid', d.xid)
    FROM due d WHERE NOT d.retry AND d.run = 1
)
INSERT INTO perdure.available_jobs (job_id, rank, available_at, lane, band, run, attempt, crashes, interruptions, suspicion, gated)
SELECT d.job_id, perdure.rank_of(d.run_at, d.priority), now(), d.lane, perdure.band_of(d.priority, d.suspicion), d.run, d.attempt,
    d.crashes, d.interruptions, d.suspicion, d.gated
FROM due d
RETURNING lane, band, rank, job_id;

-- name: resolve(most)
-- Look once more at the parents of jobs that were blocked while another transaction may have been settling a parent. Jobs that another
-- transaction has locked are left for a later round.
-- from: pending   to: available, scheduled, cancelled
SELECT r.lane, r.band, r.rank, r.job_id FROM perdure.resolve_blocked(NULL, :most) r;

-- name: unpark()
-- Let parked jobs try again whose key has a free slot that no settling has announced. The keys are found by hopping from one to
-- the next in the index, however many jobs each has, and only those with room are locked.
-- from: available   to: available
SELECT u.lane, u.band, u.rank, u.job_id FROM perdure.unpark(ARRAY(
    WITH RECURSIVE keys AS (
        (SELECT p.concurrency_key AS key FROM perdure.parked_jobs p ORDER BY p.concurrency_key LIMIT 1)
        UNION ALL
        SELECT (SELECT p.concurrency_key FROM perdure.parked_jobs p WHERE p.concurrency_key > k.key ORDER BY p.concurrency_key LIMIT 1)
        FROM keys k WHERE k.key IS NOT NULL
    ), first AS (
        SELECT k.key, (SELECT p.concurrency_limit FROM perdure.parked_jobs p
            WHERE p.concurrency_key = k.key ORDER BY p.concurrency_limit DESC LIMIT 1) AS most
        FROM keys k WHERE k.key IS NOT NULL
    )
    SELECT f.key FROM first f
    WHERE (SELECT count(*) FROM perdure.leases l WHERE l.concurrency_key = f.key AND l.slot <= f.most) < f.most LIMIT 500
)) u;
