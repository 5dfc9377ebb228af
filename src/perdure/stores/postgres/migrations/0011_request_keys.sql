-- Answers of the HTTP API by the keys that its callers gave, so that a repeated request changes nothing twice.

-- One row per caller and key. While `status` is null its request is under way, or broke off; `digest` tells another request
-- under the same key from the same one repeated.
CREATE TABLE perdure.request_keys (
    actor text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    at timestamptz NOT NULL DEFAULT now(),
    digest bytea NOT NULL,
    status smallint,
    answer bytea,
    PRIMARY KEY (actor, key)
);
CREATE INDEX request_keys_at ON perdure.request_keys (at);
