-- Bare statements on plain tables as wide as ours: what the same server does without history, fences and rules.

-- name: floor_tables()
-- Make the tables anew.
DROP TABLE IF EXISTS perdure.floor_jobs, perdure.floor_history;
CREATE TABLE perdure.floor_jobs (
    id uuid NOT NULL PRIMARY KEY,
    number bigint NOT NULL,
    claimed_at timestamptz,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    lane integer NOT NULL DEFAULT 1,
    timeout_ms integer DEFAULT 300000,
    priority smallint NOT NULL DEFAULT 3,
    max_attempts smallint NOT NULL DEFAULT 4,
    attempt smallint NOT NULL DEFAULT 0,
    args jsonb NOT NULL
);
CREATE INDEX floor_jobs_next ON perdure.floor_jobs (number) WHERE claimed_at IS NULL;
CREATE TABLE perdure.floor_history (
    job_id uuid NOT NULL,
    claimed_at timestamptz NOT NULL,
    settled_at timestamptz NOT NULL DEFAULT now(),
    lane integer NOT NULL,
    attempt smallint NOT NULL
);
CREATE INDEX floor_history_job ON perdure.floor_history (job_id);

-- name: floor_insert(id, number, args)
-- Store one job.
INSERT INTO perdure.floor_jobs (id, number, args) VALUES (:id, :number, :args::jsonb);

-- name: floor_claim(most, after)
-- Mark the next jobs as taken and give them.
UPDATE perdure.floor_jobs SET claimed_at = now(), attempt = attempt + 1 WHERE id = ANY (ARRAY(
    SELECT f.id FROM perdure.floor_jobs f WHERE f.claimed_at IS NULL AND f.number > :after
    ORDER BY f.number LIMIT :most FOR UPDATE SKIP LOCKED
))
RETURNING id, number, args::text AS args;

-- name: floor_settle(ids)
-- Delete jobs, and keep a row of history for each.
WITH gone AS (DELETE FROM perdure.floor_jobs WHERE id = ANY (:ids::uuid[]) RETURNING id, claimed_at, lane, attempt)
INSERT INTO perdure.floor_history (job_id, claimed_at, lane, attempt) SELECT g.id, g.claimed_at, g.lane, g.attempt FROM gone g;
