-- Whether a waiting job has been let back in is told by a null and no longer by an empty text, whose comparison each statement that stores a job
-- prepared anew for the index of those that have (docs/decisions/0035-a-ring-apart.md). Nothing is written anew; those that have been let back in at this
-- moment compete for their slot as any other does.
DROP INDEX perdure.available_jobs_returned;
ALTER TABLE perdure.available_jobs DROP COLUMN returned_key;
ALTER TABLE perdure.available_jobs ADD COLUMN returned_key text;
CREATE INDEX available_jobs_returned ON perdure.available_jobs (returned_key, lane, rank, job_id) WHERE returned_key IS NOT NULL;

-- Lease up to `most` gated jobs: each with a concurrency key gets the lowest free slot of its key, or is parked; each whose
-- unique key does not count while running lets it go. The keys are locked first, and what follows sees what was committed until then,
-- so that slots are exact. All is one call: with a second one the locks would wait for the claimer, and where a hundred claimers
-- are after one key, each for all that had it before. Rivals are better ranked jobs of the same key and lane that have waited for a slot before
-- and that this claimer has not met: theirs is the slot that they would get.
-- from: available   to: running, available
CREATE OR REPLACE FUNCTION perdure.claim_gated(ids uuid[], most integer, of_worker uuid, of_process integer, alone boolean, grace_ms integer)
RETURNS TABLE (job_id uuid, token uuid, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint, suspicion smallint,
    args text, priority smallint, max_attempts smallint, timeout_ms integer, crash_limit smallint, available_us bigint, claimed_us bigint,
    metadata text, band smallint, rank bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM perdure.lock_keys(ARRAY(
        SELECT j.concurrency_key FROM unnest(ids) AS u (job_id) JOIN perdure.jobs j ON j.id = u.job_id AND j.concurrency_key IS NOT NULL
    ));
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT w.ctid AS at, w.* FROM perdure.available_jobs w WHERE w.job_id = ANY (ids)
            AND (SELECT perdure.may_claim(of_worker))
        ORDER BY w.rank, w.job_id FOR UPDATE SKIP LOCKED
    ), bodies AS (
        SELECT f.*, j.args, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit, j.metadata, j.unique_key, j.unique_states,
            j.concurrency_key, j.concurrency_limit
        FROM found f JOIN perdure.jobs j ON j.id = f.job_id
    ), rivals AS (
        SELECT k.concurrency_key, (SELECT j.concurrency_limit FROM perdure.jobs j WHERE j.id = w.job_id) AS concurrency_limit, w.rank, w.job_id
        FROM (SELECT DISTINCT b.concurrency_key, b.lane FROM bodies b WHERE b.concurrency_key IS NOT NULL) k
        CROSS JOIN LATERAL (
            SELECT a.rank, a.job_id FROM perdure.available_jobs a
            WHERE a.returned_key = k.concurrency_key AND a.lane = k.lane AND (a.band = 3) = alone
                AND a.job_id <> ALL (ids)
            ORDER BY a.rank, a.job_id LIMIT 500
        ) w
    ), contenders AS (
        SELECT b.concurrency_key, b.concurrency_limit, b.rank, b.job_id FROM bodies b WHERE b.concurrency_key IS NOT NULL
        UNION ALL SELECT r.concurrency_key, r.concurrency_limit, r.rank, r.job_id FROM rivals r
    ), filled AS MATERIALIZED (
        SELECT c.concurrency_key, array_agg(c.job_id ORDER BY c.rank, c.job_id) AS ids,
            perdure.fill_slots(array_agg(c.concurrency_limit ORDER BY c.rank, c.job_id), ARRAY(
                SELECT n.slot FROM generate_series(1, max(c.concurrency_limit)) AS n (slot)
                WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.concurrency_key = c.concurrency_key AND l.slot = n.slot)
                ORDER BY n.slot
            )) AS slots
        FROM contenders c GROUP BY c.concurrency_key
    ), slotted AS (
        SELECT b.*, s.slot, b.concurrency_key IS NOT NULL AND s.slot IS NULL AS full_up FROM bodies b LEFT JOIN LATERAL (
            SELECT f.slots[array_position(f.ids, b.job_id)] AS slot FROM filled f WHERE f.concurrency_key = b.concurrency_key
        ) s ON true
    ), placed AS MATERIALIZED (
        SELECT s.*, gen_random_uuid() AS token FROM (SELECT t.*, row_number() OVER (PARTITION BY t.full_up ORDER BY t.rank, t.job_id) AS turn FROM slotted t) s
        WHERE s.full_up OR s.turn <= most
    ), taken AS (
        DELETE FROM perdure.available_jobs WHERE ctid = ANY (ARRAY(SELECT p.at FROM placed p))
    ), parked AS (
        INSERT INTO perdure.parked_jobs (job_id, rank, available_at, xid, lane, band, run, attempt, crashes, interruptions, suspicion, concurrency_key,
            concurrency_limit)
        SELECT p.job_id, p.rank, p.available_at, p.xid, p.lane, p.band, p.run, p.attempt, p.crashes, p.interruptions, p.suspicion, p.concurrency_key,
            p.concurrency_limit
        FROM placed p WHERE p.full_up
    ), freed AS (
        DELETE FROM perdure.unique_keys u USING placed p
        WHERE u.key = p.unique_key AND u.job_id = p.job_id AND (u.expires_at IS NULL OR u.expires_at > now())
            AND NOT p.full_up AND NOT perdure.counts_in(p.unique_states, 'running')
    ), leased AS (
        INSERT INTO perdure.leases (job_id, token, worker_id, process, isolated, lane, band, rank, run, attempt, crashes, interruptions,
            suspicion, available_at, available_xid, deadline, unique_key, unique_states, concurrency_key, slot)
        SELECT p.job_id, p.token, of_worker, of_process, alone, p.lane, p.band, p.rank, p.run, p.attempt + 1, p.crashes, p.interruptions,
            p.suspicion, p.available_at, p.xid,
            coalesce(now() + (p.timeout_ms::bigint + grace_ms) * interval '1 millisecond', 'infinity'), p.unique_key, p.unique_states,
            p.concurrency_key, p.slot
        FROM placed p WHERE NOT p.full_up
    )
    SELECT p.job_id, p.token, p.lane, p.run, (p.attempt + 1)::smallint AS attempt, p.crashes, p.interruptions, p.suspicion, p.args::text AS args,
        p.priority::smallint, p.max_attempts::smallint, p.timeout_ms::integer, p.crash_limit::smallint, (date_part('epoch', p.available_at) * 1000000)::bigint AS available_us,
        (SELECT (date_part('epoch', now()) * 1000000)::bigint) AS claimed_us, p.metadata::text AS metadata, p.band, p.rank
    FROM placed p WHERE NOT p.full_up
    ORDER BY p.rank, p.job_id;
