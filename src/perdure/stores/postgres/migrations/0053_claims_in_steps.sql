-- A claim looks, locks and leases in steps: what is leased is known before its bodies are asked for, so that a claim does not open all days
-- that are kept, and what a step need not do is not prepared for.

-- Lease jobs whose rows in `available_jobs` the caller's transaction has locked: at `ctids`, with these ids in ascending order. Asks whether
-- the worker lives, once, and raises PD006 when it does not: in the statement that leases, which has locked `leases` by then, so that an
-- epoch that is being opened is either waited for and seen, or sees these leases.
-- The range of the ids is known before the statement starts, which then opens only the partitions of the days from the oldest of
-- these jobs to the newest; their bodies are found by one scan of each for all ids and not by a look-up for each. That is what the two settings
-- are for: what the driver sets for a claimer rules out the hash join. The tokens come with the call, 16 random bytes for each, since the
-- server's own cost a tenth of a claim; they are given to the bodies and not by the table, so that what is leased need not be
-- joined to what is known of it.
-- from: available   to: running
CREATE FUNCTION perdure.lease_held(ctids tid[], ids uuid[], of_worker uuid, of_process integer, alone boolean, grace_ms integer, tokens bytea)
RETURNS TABLE (job_id uuid, token uuid, lane integer, run integer, attempt integer, crashes integer, interruptions integer, suspicion integer,
    args text, priority integer, max_attempts integer, timeout_ms integer, crash_limit smallint, available_us bigint, claimed_us bigint,
    metadata text, band smallint, rank bigint) LANGUAGE plpgsql SET enable_hashjoin = on SET enable_nestloop = off AS $$
#variable_conflict use_column
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    lowest CONSTANT uuid := ids[1];
    highest CONSTANT uuid := ids[cardinality(ids)];
BEGIN
    RETURN QUERY
    WITH taken AS (
        DELETE FROM perdure.available_jobs WHERE ctid = ANY (ctids) AND (SELECT perdure.may_claim(of_worker)) RETURNING *
    ), bodies AS MATERIALIZED (
        SELECT t.*, j.args, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit, j.metadata, j.unique_key, j.unique_states,
            encode(substr(tokens, 16 * row_number() OVER ()::integer - 15, 16), 'hex')::uuid AS token
        FROM taken t JOIN perdure.jobs j ON j.id = t.job_id AND j.id = ANY (ids) AND j.id BETWEEN lowest AND highest
    ), leased AS (
        INSERT INTO perdure.leases (job_id, token, worker_id, process, isolated, lane, band, rank, run, attempt, crashes, interruptions,
            suspicion, available_at, available_xid, claimed_at, deadline, unique_key, unique_states)
        SELECT b.job_id, b.token, of_worker, of_process, alone, b.lane, b.band, b.rank, b.run, b.attempt + 1, b.crashes, b.interruptions,
            b.suspicion, b.available_at, b.xid, moment,
            coalesce(moment + (b.timeout_ms::bigint + grace_ms) * interval '1 millisecond', 'infinity'), b.unique_key, b.unique_states
        FROM bodies b
    )
    SELECT b.job_id, b.token, b.lane, b.run::integer, b.attempt + 1, b.crashes::integer, b.interruptions::integer, b.suspicion::integer,
        b.args::text, b.priority::integer, b.max_attempts::integer, b.timeout_ms, b.crash_limit,
        (date_part('epoch', b.available_at) * 1000000)::bigint, (date_part('epoch', moment) * 1000000)::bigint, b.metadata::text, b.band, b.rank
    FROM bodies b;
END $$;

-- Lease the best ranked jobs of the streams (lane, band), each read from its floor on, for a worker whose row says that it lives. With
-- fifty claimers at once each walks over what the others have just taken and over what they are about to take; so they take turns, and
-- what follows the wait sees what was committed until then. All is one call: with a second one the turn would wait for the claimer.
--
-- 1. Of each stream a few are looked at, for there may be hundreds. Whoever finds nothing is told now when its worker is gone.
-- 2. Only a stream all of whose few are among the best of all can hold more of them, none ranked behind the best found so far. What others
--    have taken or stored since may shift these by some: `best` only says how many to take from where.
-- 3. It counts how many lie in each stream, so that no more rows are locked than are taken; SKIP LOCKED passes over what another
--    claimer holds. They are looked for once more from the first of them on: what lies before it may be dead rows without
--    end, while a horizon is pinned.
-- 4. What is held is leased. Gated rows are not, but named, with a null token, for `claim_gated`.
--
-- from: available   to: running
CREATE OR REPLACE FUNCTION perdure.claim(lanes integer[], bands smallint[], floors bigint[], below bigint, few integer, most integer, of_worker uuid,
    of_process integer, alone boolean, grace_ms integer, tokens bytea)
