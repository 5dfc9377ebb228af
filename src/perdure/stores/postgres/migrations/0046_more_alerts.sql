-- What further alerts look at: errors by when they first came, and when a snapshot was last read again and found sound.

-- `times` counts those of the first ten minutes. An error that has not come for 30 days is new when it comes again.
CREATE TABLE perdure.known_errors (
    fingerprint text NOT NULL PRIMARY KEY,
    kind text NOT NULL,
    first_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    times bigint NOT NULL
) WITH (fillfactor = 80);

-- Errors of the last days are known already when this comes to a system that works.
INSERT INTO perdure.known_errors (fingerprint, kind, first_at, seen_at, times)
SELECT e.error ->> 'fingerprint', min(n.kind), min(e.settled_at), max(e.settled_at), 0
FROM perdure.job_executions e JOIN perdure.lanes n ON n.lane = e.lane
WHERE e.settled_at > now() - interval '2 days' AND e.state <> 'completed' AND e.error ->> 'fingerprint' <> '' GROUP BY 1;

ALTER TABLE perdure.snapshot_policy ADD COLUMN verified_at timestamptz;
