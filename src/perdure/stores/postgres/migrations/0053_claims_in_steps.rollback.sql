-- A claim is one statement after its turn again. Processes of 0053 can no longer confirm what Redis hands out.
-- Lease the best ranked jobs of the streams (lane, band), each read from its floor on, for a worker whose row says that it lives:
-- it is asked once, and PD006 is raised when it does not. With fifty claimers at once each walks over what the others have just taken
-- and over what they are about to take; so they take turns, and what follows the wait sees what was committed until then. All is
-- one call: with a second one the turn would wait for the claimer.
-- Of each stream a few are looked at first, for there may be hundreds; only where all of these are among the best of all can the
-- stream hold more of them, none ranked behind the best found so far. `heads` counts how many of the best lie in each stream, so that
-- no more rows are locked than are taken; SKIP LOCKED passes over what another claimer holds. They are looked for once more from the
-- first of them on: what lies before it may be dead rows without end, while a horizon is pinned.
-- Gated rows are not leased here but named, with a null token, for `claim_gated`. The tokens come with the call, 16 random bytes for
-- each, since the server's own cost a tenth of a claim; they are given to the bodies and not by the table, so that what is leased need
-- not be joined to what is known of it: that join would be a nested loop.
-- from: available   to: running
CREATE OR REPLACE FUNCTION perdure.claim(lanes integer[], bands smallint[], floors bigint[], below bigint, few integer, most integer, of_worker uuid,
    of_process integer, alone boolean, grace_ms integer, tokens bytea)
RETURNS TABLE (job_id uuid, token uuid, lane integer, run integer, attempt integer, crashes integer, interruptions integer, suspicion integer,
    args text, priority integer, max_attempts integer, timeout_ms integer, crash_limit smallint, available_us bigint, claimed_us bigint,
    metadata text, band smallint, rank bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
BEGIN
    PERFORM perdure.take_turn();
    moment := clock_timestamp();
    RETURN QUERY
    WITH nearest AS MATERIALIZED (
        SELECT s.lane, s.band, a.rank, a.job_id, a.gated
        FROM unnest(lanes, bands, floors) AS s (lane, band, floor)
        CROSS JOIN LATERAL (
            SELECT w.rank, w.job_id, w.gated FROM perdure.available_jobs w
            WHERE w.lane = s.lane AND w.band = s.band AND w.rank >= s.floor AND w.rank < below
            ORDER BY w.rank, w.job_id LIMIT few
        ) a
        WHERE (SELECT perdure.may_claim(of_worker))
        ORDER BY a.rank, a.job_id LIMIT most
    ), heads AS MATERIALIZED (
        SELECT * FROM nearest
        UNION ALL
        SELECT d.lane, d.band, a.rank, a.job_id, a.gated
        FROM (SELECT lane, band, min(rank) AS floor FROM nearest WHERE few < most GROUP BY lane, band HAVING count(*) = few) d
        CROSS JOIN LATERAL (
            SELECT w.rank, w.job_id, w.gated FROM perdure.available_jobs w
            WHERE w.lane = d.lane AND w.band = d.band AND w.rank >= d.floor
                AND w.rank <= (SELECT CASE count(*) WHEN most THEN max(rank) ELSE below - 1 END FROM nearest)
            ORDER BY w.rank, w.job_id OFFSET few LIMIT most - few
        ) a
        ORDER BY rank, job_id LIMIT most
    ), taken AS (
        DELETE FROM perdure.available_jobs WHERE ctid = ANY (ARRAY(
            SELECT c.at FROM (SELECT lane, band, min(rank) AS floor, count(*) AS share FROM heads WHERE NOT gated GROUP BY lane, band) h
            CROSS JOIN LATERAL (
                SELECT w.ctid AS at FROM perdure.available_jobs w
                WHERE w.lane = h.lane AND w.band = h.band AND w.rank >= h.floor AND w.rank < below AND NOT w.gated
                ORDER BY w.rank, w.job_id LIMIT h.share FOR UPDATE SKIP LOCKED
            ) c
        ))
        RETURNING *
    ), bodies AS MATERIALIZED (
        SELECT t.*, j.args, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit, j.metadata, j.unique_key, j.unique_states,
            encode(substr(tokens, 16 * row_number() OVER ()::integer - 15, 16), 'hex')::uuid AS token
        FROM taken t JOIN perdure.jobs j ON j.id = t.job_id
    ), leased AS (
        INSERT INTO perdure.leases (job_id, token, worker_id, process, isolated, lane, band, rank, run, attempt, crashes, interruptions,
            suspicion, available_at, available_xid, claimed_at, deadline, unique_key, unique_states)
        SELECT b.job_id, b.token, of_worker, of_process, alone, b.lane, b.band, b.rank, b.run, b.attempt + 1, b.crashes, b.interruptions,
            b.suspicion, b.available_at, b.xid, moment,
            coalesce(moment + (b.timeout_ms::bigint + grace_ms) * interval '1 millisecond', 'infinity'), b.unique_key, b.unique_states
        FROM bodies b
    )
    SELECT b.job_id, b.token, b.lane, b.run, (b.attempt + 1) AS attempt, b.crashes, b.interruptions, b.suspicion, b.args::text AS args,
        b.priority, b.max_attempts, b.timeout_ms, b.crash_limit, (date_part('epoch', b.available_at) * 1000000)::bigint AS available_us,
        (date_part('epoch', moment) * 1000000)::bigint AS claimed_us, b.metadata::text AS metadata, b.band, b.rank
    FROM bodies b
    UNION ALL
    SELECT h.job_id, NULL, h.lane, 0, 0, 0, 0, 0, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, h.band, h.rank FROM heads h WHERE h.gated
    ORDER BY rank, job_id;
END $$;

DROP FUNCTION perdure.lease_held(tid[], uuid[], uuid, integer, boolean, integer, bytea);
