-- What may start next: claims from `available_jobs`, and the lanes that a claimer may take from.

-- name: lanes(queues, kinds, labels)
-- The lanes of a scope; paused queues are left out, and what a restore holds.
SELECT l.lane, l.queue, l.kind
FROM perdure.lanes l JOIN perdure.queues q ON q.name = l.queue
WHERE l.queue = ANY (:queues::text[]) AND l.kind = ANY (:kinds::text[]) AND l.labels <@ :labels::text[]
    AND q.paused_at IS NULL
    AND NOT EXISTS (SELECT FROM perdure.restores r WHERE r.phase IN ('holding', 'draining', 'fencing', 'writing', 'checking', 'broken')
        AND r.jobs IS NULL AND (r.lanes IS NULL OR l.lane = ANY (r.lanes)));

-- name: claim(lanes, bands, floors, below, few, most, worker_id, process, isolated, grace_ms, tokens)
-- Lease the best ranked jobs of the streams (lane, band), each read from its floor on and up to `below`; gated ones are named, with a
-- null token. Claimers take turns.
-- from: available   to: running
SELECT * FROM perdure.claim(:lanes, :bands, :floors, :below, :few, :most, :worker_id, :process, :isolated, :grace_ms, :tokens) ORDER BY rank, job_id;

-- name: occupied(lanes, bands, floors)
-- The streams that hold a job from their floor on, and the rank of the first: asked where there are so many that most are empty.
SELECT s.lane, s.band, a.rank
FROM unnest(:lanes::integer[], :bands::smallint[], :floors::bigint[]) AS s (lane, band, floor)
CROSS JOIN LATERAL (
    SELECT w.rank FROM perdure.available_jobs w
    WHERE w.lane = s.lane AND w.band = s.band AND w.rank >= s.floor
    ORDER BY w.rank, w.job_id LIMIT 1
) a;

-- name: gated_heads(lanes, bands, most)
-- The best ranked gated jobs of the streams, further down than a claim looks.
SELECT h.job_id FROM unnest(:lanes::integer[], :bands::smallint[]) AS s (lane, band)
CROSS JOIN LATERAL (
    SELECT w.rank, w.job_id, w.gated FROM perdure.available_jobs w
    WHERE w.lane = s.lane AND w.band = s.band
    ORDER BY w.rank, w.job_id LIMIT :most
) h
WHERE h.gated ORDER BY h.rank, h.job_id LIMIT :most;

-- name: claim_gated(job_ids, most, worker_id, process, isolated, grace_ms)
-- Lease up to `most` gated jobs, as far as their keys have free slots; those for which there is none are parked.
-- from: available   to: running, available
SELECT * FROM perdure.claim_gated(:job_ids, :most, :worker_id, :process, :isolated, :grace_ms) ORDER BY rank, job_id;

-- name: claim_places(lanes, bands, ranks, job_ids, worker_id, process, isolated, grace_ms, tokens)
-- Lease exactly these jobs, of those still available: the confirmation of what Redis handed out. Gated ones are named with
-- a null token; the tokens of the others come with the call, as those of `claim` do.
-- from: available   to: running
WITH found AS MATERIALIZED (
    SELECT w.*
    FROM unnest(:lanes::integer[], :bands::smallint[], :ranks::bigint[], :job_ids::uuid[]) AS p (lane, band, rank, job_id)
    CROSS JOIN LATERAL (
        SELECT a.ctid AS at, a.job_id, a.lane, a.band, a.rank, a.gated FROM perdure.available_jobs a
        WHERE a.lane = p.lane AND a.band = p.band AND a.rank = p.rank AND a.job_id = p.job_id
        LIMIT 1 FOR UPDATE SKIP LOCKED
    ) w
)
SELECT * FROM perdure.lease_held(
    ARRAY(SELECT f.at FROM found f WHERE NOT f.gated),
    ARRAY(SELECT f.job_id FROM found f WHERE NOT f.gated ORDER BY f.job_id),
    :worker_id, :process, :isolated, :grace_ms, :tokens
)
UNION ALL
SELECT f.job_id, NULL, f.lane, 0, 0, 0, 0, 0, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, f.band, f.rank FROM found f WHERE f.gated
ORDER BY rank, job_id;

-- name: depths()
-- How many jobs wait in each band.
SELECT a.band, count(*) AS waiting FROM perdure.available_jobs a GROUP BY a.band;

-- name: ring(channel, payload)
-- Ring the doorbell of waiting claimers: a hint, sent outside of user transactions. There is nothing to flush, and nobody else who rings
-- should wait for it.
SELECT set_config('synchronous_commit', 'off', true), pg_notify(:channel, :payload);

-- name: suspects(queues, kinds, labels)
-- Whether a suspect of this scope waits to be run alone.
SELECT EXISTS (
    SELECT FROM perdure.lanes l JOIN perdure.queues q ON q.name = l.queue AND q.paused_at IS NULL
    CROSS JOIN LATERAL (SELECT FROM perdure.available_jobs a WHERE a.lane = l.lane AND a.band = 3 LIMIT 1) s
    WHERE l.queue = ANY (:queues::text[]) AND l.kind = ANY (:kinds::text[]) AND l.labels <@ :labels::text[]
        AND NOT EXISTS (SELECT FROM perdure.restores r WHERE r.phase IN ('holding', 'draining', 'fencing', 'writing', 'checking', 'broken')
        AND r.jobs IS NULL AND (r.lanes IS NULL OR l.lane = ANY (r.lanes)))
) AS waiting;
