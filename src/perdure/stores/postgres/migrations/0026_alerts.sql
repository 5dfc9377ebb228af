-- Alerts: what was counted minute by minute, how each alert stands, who silenced it, and the messages on their way.

-- Up to where the history has been counted; whoever counts on holds this row.
CREATE TABLE perdure.alert_watch (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    counted_to timestamptz NOT NULL DEFAULT now()
);
INSERT INTO perdure.alert_watch DEFAULT VALUES;

-- One row for each minute, queue and kind in which something happened; kept for hours only. Refused results have an empty queue and kind.
CREATE TABLE perdure.alert_counts (
    minute timestamptz NOT NULL,
    queue text NOT NULL,
    kind text NOT NULL,
    enqueued bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    finished bigint NOT NULL DEFAULT 0,
    died bigint NOT NULL DEFAULT 0,
    waited bigint NOT NULL DEFAULT 0,
    late bigint NOT NULL DEFAULT 0,
    refused bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (minute, queue, kind)
) WITH (fillfactor = 80, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);

-- One row for each rule and target that holds or has held lately.
CREATE TABLE perdure.alerts (
    rule text NOT NULL,
    target text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'firing', 'resolved')),
    since timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    value float8 NOT NULL,
    fired_at timestamptz,
    resolved_at timestamptz,
    told text CHECK (told IN ('firing', 'resolved')),
    told_at timestamptz,
    PRIMARY KEY (rule, target),
    CHECK ((state = 'pending') = (fired_at IS NULL)),
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);

CREATE TABLE perdure.alert_silences (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    rule text NOT NULL,
    target text NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CHECK (expires_at > created_at)
);

-- Messages on their way, one for each channel; an id is given twice only for what is said twice.
CREATE TABLE perdure.alert_messages (
    id uuid NOT NULL,
    channel text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    next_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    delivered_at timestamptz,
    error text,
    PRIMARY KEY (id, channel)
);
CREATE INDEX alert_messages_due ON perdure.alert_messages (next_at) WHERE delivered_at IS NULL;
