-- The memory of executions: up to where history has been read into each collection of vectors.

-- `position` and `token` are those of the last attempt read, in the order of transactions; a restore changes the era and has the
-- history read anew.
CREATE TABLE perdure.execution_memory (
    collection text PRIMARY KEY CHECK (length(collection) BETWEEN 1 AND 200),
    era integer NOT NULL,
    position bigint NOT NULL,
    token uuid NOT NULL,
    remembered bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Finds the history from a transaction on. Rows lie nearly in the order of their transactions, so that a few pages of summaries do.
CREATE INDEX job_executions_order ON perdure.job_executions USING brin (perdure.in_order(settle_xid))
    WITH (pages_per_range = 32, autosummarize = on);
