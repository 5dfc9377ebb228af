-- The core: bodies, one table per state, leases, history, workers. State is which table holds the row.

CREATE TYPE perdure.job_state AS ENUM
    ('pending', 'scheduled', 'available', 'running', 'retryable', 'completed', 'cancelled', 'discarded');
CREATE TYPE perdure.outcome AS ENUM
    ('completed', 'failed', 'timed_out', 'crashed', 'interrupted', 'released', 'snoozed', 'cancelled');
CREATE TYPE perdure.on_parent_failure AS ENUM ('hold', 'cancel', 'run');
CREATE TYPE perdure.edge_state AS ENUM ('waiting', 'satisfied', 'cancelled');
CREATE TYPE perdure.worker_state AS ENUM ('active', 'draining', 'stopped', 'dead');

-- Queues are known from their first job on; a paused one is left out of every claim.
CREATE TABLE perdure.queues (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 200),
    paused_at timestamptz,
    paused_by text
);

-- A lane folds queue, kind and labels into one small number. Lanes are few and never deleted.
CREATE TABLE perdure.lanes (
    lane integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL REFERENCES perdure.queues (name),
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 200),
    labels text[] NOT NULL DEFAULT '{}',
    UNIQUE (queue, kind, labels)
);

-- The body of a job: written once, never changed, dropped with its day.
-- No foreign key points here, so that partitions can be dropped; `perdure db check` finds orphans.
CREATE TABLE perdure.jobs (
    id uuid NOT NULL PRIMARY KEY,
    lane integer NOT NULL,
    priority smallint NOT NULL CHECK (priority BETWEEN 1 AND 5),
    max_attempts smallint NOT NULL CHECK (max_attempts >= 1),
    depth smallint NOT NULL DEFAULT 0 CHECK (depth BETWEEN 0 AND 500),
    timeout_ms integer CHECK (timeout_ms > 0),
    crash_limit smallint CHECK (crash_limit >= 1),
    unique_states smallint,
    concurrency_limit smallint CHECK (concurrency_limit >= 1),
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    unique_until timestamptz,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    args jsonb NOT NULL CHECK (jsonb_typeof(args) = 'object'),
    unique_key text CHECK (length(unique_key) BETWEEN 1 AND 500),
    concurrency_key text CHECK (length(concurrency_key) BETWEEN 1 AND 500),
    metadata jsonb,
    CHECK ((unique_key IS NULL) = (unique_states IS NULL)),
    CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL))
) PARTITION BY RANGE (id);
CREATE TABLE perdure.jobs_default PARTITION OF perdure.jobs DEFAULT;

-- What may start now, in the order of rank. `band` is 0 high, 1 medium, 2 low, 3 suspects that run alone.
-- A gated row needs a second look before it is leased: its concurrency key must have a free slot, or
-- its unique key is let go when it starts.
CREATE TABLE perdure.available_jobs (
    job_id uuid NOT NULL PRIMARY KEY,
    rank bigint NOT NULL,
    available_at timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    band smallint NOT NULL CHECK (band BETWEEN 0 AND 3),
    run smallint NOT NULL DEFAULT 1,
    attempt smallint NOT NULL DEFAULT 0,
    crashes smallint NOT NULL DEFAULT 0,
    interruptions smallint NOT NULL DEFAULT 0,
    suspicion smallint NOT NULL DEFAULT 0,
    gated boolean NOT NULL DEFAULT false
) WITH (fillfactor = 90, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0.2);
CREATE INDEX available_jobs_claim ON perdure.available_jobs (lane, band, rank, job_id);

-- Jobs met by a claim while all slots of their concurrency key were taken; still `available` to the user.
CREATE TABLE perdure.parked_jobs (
    job_id uuid NOT NULL PRIMARY KEY,
    rank bigint NOT NULL,
    available_at timestamptz NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    band smallint NOT NULL,
    run smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    interruptions smallint NOT NULL,
    suspicion smallint NOT NULL,
    concurrency_key text NOT NULL
);
CREATE INDEX parked_jobs_next ON perdure.parked_jobs (concurrency_key, rank, job_id);

