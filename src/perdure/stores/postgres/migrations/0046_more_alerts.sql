-- What further alerts look at: errors by when they first came, and how long no snapshot has been read again.

-- `times` counts those of the first ten minutes. An error that has not come for 30 days is new when it comes again.
CREATE TABLE perdure.known_errors (
    fingerprint text NOT NULL PRIMARY KEY,
    first_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    times bigint NOT NULL
) WITH (fillfactor = 80);

-- Errors that the history has are known already when this comes to a system that works.
INSERT INTO perdure.known_errors (fingerprint, first_at, seen_at, times)
SELECT e.error ->> 'fingerprint', min(e.settled_at), max(e.settled_at), 0 FROM perdure.job_executions e
WHERE e.settled_at > now() - interval '30 days' AND e.state <> 'completed' AND e.error ->> 'fingerprint' <> '' GROUP BY 1;

-- Since when no snapshot was read again and found sound; of what was before this, nobody knows.
ALTER TABLE perdure.snapshot_policy ADD COLUMN unverified_since timestamptz NOT NULL DEFAULT now();