END $$;

-- Open the epoch after `seen`, unless somebody else has, and give the number of the newest. All workers of before are dead by their rows, so that none of
-- them claims; all leases are given back, which counts as nothing, so that every token of before is void. With `adopter` it is adopted at once.
-- from: running   to: available
CREATE OR REPLACE FUNCTION perdure.open_epoch(seen integer, cause text, opener text, adopter text, reason text) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    opened integer;
    freed integer;
BEGIN
    LOCK TABLE perdure.epochs IN EXCLUSIVE MODE;
    IF perdure.epoch_now() > seen THEN
        RETURN perdure.epoch_now();
    END IF;
    -- Before the lock on the leases, so that whoever registers or claims at this moment is either seen here or sees the epoch.
    INSERT INTO perdure.epochs (number, cause, opened_by, adopted_at, adopted_by, reason)
        VALUES (perdure.epoch_now() + 1, cause, opener, CASE WHEN adopter IS NOT NULL THEN now() END, adopter, reason)
        RETURNING number INTO opened;
    LOCK TABLE perdure.workers IN SHARE ROW EXCLUSIVE MODE;
    UPDATE perdure.workers w SET state = 'dead', stopped_at = now(), cause = format('epoch %s: %s', opened, open_epoch.cause)
        WHERE w.state IN ('active', 'draining');
    LOCK TABLE perdure.leases IN SHARE ROW EXCLUSIVE MODE;
    WITH gone AS (
        DELETE FROM perdure.leases RETURNING *
    ), history AS (
        INSERT INTO perdure.job_executions (job_id, token, worker_id, process, isolated, lane, run, attempt, crashes, interruptions, slot,
            concurrency_key, outcome, state, available_at, claimed_at, available_xid, claim_xid, cause)
        SELECT g.job_id, g.token, g.worker_id, g.process, g.isolated, g.lane, g.run, g.attempt, g.crashes, g.interruptions, g.slot,
            g.concurrency_key, 'released', 'available', g.available_at, g.claimed_at, g.available_xid, g.claim_xid,
            format('given back when epoch %s opened', opened)
        FROM gone g
    )
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, attempt, crashes, interruptions, suspicion, gated, returned_key)
    SELECT g.job_id, g.rank, g.lane, g.band, g.run, g.attempt - 1, g.crashes, g.interruptions, g.suspicion,
        j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true), j.concurrency_key
    FROM gone g JOIN perdure.jobs j ON j.id = g.job_id;
    GET DIAGNOSTICS freed = ROW_COUNT;
    -- A job that is available again counts for a unique key that it had let go when it started, where nobody has taken the key meanwhile.
    INSERT INTO perdure.unique_keys (key, job_id, states, expires_at)
        SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, j.unique_until
        FROM perdure.job_executions e JOIN perdure.jobs j ON j.id = e.job_id
        WHERE e.settled_at = now() AND e.settle_xid = pg_current_xact_id() AND j.unique_key IS NOT NULL AND perdure.counts_in(j.unique_states, 'available')
            AND (j.unique_until IS NULL OR j.unique_until > now())
        ORDER BY j.unique_key, j.id
        ON CONFLICT (key) DO NOTHING;
    UPDATE perdure.epochs e SET released = freed WHERE e.number = opened;
    INSERT INTO perdure.job_events (event, actor, reason, detail)
        VALUES ('epoch_opened', opener, cause, jsonb_build_object('epoch', opened, 'released', freed));
    RETURN opened;
END $$;