-- Delays (`scheduled`) and retries (`retryable`).
CREATE TABLE perdure.scheduled_jobs (
    job_id uuid NOT NULL PRIMARY KEY,
    run_at timestamptz NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    priority smallint NOT NULL,
    run smallint NOT NULL DEFAULT 1,
    attempt smallint NOT NULL DEFAULT 0,
    crashes smallint NOT NULL DEFAULT 0,
    interruptions smallint NOT NULL DEFAULT 0,
    suspicion smallint NOT NULL DEFAULT 0,
    retry boolean NOT NULL DEFAULT false,
    gated boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX scheduled_jobs_due ON perdure.scheduled_jobs (run_at, job_id);

-- Jobs that wait for parents. `verified` tells that no parent can have ended unseen while the row was written; until then the
-- parents are looked at again, at `look_at`. `looked_xid` is the transaction that first did so.
CREATE TABLE perdure.blocked_jobs (
    job_id uuid NOT NULL PRIMARY KEY,
    waiting integer NOT NULL CHECK (waiting >= 0),
    run_at timestamptz,
    since timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    priority smallint NOT NULL,
    run smallint NOT NULL DEFAULT 1,
    looked_xid xid8,
    gated boolean NOT NULL DEFAULT false,
    verified boolean NOT NULL DEFAULT false,
    look_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX blocked_jobs_unverified ON perdure.blocked_jobs (look_at) WHERE NOT verified;

CREATE TABLE perdure.job_dependencies (
    child_id uuid NOT NULL,
    parent_id uuid NOT NULL,
    on_failure perdure.on_parent_failure NOT NULL DEFAULT 'hold',
    state perdure.edge_state NOT NULL DEFAULT 'waiting',
    PRIMARY KEY (child_id, parent_id),
    CHECK (child_id <> parent_id)
);
CREATE INDEX job_dependencies_parent ON perdure.job_dependencies (parent_id);

-- The only rows that prove ownership. A token is random and so can never be issued twice.
CREATE TABLE perdure.leases (
    job_id uuid NOT NULL PRIMARY KEY,
    token uuid NOT NULL DEFAULT gen_random_uuid(),
    worker_id uuid NOT NULL,
    rank bigint NOT NULL,
    available_at timestamptz NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    deadline timestamptz NOT NULL,
    available_xid xid8 NOT NULL,
    claim_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    process integer NOT NULL,
    lane integer NOT NULL,
    band smallint NOT NULL,
    run smallint NOT NULL,
    attempt smallint NOT NULL CHECK (attempt >= 1),
    crashes smallint NOT NULL,
    interruptions smallint NOT NULL,
    suspicion smallint NOT NULL,
    slot smallint,
    unique_states smallint,
    isolated boolean NOT NULL DEFAULT false,
    unique_key text,
    concurrency_key text,
    CHECK ((concurrency_key IS NULL) = (slot IS NULL))
) WITH (fillfactor = 90, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX leases_guard ON perdure.leases (worker_id, deadline);
CREATE UNIQUE INDEX leases_slot ON perdure.leases (concurrency_key, slot) WHERE concurrency_key IS NOT NULL;

-- What a running job was asked: stop. Empty nearly always; read with each heartbeat.
CREATE TABLE perdure.cancel_requests (
    job_id uuid NOT NULL PRIMARY KEY,
    token uuid NOT NULL,
    worker_id uuid NOT NULL,
    reason text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cancel_requests_worker ON perdure.cancel_requests (worker_id);

-- The history: one row for each attempt that ended, and one for a job that was cancelled while it waited.
-- `state` is where the attempt left its job.
CREATE TABLE perdure.job_executions (
    job_id uuid NOT NULL,
    token uuid,
    worker_id uuid,
    settled_at timestamptz NOT NULL DEFAULT now(),
    available_at timestamptz,
    claimed_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    retry_at timestamptz,
    available_xid xid8,
    claim_xid xid8,
    settle_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    outcome perdure.outcome NOT NULL,
    state perdure.job_state NOT NULL,
    lane integer NOT NULL,
    process integer,
    run smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    interruptions smallint NOT NULL,
    isolated boolean NOT NULL DEFAULT false,
    slot smallint,
    cause text,
    concurrency_key text,
    error jsonb,
    result jsonb,
    CHECK ((token IS NULL) = (worker_id IS NULL)),
    CHECK (state <> 'completed' OR outcome = 'completed'),
    CHECK (state NOT IN ('pending', 'running'))
) PARTITION BY RANGE (settled_at);
CREATE INDEX job_executions_job ON perdure.job_executions (job_id);
CREATE TABLE perdure.job_executions_default PARTITION OF perdure.job_executions DEFAULT;

CREATE TABLE perdure.dead_letter_queue (
    job_id uuid NOT NULL PRIMARY KEY,
    dead_at timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    run smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    interruptions smallint NOT NULL,
    outcome perdure.outcome NOT NULL,
    fingerprint text NOT NULL,
    cause text NOT NULL,
    error jsonb
);
CREATE INDEX dead_letter_queue_group ON perdure.dead_letter_queue (fingerprint, dead_at);
CREATE INDEX dead_letter_queue_age ON perdure.dead_letter_queue (dead_at);

-- One row per unique key in force. `states` is a mask of job states, bit n for the n-th of job_state.
CREATE TABLE perdure.unique_keys (
    key text PRIMARY KEY,
    job_id uuid NOT NULL,
    states smallint NOT NULL,
    expires_at timestamptz
);
CREATE INDEX unique_keys_job ON perdure.unique_keys (job_id);
CREATE INDEX unique_keys_expiry ON perdure.unique_keys (expires_at) WHERE expires_at IS NOT NULL;

-- How far a running job says that it has come.
CREATE TABLE perdure.job_progress (
    job_id uuid NOT NULL PRIMARY KEY,
    token uuid NOT NULL,
    fraction real CHECK (fraction BETWEEN 0 AND 1),
    note text,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- One row per worker: one supervisor with its processes. No index but the key, so that heartbeats are HOT.
CREATE TABLE perdure.workers (
    id uuid NOT NULL PRIMARY KEY,
    name text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    type text NOT NULL,
    state perdure.worker_state NOT NULL DEFAULT 'active',
    queues text[] NOT NULL,
    kinds text[] NOT NULL,
    labels text[] NOT NULL,
    capacity integer NOT NULL,
    processes integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    stopped_at timestamptz,
    cause text
) WITH (fillfactor = 50);

-- Everything that is not an execution: cancel, replay, pause, refusals, rescues; who did it and why.
CREATE TABLE perdure.job_events (
    at timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    event text NOT NULL,
    job_id uuid,
    worker_id uuid,
    queue text,
    actor text NOT NULL,
    reason text,
    detail jsonb
) PARTITION BY RANGE (at);
CREATE INDEX job_events_job ON perdure.job_events (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX job_events_at ON perdure.job_events (at);
CREATE TABLE perdure.job_events_default PARTITION OF perdure.job_events DEFAULT;

-- The elected leader of each duty; a term ends when another is elected, so an old leader can tell.
CREATE TABLE perdure.leaders (
    name text PRIMARY KEY,
    holder uuid NOT NULL,
    term bigint NOT NULL,
    elected_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
