-- Memory that workers and programs share: JSON values by namespace and key, for a time.

-- One row per key. `version` is new with every write and never given twice, also across a restore, so that who compares it can tell
-- any other write from none. A row past `expires_at` is not there for anybody, and is swept later.
CREATE TABLE perdure.shared_memory (
    namespace text NOT NULL CHECK (length(namespace) BETWEEN 1 AND 200),
    key text COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    value jsonb NOT NULL,
    version uuid NOT NULL DEFAULT gen_random_uuid(),
    written_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (namespace, key)
) WITH (fillfactor = 80, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX shared_memory_expiry ON perdure.shared_memory (expires_at) WHERE expires_at IS NOT NULL;