RETURNS TABLE (job_id uuid, token uuid, lane integer, run integer, attempt integer, crashes integer, interruptions integer, suspicion integer,
    args text, priority integer, max_attempts integer, timeout_ms integer, crash_limit smallint, available_us bigint, claimed_us bigint,
    metadata text, band smallint, rank bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    best record;
    held record;
    last bigint;
BEGIN
    -- The first try stands here, for a call costs as much as a twentieth of the claim of a lone job.
    IF NOT pg_try_advisory_xact_lock(hashtext('perdure.claim'), pg_backend_pid() % 4) THEN
        PERFORM perdure.take_turn();
    END IF;

    SELECT array_agg(n.lane) AS lanes, array_agg(n.band) AS bands, array_agg(n.rank) AS ranks, array_agg(n.job_id) AS ids,
        array_agg(n.gated) AS gates
    INTO best
    FROM (
        SELECT s.lane, s.band, a.rank, a.job_id, a.gated
        FROM unnest(lanes, bands, floors) AS s (lane, band, floor)
        CROSS JOIN LATERAL (
            SELECT w.rank, w.job_id, w.gated FROM perdure.available_jobs w
            WHERE w.lane = s.lane AND w.band = s.band AND w.rank >= s.floor AND w.rank < below
            ORDER BY w.rank, w.job_id LIMIT few
        ) a
        ORDER BY a.rank, a.job_id LIMIT most
    ) n;
    IF best.ids IS NULL THEN
        PERFORM perdure.may_claim(of_worker);
        RETURN;
    END IF;

    IF few < most THEN
        last := CASE cardinality(best.ids) WHEN most THEN best.ranks[most] ELSE below - 1 END;
        SELECT array_agg(n.lane) AS lanes, array_agg(n.band) AS bands, array_agg(n.rank) AS ranks, array_agg(n.job_id) AS ids,
            array_agg(n.gated) AS gates
        INTO best
        FROM (
            SELECT * FROM unnest(best.lanes, best.bands, best.ranks, best.ids, best.gates) AS b (lane, band, rank, job_id, gated)
            UNION
            SELECT d.lane, d.band, a.rank, a.job_id, a.gated
            FROM (
                SELECT b.lane, b.band, min(b.rank) AS floor FROM unnest(best.lanes, best.bands, best.ranks) AS b (lane, band, rank)
                GROUP BY b.lane, b.band HAVING count(*) = few
            ) d
            CROSS JOIN LATERAL (
                SELECT w.rank, w.job_id, w.gated FROM perdure.available_jobs w
                WHERE w.lane = d.lane AND w.band = d.band AND w.rank >= d.floor AND w.rank <= last
                ORDER BY w.rank, w.job_id OFFSET few LIMIT most - few
            ) a
            ORDER BY rank, job_id LIMIT most
        ) n;
    END IF;

    SELECT array_agg(c.at) AS ctids, array_agg(c.job_id ORDER BY c.job_id) AS ids
    INTO held
    FROM (
        SELECT b.lane, b.band, min(b.rank) AS floor, count(*) AS share
        FROM unnest(best.lanes, best.bands, best.ranks, best.gates) AS b (lane, band, rank, gated)
        WHERE NOT b.gated GROUP BY b.lane, b.band
    ) h
    CROSS JOIN LATERAL (
        SELECT w.ctid AS at, w.job_id FROM perdure.available_jobs w
        WHERE w.lane = h.lane AND w.band = h.band AND w.rank >= h.floor AND w.rank < below AND NOT w.gated
        ORDER BY w.rank, w.job_id LIMIT h.share FOR UPDATE SKIP LOCKED
    ) c;

    RETURN QUERY SELECT * FROM perdure.lease_held(held.ctids, held.ids, of_worker, of_process, alone, grace_ms, tokens);
    IF true = ANY (best.gates) THEN
        RETURN QUERY
        SELECT b.job_id, NULL::uuid, b.lane, 0, 0, 0, 0, 0, NULL, 0, 0, NULL::integer, NULL::smallint, NULL::bigint, NULL::bigint, NULL, b.band, b.rank
        FROM unnest(best.ids, best.lanes, best.bands, best.ranks, best.gates) AS b (job_id, lane, band, rank, gated) WHERE b.gated;
    END IF;
END $$;
