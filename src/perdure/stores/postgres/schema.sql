-- What the migrations make, for reading; a test compares it with a migrated database. Written by
-- perdure.stores.postgres.schema_dump, the same on every version of PostgreSQL.

CREATE TYPE perdure.edge_state AS ENUM ('waiting', 'satisfied', 'cancelled');

CREATE TYPE perdure.job_state AS ENUM ('pending', 'scheduled', 'available', 'running', 'retryable', 'completed', 'cancelled', 'discarded');

CREATE TYPE perdure.on_parent_failure AS ENUM ('hold', 'cancel', 'run');

CREATE TYPE perdure.outcome AS ENUM ('completed', 'failed', 'timed_out', 'crashed', 'interrupted', 'released', 'snoozed', 'cancelled');

CREATE TYPE perdure.worker_state AS ENUM ('active', 'draining', 'stopped', 'dead');

CREATE TABLE perdure.alert_counts (
    minute timestamp with time zone NOT NULL,
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
    CONSTRAINT alert_counts_pkey PRIMARY KEY (minute, queue, kind)
) WITH (fillfactor=80, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_scale_factor=0.05);

CREATE TABLE perdure.alert_messages (
    id uuid NOT NULL,
    channel text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    next_at timestamp with time zone NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    delivered_at timestamp with time zone,
    error text,
    CONSTRAINT alert_messages_pkey PRIMARY KEY (id, channel)
);

CREATE TABLE perdure.alert_silences (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    rule text NOT NULL,
    target text NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT alert_silences_check CHECK ((expires_at > created_at)),
    CONSTRAINT alert_silences_pkey PRIMARY KEY (id)
);

CREATE TABLE perdure.alert_watch (
    only_one boolean NOT NULL DEFAULT true,
    counted_to timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT alert_watch_only_one_check CHECK (only_one),
    CONSTRAINT alert_watch_pkey PRIMARY KEY (only_one)
);

CREATE TABLE perdure.alerts (
    rule text NOT NULL,
    target text NOT NULL,
    state text NOT NULL,
    since timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    value double precision NOT NULL,
    fired_at timestamp with time zone,
    resolved_at timestamp with time zone,
    told text,
    told_at timestamp with time zone,
    CONSTRAINT alerts_check CHECK (((state = 'pending'::text) = (fired_at IS NULL))),
    CONSTRAINT alerts_check1 CHECK (((state = 'resolved'::text) = (resolved_at IS NOT NULL))),
    CONSTRAINT alerts_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'firing'::text, 'resolved'::text]))),
    CONSTRAINT alerts_told_check CHECK ((told = ANY (ARRAY['firing'::text, 'resolved'::text]))),
    CONSTRAINT alerts_pkey PRIMARY KEY (rule, target)
);

CREATE TABLE perdure.available_jobs (
    job_id uuid NOT NULL,
    rank bigint NOT NULL,
    available_at timestamp with time zone NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    band smallint NOT NULL,
    run smallint NOT NULL DEFAULT 1,
    attempt smallint NOT NULL DEFAULT 0,
    crashes smallint NOT NULL DEFAULT 0,
    interruptions smallint NOT NULL DEFAULT 0,
    suspicion smallint NOT NULL DEFAULT 0,
    gated boolean NOT NULL DEFAULT false,
    returned_key text,
    CONSTRAINT available_jobs_pkey PRIMARY KEY (job_id)
) WITH (fillfactor=90, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_insert_scale_factor=0.5, autovacuum_vacuum_cost_delay=0, autovacuum_analyze_scale_factor=0.2);

CREATE TABLE perdure.blocked_jobs (
    job_id uuid NOT NULL,
    waiting integer NOT NULL,
    run_at timestamp with time zone,
    since timestamp with time zone NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    priority smallint NOT NULL,
    run smallint NOT NULL DEFAULT 1,
    looked_xid xid8,
    gated boolean NOT NULL DEFAULT false,
    verified boolean NOT NULL DEFAULT false,
    look_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT blocked_jobs_waiting_check CHECK ((waiting >= 0)),
    CONSTRAINT blocked_jobs_pkey PRIMARY KEY (job_id)
) WITH (fillfactor=70);

CREATE TABLE perdure.cancel_requests (
    job_id uuid NOT NULL,
    token uuid NOT NULL,
    worker_id uuid NOT NULL,
    reason text NOT NULL,
    requested_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT cancel_requests_pkey PRIMARY KEY (job_id)
);

CREATE TABLE perdure.dead_letter_queue (
    job_id uuid NOT NULL,
    dead_at timestamp with time zone NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    run smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    interruptions smallint NOT NULL,
    outcome perdure.outcome NOT NULL,
    fingerprint text NOT NULL,
    cause text NOT NULL,
    error jsonb,
    CONSTRAINT dead_letter_queue_pkey PRIMARY KEY (job_id)
);

CREATE TABLE perdure.epochs (
    number integer NOT NULL,
    opened_at timestamp with time zone NOT NULL DEFAULT now(),
    opened_by text NOT NULL,
    cause text NOT NULL,
    released integer NOT NULL DEFAULT 0,
    adopted_at timestamp with time zone,
    adopted_by text,
    reason text,
    CONSTRAINT epochs_check CHECK (((adopted_at IS NULL) = (adopted_by IS NULL))),
    CONSTRAINT epochs_number_check CHECK ((number > 1)),
    CONSTRAINT epochs_pkey PRIMARY KEY (number)
);

CREATE TABLE perdure.execution_memory (
    collection text NOT NULL,
    era integer NOT NULL,
    "position" bigint NOT NULL,
    token uuid NOT NULL,
    remembered bigint NOT NULL DEFAULT 0,
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT execution_memory_collection_check CHECK (((length(collection) >= 1) AND (length(collection) <= 200))),
    CONSTRAINT execution_memory_pkey PRIMARY KEY (collection)
) WITH (fillfactor=50);

CREATE TABLE perdure.followed_advice (
    kind text NOT NULL,
    timeout_least_ms bigint,
    timeout_most_ms bigint,
    retry_most_ms bigint,
    wished_at timestamp with time zone NOT NULL DEFAULT now(),
    timeout_ms bigint,
    retry_ms bigint,
    ran_out integer NOT NULL DEFAULT 0,
    ran_out_of integer NOT NULL DEFAULT 0,
    why text NOT NULL DEFAULT ''::text,
    changed_at timestamp with time zone,
    looked_at timestamp with time zone,
    CONSTRAINT followed_advice_retry_ms_check CHECK ((retry_ms > 0)),
    CONSTRAINT followed_advice_timeout_ms_check CHECK ((timeout_ms > 0)),
    CONSTRAINT followed_advice_pkey PRIMARY KEY (kind)
);

CREATE TABLE perdure.forgotten_jobs (
    epoch integer NOT NULL,
    job_id uuid NOT NULL,
    lost text NOT NULL,
    remembered_by text NOT NULL,
    told_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT forgotten_jobs_lost_check CHECK ((lost = ANY (ARRAY['enqueue'::text, 'success'::text]))),
    CONSTRAINT forgotten_jobs_pkey PRIMARY KEY (epoch, job_id, lost)
);

CREATE TABLE perdure.installation (
    only_one boolean NOT NULL DEFAULT true,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    era integer NOT NULL DEFAULT 0,
    CONSTRAINT installation_era_check CHECK (((era >= 0) AND (era <= 16000))),
    CONSTRAINT installation_only_one_check CHECK (only_one),
    CONSTRAINT installation_pkey PRIMARY KEY (only_one)
);

CREATE TABLE perdure.job_dependencies (
    child_id uuid NOT NULL,
    parent_id uuid NOT NULL,
    on_failure perdure.on_parent_failure NOT NULL DEFAULT 'hold'::perdure.on_parent_failure,
    state perdure.edge_state NOT NULL DEFAULT 'waiting'::perdure.edge_state,
    CONSTRAINT job_dependencies_check CHECK ((child_id <> parent_id)),
    CONSTRAINT job_dependencies_pkey PRIMARY KEY (child_id, parent_id)
);

CREATE TABLE perdure.job_events (
    at timestamp with time zone NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    event text NOT NULL,
    job_id uuid,
    worker_id uuid,
    queue text,
    actor text NOT NULL,
    reason text,
    detail jsonb
) PARTITION BY RANGE (at);

CREATE TABLE perdure.job_events_default PARTITION OF perdure.job_events DEFAULT;

CREATE TABLE perdure.job_executions (
    job_id uuid NOT NULL,
    token uuid,
    worker_id uuid,
    settled_at timestamp with time zone NOT NULL DEFAULT now(),
    available_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    retry_at timestamp with time zone,
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
    CONSTRAINT job_executions_check CHECK (((token IS NULL) = (worker_id IS NULL))),
    CONSTRAINT job_executions_check1 CHECK (((state <> 'completed'::perdure.job_state) OR (outcome = 'completed'::perdure.outcome))),
    CONSTRAINT job_executions_state_check CHECK ((state <> 'running'::perdure.job_state))
) PARTITION BY RANGE (settled_at);

CREATE TABLE perdure.job_executions_default PARTITION OF perdure.job_executions DEFAULT;

CREATE TABLE perdure.job_progress (
    job_id uuid NOT NULL,
    token uuid NOT NULL,
    fraction real,
    note text,
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT job_progress_fraction_check CHECK (((fraction >= (0)::double precision) AND (fraction <= (1)::double precision))),
    CONSTRAINT job_progress_pkey PRIMARY KEY (job_id)
) WITH (fillfactor=50);

CREATE TABLE perdure.jobs (
    id uuid NOT NULL,
    lane integer NOT NULL,
    priority smallint NOT NULL,
    max_attempts smallint NOT NULL,
    depth smallint NOT NULL DEFAULT 0,
    timeout_ms integer,
    crash_limit smallint,
    unique_states smallint,
    concurrency_limit smallint,
    enqueued_at timestamp with time zone NOT NULL DEFAULT now(),
    unique_until timestamp with time zone,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    args jsonb NOT NULL,
    unique_key text,
    concurrency_key text,
    metadata jsonb,
    CONSTRAINT jobs_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE TABLE perdure.jobs_default PARTITION OF perdure.jobs DEFAULT;

CREATE TABLE perdure.known_errors (
    fingerprint text NOT NULL,
    first_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    times bigint NOT NULL,
    CONSTRAINT known_errors_pkey PRIMARY KEY (fingerprint)
) WITH (fillfactor=80);

CREATE TABLE perdure.lanes (
    lane integer GENERATED ALWAYS AS IDENTITY NOT NULL,
    queue text NOT NULL,
    kind text NOT NULL,
    labels text[] NOT NULL DEFAULT '{}'::text[],
    CONSTRAINT lanes_kind_check CHECK (((length(kind) >= 1) AND (length(kind) <= 200))),
    CONSTRAINT lanes_queue_fkey FOREIGN KEY (queue) REFERENCES perdure.queues(name),
    CONSTRAINT lanes_pkey PRIMARY KEY (lane),
    CONSTRAINT lanes_queue_kind_labels_key UNIQUE (queue, kind, labels)
);

CREATE TABLE perdure.leaders (
    name text NOT NULL,
    holder uuid NOT NULL,
    term bigint NOT NULL,
    elected_at timestamp with time zone NOT NULL DEFAULT now(),
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT leaders_pkey PRIMARY KEY (name)
) WITH (fillfactor=50);

CREATE TABLE perdure.leases (
    job_id uuid NOT NULL,
    token uuid NOT NULL DEFAULT gen_random_uuid(),
    worker_id uuid NOT NULL,
    rank bigint NOT NULL,
    available_at timestamp with time zone NOT NULL,
    claimed_at timestamp with time zone NOT NULL DEFAULT now(),
    deadline timestamp with time zone NOT NULL,
    available_xid xid8 NOT NULL,
    claim_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    process integer NOT NULL,
    lane integer NOT NULL,
    band smallint NOT NULL,
    run smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    interruptions smallint NOT NULL,
    suspicion smallint NOT NULL,
    slot smallint,
    unique_states smallint,
    isolated boolean NOT NULL DEFAULT false,
    unique_key text,
    concurrency_key text,
    CONSTRAINT leases_attempt_check CHECK ((attempt >= 1)),
    CONSTRAINT leases_check CHECK (((concurrency_key IS NULL) = (slot IS NULL))),
    CONSTRAINT leases_pkey PRIMARY KEY (job_id)
) WITH (fillfactor=90, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0);

CREATE TABLE perdure.levels (
    at timestamp with time zone NOT NULL,
    jobs bigint NOT NULL,
    cancelled bigint NOT NULL,
    discarded bigint NOT NULL,
    lanes jsonb NOT NULL,
    ended jsonb NOT NULL,
    CONSTRAINT levels_pkey PRIMARY KEY (at)
);

CREATE TABLE perdure.migrations (
    number integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT migrations_pkey PRIMARY KEY (number)
);

CREATE TABLE perdure.minute_counts (
    minute timestamp with time zone NOT NULL,
    enqueued bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    other bigint NOT NULL,
    CONSTRAINT minute_counts_pkey PRIMARY KEY (minute)
) WITH (fillfactor=80);

CREATE TABLE perdure.model_posts (
    only_one boolean NOT NULL DEFAULT true,
    champion integer,
    champion_since timestamp with time zone,
    shadow integer,
    shadow_since timestamp with time zone,
    looked_at timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
    found text NOT NULL DEFAULT ''::text,
    CONSTRAINT model_posts_check CHECK (((champion IS NULL) = (champion_since IS NULL))),
    CONSTRAINT model_posts_check1 CHECK (((shadow IS NULL) = (shadow_since IS NULL))),
    CONSTRAINT model_posts_check2 CHECK ((shadow <> champion)),
    CONSTRAINT model_posts_only_one_check CHECK (only_one),
    CONSTRAINT model_posts_champion_fkey FOREIGN KEY (champion) REFERENCES perdure.models(id),
    CONSTRAINT model_posts_shadow_fkey FOREIGN KEY (shadow) REFERENCES perdure.models(id),
    CONSTRAINT model_posts_pkey PRIMARY KEY (only_one)
);

CREATE TABLE perdure.models (
    id integer GENERATED ALWAYS AS IDENTITY NOT NULL,
    made_at timestamp with time zone NOT NULL DEFAULT now(),
    made_by text NOT NULL,
    body bytea NOT NULL,
    sha256 text NOT NULL,
    kind text NOT NULL,
    trained_from timestamp with time zone NOT NULL,
    trained_to timestamp with time zone NOT NULL,
    moments integer NOT NULL,
    failures integer NOT NULL,
    facts jsonb NOT NULL,
    replaced integer,
    retired_at timestamp with time zone,
    why text NOT NULL DEFAULT ''::text,
    CONSTRAINT models_body_check CHECK ((octet_length(body) <= 4194304)),
    CONSTRAINT models_pkey PRIMARY KEY (id)
);

CREATE TABLE perdure.moments (
    at timestamp with time zone NOT NULL,
    cut pg_snapshot NOT NULL,
    newest uuid NOT NULL,
    open_since timestamp with time zone NOT NULL,
    CONSTRAINT moments_pkey PRIMARY KEY (at)
);

CREATE TABLE perdure.parked_jobs (
    job_id uuid NOT NULL,
    rank bigint NOT NULL,
    available_at timestamp with time zone NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    band smallint NOT NULL,
    run smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    interruptions smallint NOT NULL,
    suspicion smallint NOT NULL,
    concurrency_key text NOT NULL,
    concurrency_limit smallint NOT NULL DEFAULT 1,
    CONSTRAINT parked_jobs_concurrency_limit_check CHECK ((concurrency_limit >= 1)),
    CONSTRAINT parked_jobs_pkey PRIMARY KEY (job_id)
);

CREATE TABLE perdure.queues (
    name text NOT NULL,
    paused_at timestamp with time zone,
    paused_by text,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT queues_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT queues_pkey PRIMARY KEY (name)
);

CREATE TABLE perdure.recent_counts (
    at timestamp with time zone NOT NULL,
    lane integer NOT NULL,
    what text NOT NULL,
    jobs bigint NOT NULL,
    CONSTRAINT recent_counts_pkey PRIMARY KEY (at, lane, what)
) WITH (fillfactor=80);

CREATE TABLE perdure.request_keys (
    actor text NOT NULL,
    key text NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT now(),
    digest bytea NOT NULL,
    status smallint,
    answer bytea,
    CONSTRAINT request_keys_actor_check CHECK (((length(actor) >= 1) AND (length(actor) <= 200))),
    CONSTRAINT request_keys_key_check CHECK (((length(key) >= 1) AND (length(key) <= 200))),
    CONSTRAINT request_keys_pkey PRIMARY KEY (actor, key)
);

CREATE TABLE perdure.restore_items (
    restore_id uuid NOT NULL,
    job_id uuid NOT NULL,
    since timestamp with time zone,
    run_at timestamp with time zone,
    done_at timestamp with time zone,
    state_then perdure.job_state,
    state_now perdure.job_state NOT NULL,
    run_now smallint NOT NULL,
    depth smallint NOT NULL,
    attempt smallint NOT NULL DEFAULT 0,
    crashes smallint NOT NULL DEFAULT 0,
    interruptions smallint NOT NULL DEFAULT 0,
    circumstance text NOT NULL,
    action text NOT NULL,
    outcome text,
    CONSTRAINT restore_items_restore_id_fkey FOREIGN KEY (restore_id) REFERENCES perdure.restores(id) ON DELETE CASCADE,
    CONSTRAINT restore_items_pkey PRIMARY KEY (restore_id, job_id)
);

CREATE TABLE perdure.restores (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    planned_at timestamp with time zone NOT NULL DEFAULT now(),
    begun_at timestamp with time zone,
    touched_at timestamp with time zone,
    drain_by timestamp with time zone,
    ended_at timestamp with time zone,
    cut_at timestamp with time zone NOT NULL,
    before_at timestamp with time zone,
    open_since timestamp with time zone NOT NULL,
    cut pg_snapshot NOT NULL,
    before pg_snapshot,
    newest uuid NOT NULL,
    undoes uuid,
    tolerance integer NOT NULL DEFAULT 0,
    phase text NOT NULL DEFAULT 'planned'::text,
    source text NOT NULL,
    digest text NOT NULL DEFAULT ''::text,
    actor text NOT NULL,
    reason text NOT NULL,
    scope jsonb NOT NULL,
    policy jsonb NOT NULL,
    cases jsonb NOT NULL DEFAULT '[]'::jsonb,
    report text NOT NULL DEFAULT ''::text,
    lanes integer[],
    jobs uuid[],
    rerun_kinds text[] NOT NULL DEFAULT '{}'::text[],
    end_xid xid8,
    CONSTRAINT restores_phase_check CHECK ((phase = ANY (ARRAY['planned'::text, 'holding'::text, 'draining'::text, 'fencing'::text, 'writing'::text, 'checking'::text, 'done'::text, 'refused'::text, 'broken'::text, 'released'::text, 'abandoned'::text]))),
    CONSTRAINT restores_tolerance_check CHECK ((tolerance >= 0)),
    CONSTRAINT restores_pkey PRIMARY KEY (id)
);

CREATE TABLE perdure.scheduled_jobs (
    job_id uuid NOT NULL,
    run_at timestamp with time zone NOT NULL,
    since timestamp with time zone NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane integer NOT NULL,
    priority smallint NOT NULL,
    run smallint NOT NULL DEFAULT 1,
    attempt smallint NOT NULL DEFAULT 0,
    crashes smallint NOT NULL DEFAULT 0,
    interruptions smallint NOT NULL DEFAULT 0,
    suspicion smallint NOT NULL DEFAULT 0,
    retry boolean NOT NULL DEFAULT false,
    gated boolean NOT NULL DEFAULT false,
    CONSTRAINT scheduled_jobs_pkey PRIMARY KEY (job_id)
) WITH (autovacuum_vacuum_threshold=1000, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0);

CREATE TABLE perdure.shared_memory (
    namespace text NOT NULL,
    key text NOT NULL,
    value jsonb NOT NULL,
    version uuid NOT NULL DEFAULT gen_random_uuid(),
    written_at timestamp with time zone NOT NULL DEFAULT now(),
    expires_at timestamp with time zone,
    CONSTRAINT shared_memory_key_check CHECK (((length(key) >= 1) AND (length(key) <= 200))),
    CONSTRAINT shared_memory_namespace_check CHECK (((length(namespace) >= 1) AND (length(namespace) <= 200))),
    CONSTRAINT shared_memory_pkey PRIMARY KEY (namespace, key)
) WITH (fillfactor=80, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_scale_factor=0.05);

CREATE TABLE perdure.snapshot_policy (
    only_one boolean NOT NULL DEFAULT true,
    every interval NOT NULL,
    keep integer NOT NULL,
    set_by text NOT NULL,
    set_at timestamp with time zone NOT NULL DEFAULT now(),
    newest_at timestamp with time zone,
    unverified_since timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT snapshot_policy_every_check CHECK ((every >= '00:01:00'::interval)),
    CONSTRAINT snapshot_policy_keep_check CHECK ((keep >= 1)),
    CONSTRAINT snapshot_policy_only_one_check CHECK (only_one),
    CONSTRAINT snapshot_policy_pkey PRIMARY KEY (only_one)
);

CREATE TABLE perdure.stretches (
    number bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    epoch integer NOT NULL,
    mark bigint NOT NULL DEFAULT 0,
    begun_at timestamp with time zone NOT NULL DEFAULT now(),
    marked_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT stretches_pkey PRIMARY KEY (number),
    CONSTRAINT stretches_id_key UNIQUE (id)
) WITH (fillfactor=50);

CREATE TABLE perdure.unique_keys (
    key text NOT NULL,
    job_id uuid NOT NULL,
    states smallint NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT unique_keys_pkey PRIMARY KEY (key)
);

CREATE TABLE perdure.worker_history (
    worker_id uuid NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    state perdure.worker_state NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    type text NOT NULL,
    queues text[] NOT NULL,
    kinds text[] NOT NULL,
    labels text[] NOT NULL,
    capacity integer NOT NULL,
    processes integer NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    stopped_at timestamp with time zone,
    cordoned_at timestamp with time zone,
    cause text
);

CREATE TABLE perdure.worker_samples (
    at timestamp with time zone NOT NULL DEFAULT now(),
    worker_id uuid NOT NULL,
    running integer NOT NULL,
    finished integer NOT NULL,
    failed integer NOT NULL,
    timed_out integer NOT NULL,
    retried integer NOT NULL,
    crashed integer NOT NULL,
    cpu_percent real,
    resident_mb real,
    memory_percent real,
    open_files integer,
    loop_lag_ms real,
    beat_late_ms real,
    database_ms real,
    slowness real,
    queue_wait_ms real,
    claims integer NOT NULL DEFAULT 0,
    claim_ms integer NOT NULL DEFAULT 0
) PARTITION BY RANGE (at);

CREATE TABLE perdure.worker_samples_default PARTITION OF perdure.worker_samples DEFAULT;

CREATE TABLE perdure.workers (
    id uuid NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    type text NOT NULL,
    state perdure.worker_state NOT NULL DEFAULT 'active'::perdure.worker_state,
    queues text[] NOT NULL,
    kinds text[] NOT NULL,
    labels text[] NOT NULL,
    capacity integer NOT NULL,
    processes integer NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone NOT NULL DEFAULT now(),
    heartbeat_at timestamp with time zone NOT NULL DEFAULT now(),
    stopped_at timestamp with time zone,
    cause text,
    deaf integer NOT NULL DEFAULT 0,
    cordoned_at timestamp with time zone,
    evacuate_by timestamp with time zone,
    evacuated_at timestamp with time zone,
    suspected_at timestamp with time zone,
    health_scores real[] NOT NULL DEFAULT '{}'::real[],
    healthy boolean NOT NULL DEFAULT true,
    claim_share real NOT NULL DEFAULT 1,
    CONSTRAINT workers_deaf_check CHECK ((deaf >= 0)),
    CONSTRAINT workers_pkey PRIMARY KEY (id)
) WITH (fillfactor=50);

CREATE INDEX alert_messages_due ON perdure.alert_messages USING btree (next_at) WHERE (delivered_at IS NULL);

CREATE INDEX available_jobs_claim ON perdure.available_jobs USING btree (lane, band, rank, job_id);

CREATE INDEX available_jobs_returned ON perdure.available_jobs USING btree (returned_key, lane, rank, job_id) WHERE (returned_key IS NOT NULL);

CREATE INDEX blocked_jobs_unverified ON perdure.blocked_jobs USING btree (look_at) WHERE (NOT verified);

CREATE INDEX cancel_requests_worker ON perdure.cancel_requests USING btree (worker_id);

CREATE INDEX dead_letter_queue_age ON perdure.dead_letter_queue USING btree (dead_at);

CREATE INDEX dead_letter_queue_group ON perdure.dead_letter_queue USING btree (fingerprint, dead_at);

CREATE INDEX job_dependencies_parent ON perdure.job_dependencies USING btree (parent_id);

CREATE INDEX job_events_at ON ONLY perdure.job_events USING btree (at);

CREATE INDEX job_events_job ON ONLY perdure.job_events USING btree (job_id) WHERE (job_id IS NOT NULL);

CREATE INDEX job_events_waited ON ONLY perdure.job_events USING btree (job_id) WHERE ((detail ? 'scheduled_xid'::text) OR (detail ? 'delay_ms'::text));

CREATE INDEX job_executions_ended_badly ON ONLY perdure.job_executions USING btree (job_id) WHERE (state = ANY (ARRAY['cancelled'::perdure.job_state, 'discarded'::perdure.job_state]));

CREATE INDEX job_executions_ended_lately ON ONLY perdure.job_executions USING btree (settled_at) WHERE (state <> 'completed'::perdure.job_state);

CREATE INDEX job_executions_job ON ONLY perdure.job_executions USING btree (job_id);

CREATE INDEX job_executions_order ON ONLY perdure.job_executions USING brin (perdure.in_order(settle_xid)) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX job_executions_recent ON ONLY perdure.job_executions USING brin (settled_at, claimed_at, available_at) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX job_executions_retried ON ONLY perdure.job_executions USING btree (job_id) WHERE (state = 'retryable'::perdure.job_state);

CREATE INDEX job_executions_settled ON ONLY perdure.job_executions USING btree (settled_at) WHERE (token IS NOT NULL);

CREATE INDEX job_executions_went_back ON ONLY perdure.job_executions USING btree (job_id) WHERE (state = ANY (ARRAY['pending'::perdure.job_state, 'scheduled'::perdure.job_state, 'available'::perdure.job_state]));

CREATE INDEX leases_guard ON perdure.leases USING btree (worker_id, deadline);

CREATE UNIQUE INDEX leases_slot ON perdure.leases USING btree (concurrency_key, slot) WHERE (concurrency_key IS NOT NULL);

CREATE INDEX parked_jobs_next ON perdure.parked_jobs USING btree (concurrency_key, concurrency_limit, rank, job_id);

CREATE INDEX request_keys_at ON perdure.request_keys USING btree (at);

CREATE INDEX restore_items_next ON perdure.restore_items USING btree (restore_id, action, depth, job_id) WHERE (done_at IS NULL);

CREATE UNIQUE INDEX restores_under_way ON perdure.restores USING btree ((true)) WHERE (phase = ANY (ARRAY['holding'::text, 'draining'::text, 'fencing'::text, 'writing'::text, 'checking'::text, 'broken'::text]));

CREATE INDEX scheduled_jobs_due ON perdure.scheduled_jobs USING btree (run_at, job_id);

CREATE INDEX shared_memory_expiry ON perdure.shared_memory USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX unique_keys_expiry ON perdure.unique_keys USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX unique_keys_job ON perdure.unique_keys USING btree (job_id);

CREATE INDEX worker_history_at ON perdure.worker_history USING btree (at);

CREATE INDEX worker_history_worker ON perdure.worker_history USING btree (worker_id, at);

CREATE INDEX worker_samples_at ON ONLY perdure.worker_samples USING brin (at) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX worker_samples_worker ON ONLY perdure.worker_samples USING btree (worker_id, at);

CREATE OR REPLACE FUNCTION perdure.aged(xid xid8, era integer)
 RETURNS xid8
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (xid >= '281474976710656'::xid8) THEN xid ELSE (((((xid)::text)::bigint + (((era + 1))::bigint * '281474976710656'::bigint)))::text)::xid8 END
;

CREATE OR REPLACE FUNCTION perdure.aged_cut(cut pg_snapshot, era integer)
 RETURNS pg_snapshot
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ((cut IS NULL) OR (pg_snapshot_xmin(cut) >= '281474976710656'::xid8)) THEN cut ELSE (concat_ws(':'::text, perdure.aged(pg_snapshot_xmin(cut), era), perdure.aged(pg_snapshot_xmax(cut), era), COALESCE((SELECT string_agg((perdure.aged(x.x, aged_cut.era))::text, ','::text ORDER BY x.x) AS string_agg FROM pg_snapshot_xip(aged_cut.cut) x(x)), ''::text)))::pg_snapshot END
;

CREATE OR REPLACE FUNCTION perdure.aged_detail(detail jsonb, era integer)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (detail ? 'scheduled_xid'::text) THEN (detail || jsonb_build_object('scheduled_xid', perdure.aged(((detail ->> 'scheduled_xid'::text))::xid8, era))) ELSE detail END
;

CREATE OR REPLACE FUNCTION perdure.args_that_fit(args jsonb, clauses jsonb)
 RETURNS SETOF boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE ROWS 1
AS $function$
    SELECT true WHERE clauses IS NULL OR NOT EXISTS (
        SELECT FROM jsonb_to_recordset(clauses) AS c (negated boolean, folded boolean, patterns text[], numbers numeric[],
            strings text[], comparison text, path text[])
        WHERE c.negated = EXISTS (
            SELECT FROM jsonb_array_elements(CASE WHEN jsonb_typeof(args #> c.path) = 'array' THEN args #> c.path
                ELSE jsonb_build_array(args #> c.path) END) AS v (value)
            WHERE args #> c.path IS NOT NULL AND (
                perdure.text_fits(v.value #>> '{}', c.folded, c.patterns)
                OR CASE WHEN jsonb_typeof(v.value) = 'number' THEN perdure.number_fits(v.value::numeric, c.comparison, c.numbers) END
                OR CASE WHEN jsonb_typeof(v.value) = 'string' THEN v.value #>> '{}' = ANY (c.strings) END
            )
        )
    )
$function$
;

CREATE OR REPLACE FUNCTION perdure.available_jobs_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(job_id uuid, rank bigint, available_at timestamp with time zone, xid xid8, lane integer, band smallint, run smallint, attempt smallint, crashes smallint, interruptions smallint, gated boolean)
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    WITH ended AS MATERIALIZED (
        SELECT e.job_id, e.available_at, e.available_xid, e.claim_xid, e.run, e.attempt, e.token
        FROM perdure.next_ended_at(cut, newest, open_since) e
    )
    SELECT a.job_id, a.rank, a.available_at, a.xid, a.lane, a.band, a.run, a.attempt, a.crashes, a.interruptions, a.gated
    FROM perdure.available_jobs a
    WHERE a.job_id <= newest AND perdure.seen(a.xid, cut) AND NOT EXISTS (SELECT FROM ended e WHERE e.job_id = a.job_id)
    UNION ALL
    SELECT p.job_id, p.rank, p.available_at, p.xid, p.lane, p.band, p.run, p.attempt, p.crashes, p.interruptions, true
    FROM perdure.parked_jobs p
    WHERE p.job_id <= newest AND perdure.seen(p.xid, cut) AND NOT EXISTS (SELECT FROM ended e WHERE e.job_id = p.job_id)
    UNION ALL
    SELECT m.job_id, perdure.rank_of(m.available_at, j.priority), m.available_at, m.xid, j.lane, perdure.band_of(j.priority, 0::smallint),
        m.run, m.attempt, m.crashes, m.interruptions,
        j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM (
        SELECT l.job_id, l.available_at, l.available_xid AS xid, l.run, (l.attempt - 1)::smallint AS attempt, l.crashes, l.interruptions
        FROM perdure.leases l
        WHERE l.job_id <= newest AND perdure.seen(l.available_xid, cut) AND NOT perdure.seen(l.claim_xid, cut)
            AND NOT EXISTS (SELECT FROM ended e WHERE e.job_id = l.job_id)
        UNION ALL
        SELECT e.job_id, e.available_at, e.available_xid, e.run, CASE WHEN e.token IS NULL THEN e.attempt ELSE e.attempt - 1 END::smallint,
            c.crashes, c.interruptions
        FROM ended e CROSS JOIN LATERAL perdure.counts_before(e.job_id, e.run, cut) c
        WHERE perdure.seen(e.available_xid, cut) AND perdure.seen(e.claim_xid, cut) IS NOT TRUE
        UNION ALL
        SELECT u.job_id, u.since, perdure.waited_since(u.job_id, u.run, cut), u.run, u.attempt, u.crashes, u.interruptions
        FROM perdure.looked_up_at(cut, newest, open_since) u WHERE u.state = 'available'
    ) m
    JOIN perdure.jobs j ON j.id = m.job_id
$function$
;

CREATE OR REPLACE FUNCTION perdure.band_of(priority smallint, suspicion smallint)
 RETURNS smallint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (CASE WHEN (suspicion >= 2) THEN 3 WHEN (priority >= 4) THEN 0 WHEN (priority >= 2) THEN 1 ELSE 2 END)::smallint
;

CREATE OR REPLACE FUNCTION perdure.begin_restore()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
BEGIN
    LOCK TABLE perdure.jobs, perdure.available_jobs, perdure.leases, perdure.queues, perdure.workers IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE perdure.job_dependencies DISABLE TRIGGER USER;
    ALTER TABLE perdure.workers DISABLE TRIGGER USER;
    DELETE FROM perdure.moments;
    DELETE FROM perdure.worker_history;
    DELETE FROM perdure.job_events;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.blocked_jobs_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(job_id uuid, waiting integer, run_at timestamp with time zone, since timestamp with time zone, xid xid8, lane integer, priority smallint, run smallint, gated boolean)
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    WITH edges AS MATERIALIZED (
        SELECT d.child_id, count(*)::integer AS waiting FROM perdure.job_dependencies_at(cut, newest, open_since) d
        WHERE d.state = 'waiting' GROUP BY d.child_id
    )
    SELECT b.job_id, coalesce(e.waiting, 0), b.run_at, b.since, b.xid, b.lane, b.priority, b.run, b.gated
    FROM perdure.blocked_jobs b LEFT JOIN edges e ON e.child_id = b.job_id
    WHERE b.job_id <= newest AND perdure.seen(b.xid, cut)
    UNION ALL
    SELECT u.job_id, coalesce(e.waiting, 0), coalesce(u.run_at, v.run_at), u.since, perdure.waited_since(u.job_id, u.run, cut), j.lane,
        j.priority, u.run, j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM perdure.looked_up_at(cut, newest, open_since) u
    JOIN perdure.jobs j ON j.id = u.job_id
    LEFT JOIN edges e ON e.child_id = u.job_id
    LEFT JOIN LATERAL (
        SELECT coalesce((SELECT f.run_at FROM perdure.live_row(u.job_id) f WHERE f.state = 'scheduled'), (
            SELECT (v.detail ->> 'run_at')::timestamptz FROM perdure.job_events v
            WHERE v.job_id = u.job_id AND v.detail ? 'scheduled_xid' AND NOT perdure.seen(v.xid, cut) ORDER BY v.at LIMIT 1)) AS run_at
    ) v ON true
    WHERE u.state = 'pending'
$function$
;

CREATE OR REPLACE FUNCTION perdure.bodies_needed(low uuid, high uuid, horizon timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
    SELECT CASE
        WHEN EXISTS (SELECT FROM perdure.leases l WHERE l.job_id >= low AND l.job_id < high) THEN 'a job runs'
        WHEN EXISTS (SELECT FROM perdure.available_jobs a WHERE a.job_id >= low AND a.job_id < high) THEN 'a job is available'
        WHEN EXISTS (SELECT FROM perdure.parked_jobs p WHERE p.job_id >= low AND p.job_id < high) THEN 'a job waits for a slot of its key'
        WHEN EXISTS (SELECT FROM perdure.scheduled_jobs s WHERE s.job_id >= low AND s.job_id < high) THEN 'a job is scheduled'
        WHEN EXISTS (SELECT FROM perdure.blocked_jobs b WHERE b.job_id >= low AND b.job_id < high) THEN 'a job waits for its parents'
        WHEN EXISTS (SELECT FROM perdure.dead_letter_queue q WHERE q.job_id >= low AND q.job_id < high) THEN 'a dead letter'
        WHEN EXISTS (SELECT FROM perdure.unique_keys u WHERE u.job_id >= low AND u.job_id < high) THEN 'a job holds a unique key'
        WHEN EXISTS (SELECT FROM perdure.job_executions e WHERE e.settled_at >= horizon AND e.job_id >= low AND e.job_id < high)
            THEN 'a job ended within the retention'
        WHEN EXISTS (SELECT FROM perdure.job_events v WHERE v.at >= horizon AND v.job_id >= low AND v.job_id < high)
            THEN 'an event of a job lies within the retention'
        WHEN EXISTS (SELECT FROM perdure.cancel_requests c WHERE c.job_id >= low AND c.job_id < high) THEN 'a request to cancel'
        WHEN EXISTS (SELECT FROM perdure.job_progress p WHERE p.job_id >= low AND p.job_id < high) THEN 'a report of progress'
        WHEN EXISTS (
            SELECT FROM perdure.job_dependencies d JOIN perdure.blocked_jobs b ON b.job_id = d.child_id
            WHERE d.parent_id >= low AND d.parent_id < high AND d.state = 'waiting'
        ) THEN 'a child waits for a job'
    END
$function$
;

CREATE OR REPLACE FUNCTION perdure.check_depth()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    -- Sub-selects and not joins: each is a look-up by key, however large the table of jobs is.
    IF EXISTS (
        SELECT FROM added a
        WHERE (SELECT p.depth FROM perdure.jobs p WHERE p.id = a.parent_id)
            >= (SELECT c.depth FROM perdure.jobs c WHERE c.id = a.child_id)
    ) THEN
        RAISE EXCEPTION 'a dependency must lead from a job to a deeper one'
            USING ERRCODE = 'PD003', HINT = 'edges are written with their child, by perdure.enqueue_jobs';
    END IF;
    RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.check_jobs(jobs jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    bad record;
BEGIN
    SELECT bool_or(j.id IS NULL OR j.id NOT BETWEEN perdure.id_floor(now() - interval '1 day') AND perdure.id_floor(now() + interval '1 day')
        OR substr(j.id::text, 15, 1) <> '7' OR j.kind IS NULL OR length(j.kind) NOT BETWEEN 1 AND 200
        OR length(j.queue) NOT BETWEEN 1 AND 200 OR jsonb_typeof(j.args) <> 'object' OR j.priority NOT BETWEEN 1 AND 5
        OR j.max_attempts < 1 OR j.timeout_ms NOT BETWEEN 0 AND 2073600000 OR j.crash_limit < 1 OR j.concurrency_limit < 1
        OR length(j.unique_key) NOT BETWEEN 1 AND 500 OR length(j.concurrency_key) NOT BETWEEN 1 AND 500
        OR j.unique_states & 23 <> 23 OR array_position(j.labels, NULL) IS NOT NULL OR NOT isfinite(j.run_at)) AS wrong, count(DISTINCT j.id) < count(j.id) AS repeated
    INTO bad FROM perdure.read_jobs(jobs) j;
    IF bad.repeated THEN
        RAISE EXCEPTION 'one id is given to two jobs'
            USING ERRCODE = 'PD004', DETAIL = jsonb_build_object('field', 'id', 'why', 'is given to two jobs of the call')::text;
    ELSIF bad.wrong THEN
        PERFORM perdure.refuse_job(jobs);
    END IF;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.claim(lanes integer[], bands smallint[], floors bigint[], below bigint, few integer, most integer, of_worker uuid, of_process integer, alone boolean, grace_ms integer, tokens bytea)
 RETURNS TABLE(job_id uuid, token uuid, lane integer, run integer, attempt integer, crashes integer, interruptions integer, suspicion integer, args text, priority integer, max_attempts integer, timeout_ms integer, crash_limit smallint, available_us bigint, claimed_us bigint, metadata text, band smallint, rank bigint)
 LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    best record;
    held record;
    last bigint;
BEGIN
    -- The first try stands here, for a call costs as much as a twentieth of the claim of a lone job.
    IF NOT pg_try_advisory_xact_lock(hashtext('perdure.claim'), pg_backend_pid() % 4) THEN
        PERFORM perdure.take_turn();
    END IF;

    SELECT array_agg(n.lane) AS lanes, array_agg(n.band) AS bands, array_agg(n.rank) AS ranks, array_agg(n.job_id) AS ids,
        array_agg(n.gated) AS gates
    INTO best
    FROM (
        SELECT s.lane, s.band, a.rank, a.job_id, a.gated
        FROM unnest(lanes, bands, floors) AS s (lane, band, floor)
        CROSS JOIN LATERAL (
            SELECT w.rank, w.job_id, w.gated FROM perdure.available_jobs w
            WHERE w.lane = s.lane AND w.band = s.band AND w.rank >= s.floor AND w.rank < below
            ORDER BY w.rank, w.job_id LIMIT few
        ) a
        ORDER BY a.rank, a.job_id LIMIT most
    ) n;
    IF best.ids IS NULL THEN
        PERFORM perdure.may_claim(of_worker);
        RETURN;
    END IF;

    IF few < most THEN
        last := CASE cardinality(best.ids) WHEN most THEN best.ranks[most] ELSE below - 1 END;
        SELECT array_agg(n.lane) AS lanes, array_agg(n.band) AS bands, array_agg(n.rank) AS ranks, array_agg(n.job_id) AS ids,
            array_agg(n.gated) AS gates
        INTO best
        FROM (
            SELECT * FROM unnest(best.lanes, best.bands, best.ranks, best.ids, best.gates) AS b (lane, band, rank, job_id, gated)
            UNION
            SELECT d.lane, d.band, a.rank, a.job_id, a.gated
            FROM (
                SELECT b.lane, b.band, min(b.rank) AS floor FROM unnest(best.lanes, best.bands, best.ranks) AS b (lane, band, rank)
                GROUP BY b.lane, b.band HAVING count(*) = few
            ) d
            CROSS JOIN LATERAL (
                SELECT w.rank, w.job_id, w.gated FROM perdure.available_jobs w
                WHERE w.lane = d.lane AND w.band = d.band AND w.rank >= d.floor AND w.rank <= last
                ORDER BY w.rank, w.job_id OFFSET few LIMIT most - few
            ) a
            ORDER BY rank, job_id LIMIT most
        ) n;
    END IF;

    SELECT array_agg(c.at) AS ctids, array_agg(c.job_id ORDER BY c.job_id) AS ids
    INTO held
    FROM (
        SELECT b.lane, b.band, min(b.rank) AS floor, count(*) AS share
        FROM unnest(best.lanes, best.bands, best.ranks, best.gates) AS b (lane, band, rank, gated)
        WHERE NOT b.gated GROUP BY b.lane, b.band
    ) h
    CROSS JOIN LATERAL (
        SELECT w.ctid AS at, w.job_id FROM perdure.available_jobs w
        WHERE w.lane = h.lane AND w.band = h.band AND w.rank >= h.floor AND w.rank < below AND NOT w.gated
        ORDER BY w.rank, w.job_id LIMIT h.share FOR UPDATE SKIP LOCKED
    ) c;

    RETURN QUERY SELECT * FROM perdure.lease_held(held.ctids, held.ids, of_worker, of_process, alone, grace_ms, tokens);
    IF true = ANY (best.gates) THEN
        RETURN QUERY
        SELECT b.job_id, NULL::uuid, b.lane, 0, 0, 0, 0, 0, NULL, 0, 0, NULL::integer, NULL::smallint, NULL::bigint, NULL::bigint, NULL, b.band, b.rank
        FROM unnest(best.ids, best.lanes, best.bands, best.ranks, best.gates) AS b (job_id, lane, band, rank, gated) WHERE b.gated;
    END IF;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.claim_gated(ids uuid[], most integer, of_worker uuid, of_process integer, alone boolean, grace_ms integer)
 RETURNS TABLE(job_id uuid, token uuid, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint, suspicion smallint, args text, priority smallint, max_attempts smallint, timeout_ms integer, crash_limit smallint, available_us bigint, claimed_us bigint, metadata text, band smallint, rank bigint)
 LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
BEGIN
    PERFORM perdure.lock_keys(ARRAY(
        SELECT j.concurrency_key FROM unnest(ids) AS u (job_id) JOIN perdure.jobs j ON j.id = u.job_id AND j.concurrency_key IS NOT NULL
    ));
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT w.ctid AS at, w.* FROM perdure.available_jobs w WHERE w.job_id = ANY (ids)
            AND (SELECT perdure.may_claim(of_worker))
        ORDER BY w.rank, w.job_id FOR UPDATE SKIP LOCKED
    ), bodies AS (
        SELECT f.*, j.args, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit, j.metadata, j.unique_key, j.unique_states,
            j.concurrency_key, j.concurrency_limit
        FROM found f JOIN perdure.jobs j ON j.id = f.job_id
    ), rivals AS (
        SELECT k.concurrency_key, (SELECT j.concurrency_limit FROM perdure.jobs j WHERE j.id = w.job_id) AS concurrency_limit, w.rank, w.job_id
        FROM (SELECT DISTINCT b.concurrency_key, b.lane FROM bodies b WHERE b.concurrency_key IS NOT NULL) k
        CROSS JOIN LATERAL (
            SELECT a.rank, a.job_id FROM perdure.available_jobs a
            WHERE a.returned_key = k.concurrency_key AND a.lane = k.lane AND (a.band = 3) = alone
                AND a.job_id <> ALL (ids)
            ORDER BY a.rank, a.job_id LIMIT 500
        ) w
    ), contenders AS (
        SELECT b.concurrency_key, b.concurrency_limit, b.rank, b.job_id FROM bodies b WHERE b.concurrency_key IS NOT NULL
        UNION ALL SELECT r.concurrency_key, r.concurrency_limit, r.rank, r.job_id FROM rivals r
    ), filled AS MATERIALIZED (
        SELECT c.concurrency_key, array_agg(c.job_id ORDER BY c.rank, c.job_id) AS ids,
            perdure.fill_slots(array_agg(c.concurrency_limit ORDER BY c.rank, c.job_id), ARRAY(
                SELECT n.slot FROM generate_series(1, max(c.concurrency_limit)) AS n (slot)
                WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.concurrency_key = c.concurrency_key AND l.slot = n.slot)
                ORDER BY n.slot
            )) AS slots
        FROM contenders c GROUP BY c.concurrency_key
    ), slotted AS (
        SELECT b.*, s.slot, b.concurrency_key IS NOT NULL AND s.slot IS NULL AS full_up FROM bodies b LEFT JOIN LATERAL (
            SELECT f.slots[array_position(f.ids, b.job_id)] AS slot FROM filled f WHERE f.concurrency_key = b.concurrency_key
        ) s ON true
    ), placed AS MATERIALIZED (
        SELECT s.*, gen_random_uuid() AS token FROM (SELECT t.*, row_number() OVER (PARTITION BY t.full_up ORDER BY t.rank, t.job_id) AS turn FROM slotted t) s
        WHERE s.full_up OR s.turn <= most
    ), taken AS (
        DELETE FROM perdure.available_jobs WHERE ctid = ANY (ARRAY(SELECT p.at FROM placed p))
    ), parked AS (
        INSERT INTO perdure.parked_jobs (job_id, rank, available_at, xid, lane, band, run, attempt, crashes, interruptions, suspicion, concurrency_key,
            concurrency_limit)
        SELECT p.job_id, p.rank, p.available_at, p.xid, p.lane, p.band, p.run, p.attempt, p.crashes, p.interruptions, p.suspicion, p.concurrency_key,
            p.concurrency_limit
        FROM placed p WHERE p.full_up
    ), freed AS (
        DELETE FROM perdure.unique_keys u USING placed p
        WHERE u.key = p.unique_key AND u.job_id = p.job_id AND (u.expires_at IS NULL OR u.expires_at > now())
            AND NOT p.full_up AND NOT perdure.counts_in(p.unique_states, 'running')
    ), leased AS (
        INSERT INTO perdure.leases (job_id, token, worker_id, process, isolated, lane, band, rank, run, attempt, crashes, interruptions,
            suspicion, available_at, available_xid, deadline, unique_key, unique_states, concurrency_key, slot)
        SELECT p.job_id, p.token, of_worker, of_process, alone, p.lane, p.band, p.rank, p.run, p.attempt + 1, p.crashes, p.interruptions,
            p.suspicion, p.available_at, p.xid,
            coalesce(now() + (p.timeout_ms::bigint + grace_ms) * interval '1 millisecond', 'infinity'), p.unique_key, p.unique_states,
            p.concurrency_key, p.slot
        FROM placed p WHERE NOT p.full_up
    )
    SELECT p.job_id, p.token, p.lane, p.run, (p.attempt + 1)::smallint AS attempt, p.crashes, p.interruptions, p.suspicion, p.args::text AS args,
        p.priority::smallint, p.max_attempts::smallint, p.timeout_ms::integer, p.crash_limit::smallint, (date_part('epoch', p.available_at) * 1000000)::bigint AS available_us,
        (SELECT (date_part('epoch', now()) * 1000000)::bigint) AS claimed_us, p.metadata::text AS metadata, p.band, p.rank
    FROM placed p WHERE NOT p.full_up
    ORDER BY p.rank, p.job_id;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.counted_since(begun timestamp with time zone)
 RETURNS TABLE(at timestamp with time zone, lane integer, what text, jobs bigint)
 LANGUAGE sql
 STABLE ROWS 100
AS $function$
    WITH found AS MATERIALIZED (
        SELECT r.* FROM perdure.recent_counts r WHERE r.at >= date_bin('10 seconds', begun, timestamptz '2000-01-01 00:00Z')
    )
    SELECT f.at, f.lane, f.what, f.jobs
    FROM found f
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE c.what = 'counted') AS bins, min(c.at) AS oldest, max(c.at) AS newest, sum(c.jobs) AS jobs FROM found c
    ) m
    WHERE f.what <> 'counted' AND m.jobs >= 10000 AND m.newest > now() - interval '35 seconds'
        AND m.oldest <= begun AND m.bins = 1 + extract(epoch FROM m.newest - m.oldest)::bigint / 10
$function$
;

CREATE OR REPLACE FUNCTION perdure.counts_before(of_job uuid, of_run smallint, cut pg_snapshot)
 RETURNS TABLE(crashes smallint, interruptions smallint)
 LANGUAGE sql
 STABLE ROWS 1
AS $function$
    SELECT coalesce(max(l.crashes), 0::smallint), coalesce(max(l.interruptions), 0::smallint) FROM (
        SELECT e.crashes, e.interruptions FROM perdure.job_executions e
        WHERE e.job_id = of_job AND e.run = of_run AND perdure.seen(e.settle_xid, cut)
        ORDER BY e.settled_at DESC, e.settle_xid DESC LIMIT 1
    ) l
$function$
;

CREATE OR REPLACE FUNCTION perdure.counts_in(states smallint, state perdure.job_state)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN ((((states >> (array_position(enum_range(NULL::perdure.job_state), state) - 1)))::integer & 1) = 1)
;

CREATE OR REPLACE FUNCTION perdure.cut_contains(cut pg_snapshot, earlier pg_snapshot)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN ((perdure.in_order(pg_snapshot_xmax(earlier)) <= perdure.in_order(pg_snapshot_xmax(cut))) AND (NOT (EXISTS (SELECT FROM pg_snapshot_xip(cut_contains.cut) x(x) WHERE perdure.seen(x.x, cut_contains.earlier)))))
;

CREATE OR REPLACE FUNCTION perdure.dead_letter_queue_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(job_id uuid, dead_at timestamp with time zone, xid xid8, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint, outcome perdure.outcome, fingerprint text, cause text, error jsonb)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT e.job_id, e.settled_at, e.settle_xid, e.lane, e.run, e.attempt, e.crashes, e.interruptions, e.outcome,
        coalesce(nullif(e.error ->> 'fingerprint', ''), e.outcome::text), coalesce(e.cause, ''), e.error
    FROM perdure.standings_at(cut, newest, open_since) s
    CROSS JOIN LATERAL (
        SELECT x.* FROM perdure.job_executions x WHERE x.job_id = s.job_id AND perdure.seen(x.settle_xid, cut)
        ORDER BY x.run DESC, x.settled_at DESC, x.settle_xid DESC LIMIT 1
    ) e
    WHERE s.state = 'discarded' AND e.state = 'discarded' AND NOT EXISTS (
        SELECT FROM perdure.job_events v WHERE v.job_id = e.job_id AND v.event = 'dead_letter_discarded'
            AND (v.detail ->> 'run')::smallint = e.run AND perdure.seen(v.xid, cut)
    )
$function$
;

CREATE OR REPLACE FUNCTION perdure.deepen(ids uuid[], INOUT priorities smallint[], inherits boolean[], children integer[], inner_parents integer[], outer_depths smallint[], outer_priorities smallint[], OUT depths smallint[], OUT waiting integer[])
 RETURNS record
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
DECLARE
    jobs integer := array_length(ids, 1);
    edges integer := coalesce(array_length(children, 1), 0);
    first integer[] := array_fill(NULL::integer, ARRAY[jobs]);
    left_over integer[] := array_fill(0, ARRAY[jobs]);
    line integer[] := '{}';
    e integer;
    child integer;
    parent integer;
BEGIN
    depths := array_fill(0::smallint, ARRAY[jobs]);
    waiting := array_fill(0, ARRAY[jobs]);
    FOR e IN 1 .. edges LOOP
        child := children[e];
        parent := inner_parents[e];
        waiting[child] := waiting[child] + 1;
        IF parent IS NULL THEN
            depths[child] := greatest(depths[child], outer_depths[e] + 1);
            IF inherits[child] THEN
                priorities[child] := greatest(priorities[child], outer_priorities[e]);
            END IF;
        ELSE
            left_over[child] := left_over[child] + 1;
            first[parent] := coalesce(first[parent], e);
        END IF;
    END LOOP;
    FOR n IN 1 .. jobs LOOP
        IF left_over[n] = 0 THEN
            line := array_append(line, n);
        END IF;
    END LOOP;
    FOR n IN 1 .. jobs LOOP
        parent := line[n];
        IF parent IS NULL THEN
            PERFORM perdure.refuse_circle(ids, children, inner_parents, left_over);
        END IF;
        IF depths[parent] > 500 THEN
            RAISE EXCEPTION 'a chain of dependencies is longer than 500' USING ERRCODE = 'PD003';
        END IF;
        e := first[parent];
        WHILE inner_parents[e] = parent LOOP
            child := children[e];
            depths[child] := greatest(depths[child], depths[parent] + 1);
            IF inherits[child] THEN
                priorities[child] := greatest(priorities[child], priorities[parent]);
            END IF;
            left_over[child] := left_over[child] - 1;
            IF left_over[child] = 0 THEN
                line := array_append(line, child);
            END IF;
            e := e + 1;
        END LOOP;
    END LOOP;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.draw_restore(of_restore uuid)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    found jsonb;
BEGIN
    DELETE FROM perdure.restore_items i WHERE i.restore_id = of_restore AND i.done_at IS NULL;
    WITH choices AS MATERIALIZED (
        SELECT * FROM perdure.restore_choices(of_restore)
    ), items AS (
        INSERT INTO perdure.restore_items (restore_id, job_id, since, run_at, state_then, state_now, run_now, depth, attempt, crashes,
            interruptions, circumstance, action)
        SELECT of_restore, c.job_id, t.since, t.run_at, c.state_then, c.state_now, c.run_now, j.depth,
            coalesce(t.attempt - (c.state_then = 'running')::integer, 0), coalesce(t.crashes, 0), coalesce(t.interruptions, 0), c.circumstance,
            c.action
        FROM choices c
        JOIN perdure.restores r ON r.id = of_restore
        JOIN perdure.jobs j ON j.id = c.job_id
        LEFT JOIN LATERAL (
            SELECT s.* FROM perdure.standing_at(c.job_id, r.cut) s WHERE c.action IN ('requeue', 'rerun')
        ) t ON true
        WHERE c.action NOT IN ('keep', 'leave')
        ON CONFLICT DO NOTHING
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('circumstance', g.circumstance, 'action', g.action, 'jobs', g.jobs, 'sample', g.sample)
        ORDER BY g.circumstance, g.action), '[]') INTO found
    FROM (
        SELECT c.circumstance, c.action, count(*) AS jobs, (array_agg(c.job_id ORDER BY c.job_id))[1:20] AS sample
        FROM choices c GROUP BY c.circumstance, c.action
    ) g;
    UPDATE perdure.restores r SET cases = found, digest = CASE WHEN r.phase = 'planned' THEN (
        SELECT encode(sha256(convert_to(concat_ws(' ', r.cut, r.scope, r.policy, r.rerun_kinds,
            string_agg(concat_ws(' ', i.job_id, i.action, i.run_now), E'\n' ORDER BY i.job_id)), 'UTF8')), 'hex')
        FROM perdure.restore_items i WHERE i.restore_id = of_restore) ELSE r.digest END
    WHERE r.id = of_restore;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.drop_partition(of_table text, of_day timestamp with time zone, horizon timestamp with time zone, OUT verdict text, OUT why text)
 RETURNS record
 LANGUAGE plpgsql
 SET lock_timeout TO '2s'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
DECLARE
    unwanted text := format('%s_%s', of_table, to_char(of_day AT TIME ZONE 'UTC', 'YYYYMMDD'));
    spare text := of_table || '_default';
    locked boolean := false;
BEGIN
    IF of_day + interval '1 day' > horizon THEN
        RAISE EXCEPTION 'partition % is younger than the horizon %', unwanted, horizon;
    END IF;
    LOOP
        why := CASE of_table WHEN 'jobs' THEN perdure.bodies_needed(perdure.id_floor(of_day), perdure.id_floor(of_day + interval '1 day'), horizon)
            ELSE perdure.history_needed(of_table, of_day) END;
        IF why IS NOT NULL THEN
            verdict := 'kept';
            RETURN;
        END IF;
        EXIT WHEN locked;
        why := perdure.obstacle(ARRAY[format('perdure.%I', of_table)::regclass, to_regclass(format('perdure.%I', unwanted)),
            format('perdure.%I', spare)::regclass]);
        IF why IS NOT NULL THEN
            verdict := 'postponed';
            RETURN;
        END IF;
        EXECUTE format('LOCK TABLE ONLY perdure.%I IN ACCESS EXCLUSIVE MODE', of_table);
        EXECUTE format('LOCK TABLE perdure.%I, perdure.%I IN ACCESS EXCLUSIVE MODE', unwanted, spare);
        locked := true;
    END LOOP;
    EXECUTE format('DROP TABLE perdure.%I', unwanted);
    verdict := 'dropped';
EXCEPTION
    WHEN undefined_table THEN
        verdict := 'postponed';
        why := 'another process has dropped it';
    WHEN lock_not_available THEN
        verdict := 'postponed';
        why := 'others held locks for 2 seconds';
    WHEN insufficient_privilege OR dependent_objects_still_exist THEN
        verdict := 'postponed';
        why := SQLERRM;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.edge_at(child_id uuid, state perdure.edge_state, written xid8, child_xid xid8, cut pg_snapshot, restored boolean)
 RETURNS perdure.edge_state
 LANGUAGE sql
 STABLE
RETURN CASE WHEN ((perdure.in_order(written) < perdure.in_order(pg_snapshot_xmin(cut))) OR (written = child_xid)) THEN state WHEN ((state <> 'waiting'::perdure.edge_state) AND (NOT restored) AND (perdure.in_order(pg_snapshot_xmin(cut)) > 0) AND (NOT perdure.seen(written, cut)) AND (NOT (EXISTS (SELECT FROM perdure.job_events v WHERE ((v.job_id = edge_at.child_id) AND (v.detail ? 'delay_ms'::text) AND (NOT perdure.seen(v.xid, edge_at.cut))))))) THEN 'waiting'::perdure.edge_state ELSE NULL::perdure.edge_state END
;

CREATE OR REPLACE FUNCTION perdure.end_restore()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    numbered record;
BEGIN
    ALTER TABLE perdure.job_dependencies ENABLE TRIGGER USER;
    ALTER TABLE perdure.workers ENABLE TRIGGER USER;
    FOR numbered IN
        SELECT c.relname, f.attname FROM pg_class c JOIN pg_attribute f ON f.attrelid = c.oid AND f.attidentity <> ''
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = (SELECT j.relnamespace FROM pg_class j WHERE j.oid = 'perdure.jobs'::regclass)
    LOOP
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%1$L, %2$L), max(%3$I)) FROM perdure.%4$I HAVING max(%3$I) IS NOT NULL',
            format('perdure.%I', numbered.relname), numbered.attname, numbered.attname, numbered.relname);
    END LOOP;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.endings(ids uuid[])
 RETURNS TABLE(job_id uuid, state perdure.job_state, run smallint)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT j.id, e.state, e.run
    FROM unnest(ids) AS j (id)
    CROSS JOIN LATERAL (
        SELECT x.state, x.run FROM perdure.job_executions x
        WHERE x.job_id = j.id AND x.state IN ('completed', 'cancelled', 'discarded')
        ORDER BY x.run DESC, x.settled_at DESC LIMIT 1
    ) e
    WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.job_id = j.id)
        AND NOT EXISTS (SELECT FROM perdure.available_jobs a WHERE a.job_id = j.id)
        AND NOT EXISTS (SELECT FROM perdure.scheduled_jobs s WHERE s.job_id = j.id)
        AND NOT EXISTS (SELECT FROM perdure.parked_jobs p WHERE p.job_id = j.id)
        AND NOT EXISTS (SELECT FROM perdure.blocked_jobs b WHERE b.job_id = j.id)
$function$
;

CREATE OR REPLACE FUNCTION perdure.enqueue_jobs(jobs jsonb, on_duplicate text DEFAULT 'raise'::text)
 RETURNS TABLE(ordinal bigint, job_id uuid, disposition text, holder uuid, lane integer, band smallint, rank bigint)
 LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    clash record;
    holders uuid[];
    linked boolean := jobs @? '$[*] ? (exists (@.parents[*]))';
BEGIN
    IF jobs @? '$[*] ? (!exists (@.id))' THEN
        SELECT jsonb_agg(CASE WHEN e.job ? 'id' THEN e.job ELSE e.job || jsonb_build_object('id', perdure.new_job_id()) END ORDER BY e.n)
        INTO jobs FROM jsonb_array_elements(jobs) WITH ORDINALITY AS e (job, n);
    END IF;
    PERFORM perdure.check_jobs(jobs);
    PERFORM perdure.ensure_lanes(jobs);
    IF jobs @? '$[*].unique_key' THEN
        holders := perdure.take_unique_keys(jobs);
        FOR clash IN
            SELECT j.unique_key, holders[j.ordinal] AS job_id FROM perdure.read_jobs(jobs) j
            WHERE on_duplicate = 'raise' AND holders[j.ordinal] IS NOT NULL LIMIT 1
        LOOP
            RAISE EXCEPTION 'unique key % is held by job %', clash.unique_key, clash.job_id
                USING ERRCODE = 'PD001', DETAIL = jsonb_build_object('key', clash.unique_key, 'holder', clash.job_id)::text;
        END LOOP;
    END IF;
    IF linked THEN
        RETURN QUERY SELECT * FROM perdure.enqueue_linked(jobs);
        RETURN;
    END IF;
    RETURN QUERY
    WITH input AS MATERIALIZED (
        -- Sub-selects and not joins: they keep the planner's idea of the number of rows, and with it the hash joins below.
        SELECT j.*,
            (SELECT l.lane FROM perdure.lanes l WHERE l.queue = j.queue AND l.kind = j.kind AND l.labels = j.labels) AS lane,
            holders[j.ordinal] AS key_holder,
            (j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)) AS gated
        FROM perdure.read_jobs(jobs) j
    ), bodies AS (
        INSERT INTO perdure.jobs AS b (id, lane, priority, max_attempts, timeout_ms, crash_limit, unique_states, unique_until,
            concurrency_limit, args, unique_key, concurrency_key, metadata)
        SELECT i.id, i.lane, i.priority, i.max_attempts, i.timeout_ms, i.crash_limit, i.unique_states,
            now() + i.unique_for_ms * interval '1 millisecond', i.concurrency_limit, i.args, i.unique_key, i.concurrency_key, i.metadata
        FROM input i WHERE i.key_holder IS NULL ORDER BY i.id
        ON CONFLICT (id) DO NOTHING RETURNING b.id
    ), later AS (
        INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, gated)
        SELECT i.id, i.run_at, i.lane, i.priority, i.gated FROM input i JOIN bodies b ON b.id = i.id WHERE i.run_at > now()
    ), ready AS (
        INSERT INTO perdure.available_jobs AS a (job_id, rank, lane, band, gated)
        SELECT i.id, perdure.rank_of(now(), i.priority), i.lane, perdure.band_of(i.priority, 0::smallint), i.gated
        FROM input i JOIN bodies b ON b.id = i.id WHERE i.run_at IS NULL OR i.run_at <= now()
        RETURNING a.job_id, a.lane, a.band, a.rank
    )
    SELECT i.ordinal, i.id,
        CASE WHEN i.key_holder IS NOT NULL THEN 'duplicate' WHEN b.id IS NULL THEN 'exists' ELSE 'created' END,
        i.key_holder, r.lane, r.band, r.rank
    FROM input i LEFT JOIN bodies b ON b.id = i.id LEFT JOIN ready r ON r.job_id = i.id;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.enqueue_linked(jobs jsonb)
 RETURNS TABLE(ordinal bigint, job_id uuid, disposition text, holder uuid, lane integer, band smallint, rank bigint)
 LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    links record;
    ranked record;
    stored bigint;
BEGIN
    SELECT * INTO links FROM perdure.read_links(jobs);
    SELECT * INTO ranked FROM perdure.deepen(links.ids, links.priorities, links.inherits, links.children, links.inner_parents,
        links.outer_depths, links.outer_priorities);
    WITH input AS MATERIALIZED (
        SELECT j.*, links.lanes[j.ordinal] AS lane, links.holders[j.ordinal] AS key_holder, links.created[j.ordinal] AS created,
            ranked.depths[j.ordinal] AS depth, ranked.priorities[j.ordinal] AS highest, ranked.waiting[j.ordinal] AS waiting,
            links.outward[j.ordinal] AS outward,
            (j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)) AS gated
        FROM perdure.read_jobs(jobs) j
    ), bodies AS (
        INSERT INTO perdure.jobs (id, lane, priority, max_attempts, depth, timeout_ms, crash_limit, unique_states,
            unique_until, concurrency_limit, args, unique_key, concurrency_key, metadata)
        SELECT i.id, i.lane, i.highest, i.max_attempts, i.depth, i.timeout_ms, i.crash_limit, i.unique_states,
            now() + i.unique_for_ms * interval '1 millisecond', i.concurrency_limit, i.args, i.unique_key, i.concurrency_key, i.metadata
        FROM input i WHERE i.created ORDER BY i.id
    ), edges AS (
        INSERT INTO perdure.job_dependencies (child_id, parent_id, on_failure)
        SELECT links.ids[e.child], e.parent_id, e.on_failure
        FROM unnest(links.children, links.parents, links.policies) AS e (child, parent_id, on_failure)
    ), blocked AS (
        -- Parents of the same batch cannot have ended yet; only others are looked at again.
        INSERT INTO perdure.blocked_jobs (job_id, waiting, run_at, lane, priority, gated, verified)
        SELECT i.id, i.waiting, i.run_at, i.lane, i.highest, i.gated, NOT i.outward
        FROM input i WHERE i.created AND i.waiting > 0
    ), later AS (
        INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, gated)
        SELECT i.id, i.run_at, i.lane, i.highest, i.gated FROM input i WHERE i.created AND i.waiting = 0 AND i.run_at > now()
    ), ready AS (
        INSERT INTO perdure.available_jobs (job_id, rank, lane, band, gated)
        SELECT i.id, perdure.rank_of(now(), i.highest), i.lane, perdure.band_of(i.highest, 0::smallint), i.gated
        FROM input i WHERE i.created AND i.waiting = 0 AND (i.run_at IS NULL OR i.run_at <= now())
    )
    SELECT count(*) FROM input i WHERE i.created INTO stored;
    PERFORM FROM perdure.resolve_blocked(ARRAY(
        SELECT links.ids[n] FROM generate_subscripts(links.ids, 1) AS n WHERE links.outward[n]
    ));
    RETURN QUERY
    SELECT n::bigint, links.ids[n],
        CASE WHEN links.created[n] THEN 'created' WHEN links.holders[n] IS NOT NULL THEN 'duplicate' ELSE 'exists' END,
        links.holders[n], a.lane, a.band, a.rank
    FROM generate_subscripts(links.ids, 1) AS n
    LEFT JOIN LATERAL (
        -- The limit keeps it a look-up by key, however many jobs are available.
        SELECT w.lane, w.band, w.rank FROM perdure.available_jobs w WHERE links.created[n] AND w.job_id = links.ids[n] LIMIT 1
    ) a ON true;
EXCEPTION WHEN unique_violation THEN
    -- The same call ran at the same time and was faster; a repeat finds its jobs.
    RAISE EXCEPTION 'the jobs were stored by another call meanwhile' USING ERRCODE = 'serialization_failure';
END $function$
;

CREATE OR REPLACE FUNCTION perdure.ensure_lanes(jobs jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF NOT EXISTS (
        SELECT FROM perdure.read_jobs(jobs) j
        LEFT JOIN perdure.lanes l ON l.queue = j.queue AND l.kind = j.kind AND l.labels = j.labels
        WHERE l.lane IS NULL
    ) THEN
        RETURN;
    END IF;
    INSERT INTO perdure.queues (name) SELECT DISTINCT j.queue FROM perdure.read_jobs(jobs) j ORDER BY 1 ON CONFLICT DO NOTHING;
    INSERT INTO perdure.lanes (queue, kind, labels)
    SELECT DISTINCT j.queue, j.kind, j.labels FROM perdure.read_jobs(jobs) j ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.epoch_now()
 RETURNS integer
 LANGUAGE sql
 STABLE
RETURN COALESCE((SELECT max(e.number) AS max FROM perdure.epochs e), 1)
;

CREATE OR REPLACE FUNCTION perdure.estimated_rows(of_table regclass)
 RETURNS bigint
 LANGUAGE sql
 STABLE
AS $function$
    SELECT coalesce(sum(CASE WHEN c.relpages > 0 AND c.reltuples >= 0 THEN c.reltuples / c.relpages ELSE 50 END * s.pages), 0)::bigint
    FROM (SELECT of_table AS oid UNION ALL SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = of_table) t
    JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'r'
    CROSS JOIN LATERAL (SELECT pg_relation_size(c.oid) / current_setting('block_size')::integer AS pages) s
$function$
;

CREATE OR REPLACE FUNCTION perdure.fill_slots(limits smallint[], free integer[])
 RETURNS integer[]
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
DECLARE
    given integer[] := '{}';
    next integer := 1;
    most smallint;
BEGIN
    FOREACH most IN ARRAY limits LOOP
        IF free[next] <= most THEN
            given := array_append(given, free[next]);
            next := next + 1;
        ELSE
            given := array_append(given, NULL);
        END IF;
    END LOOP;
    RETURN given;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.graph_of(of_job uuid)
 RETURNS SETOF uuid
 LANGUAGE sql
 STABLE
AS $function$
    WITH RECURSIVE graph AS (
        SELECT j.id FROM perdure.jobs j WHERE j.id = of_job
        UNION
        SELECT n.id FROM graph g CROSS JOIN LATERAL (
            SELECT d.parent_id AS id FROM perdure.job_dependencies d WHERE d.child_id = g.id
            UNION ALL
            SELECT d.child_id FROM perdure.job_dependencies d WHERE d.parent_id = g.id
        ) n
    )
    SELECT g.id FROM graph g
$function$
;

CREATE OR REPLACE FUNCTION perdure.halt(seen integer, cause text, opener text)
 RETURNS integer
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ SELECT perdure.open_epoch(seen, cause, opener, NULL, NULL) $function$
;

CREATE OR REPLACE FUNCTION perdure.halted_by()
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN (SELECT n.cause FROM (SELECT e.cause, e.adopted_at FROM perdure.epochs e ORDER BY e.number DESC LIMIT 1) n WHERE (n.adopted_at IS NULL))
;

CREATE OR REPLACE FUNCTION perdure.history_needed(of_table text, of_day timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
    SELECT format('it tells of jobs in %s', b.name)
    FROM (
        SELECT d.name, perdure.id_floor(d.day) AS low, perdure.id_floor(d.day + interval '1 day') AS high
        FROM perdure.day_partitions d WHERE d.parent = 'jobs'
        UNION ALL
        SELECT 'jobs_default', j.id, j.id FROM perdure.jobs_default j
    ) b
    WHERE CASE of_table
        WHEN 'job_executions' THEN EXISTS (SELECT FROM perdure.job_executions e
            WHERE e.settled_at >= of_day AND e.settled_at < of_day + interval '1 day' AND e.job_id BETWEEN b.low AND b.high)
        WHEN 'worker_samples' THEN false -- no job needs them
        ELSE EXISTS (SELECT FROM perdure.job_events v
            WHERE v.at >= of_day AND v.at < of_day + interval '1 day' AND v.job_id BETWEEN b.low AND b.high)
    END LIMIT 1
$function$
;

CREATE OR REPLACE FUNCTION perdure.id_floor(moment timestamp with time zone)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN ((lpad(to_hex(((EXTRACT(epoch FROM (moment - '1970-01-01 00:00:00+00'::timestamp with time zone)) * (1000)::numeric))::bigint), 12, '0'::text) || repeat('0'::text, 20)))::uuid
;

CREATE OR REPLACE FUNCTION perdure.in_order(xid xid8)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (xid >= '281474976710656'::xid8) THEN (((xid)::text)::bigint - '4611686018427387904'::bigint) ELSE ((xid)::text)::bigint END
;

CREATE OR REPLACE FUNCTION perdure.job_dependencies_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(child_id uuid, parent_id uuid, on_failure perdure.on_parent_failure, state perdure.edge_state)
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    WITH restored AS MATERIALIZED (
        SELECT perdure.restored_since(cut) AS is_so
    ), standings AS MATERIALIZED (
        SELECT s.job_id, s.state FROM perdure.standings_at(cut, newest, open_since) s
    )
    SELECT d.child_id, d.parent_id, d.on_failure, CASE
        WHEN o.state IS NOT NULL THEN o.state::text
        WHEN EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND perdure.seen(e.settle_xid, cut) AND e.settled_at >= j.enqueued_at
                AND (e.state = 'completed' OR (d.on_failure = 'run' AND e.state IN ('cancelled', 'discarded')))
        ) OR EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = d.child_id AND v.detail ? 'delay_ms' AND perdure.seen(v.xid, cut)
        ) THEN 'satisfied'
        WHEN p.state IS NULL THEN CASE WHEN EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND e.state = 'completed' AND perdure.seen(e.settle_xid, cut)
        ) THEN 'satisfied' ELSE d.state::text END
        WHEN d.on_failure = 'run' AND p.state IN ('cancelled', 'discarded') THEN 'satisfied'
        WHEN d.on_failure = 'cancel' AND p.state IN ('cancelled', 'discarded') THEN 'cancelled'
        ELSE 'waiting' END::perdure.edge_state
    FROM restored r CROSS JOIN perdure.job_dependencies d
    JOIN perdure.jobs j ON j.id = d.child_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL (SELECT perdure.edge_at(d.child_id, d.state, perdure.written_by(d.xmin), j.xid, cut, r.is_so) AS state) o
    LEFT JOIN standings p ON p.job_id = d.parent_id
    WHERE d.child_id <= newest
$function$
;

CREATE OR REPLACE FUNCTION perdure.keep_worker()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO perdure.worker_history (worker_id, state, name, host, pid, type, queues, kinds, labels, capacity, processes, version,
        started_at, stopped_at, cordoned_at, cause)
    VALUES (NEW.id, NEW.state, NEW.name, NEW.host, NEW.pid, NEW.type, NEW.queues, NEW.kinds, NEW.labels, NEW.capacity, NEW.processes,
        NEW.version, NEW.started_at, NEW.stopped_at, NEW.cordoned_at, NEW.cause);
    RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.lanes_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(lane integer, queue text, kind text, labels text[])
 LANGUAGE sql
 STABLE
AS $function$
    SELECT l.lane, l.queue, l.kind, l.labels FROM perdure.lanes l JOIN perdure.queues q ON q.name = l.queue AND perdure.seen(q.xid, cut)
$function$
;

CREATE OR REPLACE FUNCTION perdure.lanes_that_fit(clauses jsonb)
 RETURNS SETOF integer
 LANGUAGE sql
 STABLE
AS $function$
    SELECT l.lane FROM perdure.lanes l
    WHERE NOT EXISTS (
        SELECT FROM jsonb_to_recordset(clauses) AS c (field text, negated boolean, folded boolean, patterns text[])
        WHERE c.negated = EXISTS (
            SELECT FROM unnest(CASE c.field WHEN 'kind' THEN ARRAY[l.kind] WHEN 'queue' THEN ARRAY[l.queue] ELSE l.labels END) AS t (word)
            WHERE perdure.text_fits(t.word, c.folded, c.patterns)
        )
    )
$function$
;

CREATE OR REPLACE FUNCTION perdure.lease_held(ctids tid[], ids uuid[], of_worker uuid, of_process integer, alone boolean, grace_ms integer, tokens bytea)
 RETURNS TABLE(job_id uuid, token uuid, lane integer, run integer, attempt integer, crashes integer, interruptions integer, suspicion integer, args text, priority integer, max_attempts integer, timeout_ms integer, crash_limit smallint, available_us bigint, claimed_us bigint, metadata text, band smallint, rank bigint)
 LANGUAGE plpgsql
 SET enable_hashjoin TO 'on'
 SET enable_nestloop TO 'off'
AS $function$
#variable_conflict use_column
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    lowest CONSTANT uuid := ids[1];
    highest CONSTANT uuid := ids[cardinality(ids)];
BEGIN
    RETURN QUERY
    WITH taken AS (
        DELETE FROM perdure.available_jobs WHERE ctid = ANY (ctids) AND (SELECT perdure.may_claim(of_worker)) RETURNING *
    ), bodies AS MATERIALIZED (
        SELECT t.*, j.args, j.priority, j.max_attempts, j.timeout_ms, j.crash_limit, j.metadata, j.unique_key, j.unique_states,
            encode(substr(tokens, 16 * row_number() OVER ()::integer - 15, 16), 'hex')::uuid AS token
        FROM taken t JOIN perdure.jobs j ON j.id = t.job_id AND j.id = ANY (ids) AND j.id BETWEEN lowest AND highest
    ), leased AS (
        INSERT INTO perdure.leases (job_id, token, worker_id, process, isolated, lane, band, rank, run, attempt, crashes, interruptions,
            suspicion, available_at, available_xid, claimed_at, deadline, unique_key, unique_states)
        SELECT b.job_id, b.token, of_worker, of_process, alone, b.lane, b.band, b.rank, b.run, b.attempt + 1, b.crashes, b.interruptions,
            b.suspicion, b.available_at, b.xid, moment,
            coalesce(moment + (b.timeout_ms::bigint + grace_ms) * interval '1 millisecond', 'infinity'), b.unique_key, b.unique_states
        FROM bodies b
    )
    SELECT b.job_id, b.token, b.lane, b.run::integer, b.attempt + 1, b.crashes::integer, b.interruptions::integer, b.suspicion::integer,
        b.args::text, b.priority::integer, b.max_attempts::integer, b.timeout_ms, b.crash_limit,
        (date_part('epoch', b.available_at) * 1000000)::bigint, (date_part('epoch', moment) * 1000000)::bigint, b.metadata::text, b.band, b.rank
    FROM bodies b;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.leases_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(job_id uuid, token uuid, worker_id uuid, rank bigint, available_at timestamp with time zone, claimed_at timestamp with time zone, deadline timestamp with time zone, available_xid xid8, claim_xid xid8, process integer, lane integer, band smallint, run smallint, attempt smallint, crashes smallint, interruptions smallint, suspicion smallint, slot smallint, unique_states smallint, isolated boolean, unique_key text, concurrency_key text)
 LANGUAGE sql
 STABLE ROWS 10000
AS $function$
    SELECT h.job_id, h.token, h.worker_id, perdure.rank_of(h.available_at, j.priority), h.available_at, h.claimed_at, 'infinity'::timestamptz,
        h.available_xid, h.claim_xid, h.process, j.lane, perdure.band_of(j.priority, 0::smallint), h.run, h.attempt, h.crashes,
        h.interruptions, 0::smallint, h.slot, j.unique_states, h.isolated, j.unique_key, h.concurrency_key
    FROM (
        SELECT l.job_id, l.token, l.worker_id, l.available_at, l.claimed_at, l.available_xid, l.claim_xid, l.process, l.run, l.attempt, l.crashes,
            l.interruptions, l.slot, l.isolated, l.concurrency_key
        FROM perdure.leases l WHERE l.job_id <= newest AND perdure.seen(l.claim_xid, cut)
        UNION ALL
        SELECT e.job_id, e.token, e.worker_id, e.available_at, e.claimed_at, e.available_xid, e.claim_xid, e.process, e.run, e.attempt, c.crashes,
            c.interruptions, e.slot, e.isolated, e.concurrency_key
        FROM perdure.next_ended_at(cut, newest, open_since) e
        CROSS JOIN LATERAL perdure.counts_before(e.job_id, e.run, cut) c
        WHERE perdure.seen(e.claim_xid, cut)
    ) h
    JOIN perdure.jobs j ON j.id = h.job_id
$function$
;

CREATE OR REPLACE FUNCTION perdure.letters_at(cut pg_snapshot)
 RETURNS TABLE(job_id uuid, dead_at timestamp with time zone, lane integer, run smallint, attempt smallint, crashes smallint, interruptions smallint, outcome perdure.outcome, fingerprint text, cause text, error jsonb)
 LANGUAGE sql
 STABLE
AS $function$
    WITH gone AS MATERIALIZED (
        SELECT DISTINCT e.job_id FROM perdure.job_executions e
        WHERE e.state IN ('cancelled', 'discarded')
            AND NOT EXISTS (SELECT FROM perdure.dead_letter_queue d WHERE d.job_id = e.job_id AND perdure.seen(d.xid, cut))
    )
    SELECT d.job_id, d.dead_at, d.lane, d.run, d.attempt, d.crashes, d.interruptions, d.outcome, d.fingerprint, d.cause, d.error
    FROM perdure.dead_letter_queue d WHERE perdure.seen(d.xid, cut)
    UNION ALL
    SELECT e.job_id, e.settled_at, e.lane, e.run, e.attempt, e.crashes, e.interruptions, e.outcome,
        coalesce(nullif(e.error ->> 'fingerprint', ''), e.outcome::text), coalesce(e.cause, ''), e.error
    FROM gone g
    CROSS JOIN LATERAL (
        SELECT x.* FROM perdure.job_executions x WHERE x.job_id = g.job_id AND x.state = 'discarded' AND perdure.seen(x.settle_xid, cut) OFFSET 0
    ) e
    CROSS JOIN LATERAL perdure.standing_at(e.job_id, cut) s
    WHERE s.state = 'discarded' AND s.run = e.run
        AND NOT EXISTS (
            SELECT FROM perdure.job_events v WHERE v.job_id = e.job_id AND v.event = 'dead_letter_discarded'
                AND (v.detail ->> 'run')::smallint = e.run AND perdure.seen(v.xid, cut)
        )
$function$
;

CREATE OR REPLACE FUNCTION perdure.live_row(of_job uuid)
 RETURNS TABLE(state perdure.job_state, run smallint, attempt smallint, available_xid xid8, claim_xid xid8, wait_xid xid8, available_at timestamp with time zone, claimed_at timestamp with time zone, since timestamp with time zone, run_at timestamp with time zone, worker_id uuid, token uuid)
 LANGUAGE sql
 STABLE ROWS 1
AS $function$
    SELECT 'running'::perdure.job_state, l.run, (l.attempt - 1)::smallint, l.available_xid, l.claim_xid, NULL::xid8, l.available_at, l.claimed_at,
        NULL::timestamptz, NULL::timestamptz, l.worker_id, l.token
    FROM perdure.leases l WHERE l.job_id = of_job
    UNION ALL
    SELECT 'available', a.run, a.attempt, a.xid, NULL, NULL, a.available_at, NULL, NULL, NULL, NULL, NULL
    FROM perdure.available_jobs a WHERE a.job_id = of_job
    UNION ALL
    SELECT 'available', p.run, p.attempt, p.xid, NULL, NULL, p.available_at, NULL, NULL, NULL, NULL, NULL
    FROM perdure.parked_jobs p WHERE p.job_id = of_job
    UNION ALL
    SELECT CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END::perdure.job_state, s.run, s.attempt, NULL, NULL, s.xid, NULL, NULL,
        s.since, s.run_at, NULL, NULL
    FROM perdure.scheduled_jobs s WHERE s.job_id = of_job
    UNION ALL
    SELECT 'pending', b.run, 0::smallint, NULL, NULL, b.xid, NULL, NULL, b.since, b.run_at, NULL, NULL
    FROM perdure.blocked_jobs b WHERE b.job_id = of_job
$function$
;

CREATE OR REPLACE FUNCTION perdure.lock_keys(keys text[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    number bigint;
BEGIN
    FOR number IN SELECT DISTINCT hashtextextended(u.key, 0) FROM unnest(keys) AS u (key) ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock(number);
    END LOOP;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.look_at_lineage(marking boolean, begin_anew boolean, remembered uuid, promised uuid[])
 RETURNS TABLE(installation uuid, epoch integer, halted text, system bigint, timeline integer, flushed bigint, stretch uuid, mark bigint, reached bigint, durable boolean, missing uuid[])
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    newest perdure.stretches;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the server is a replica, or has not ended its recovery' USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    epoch := perdure.epoch_now();
    halted := perdure.halted_by();
    durable := current_setting('synchronous_commit') <> 'off';
    SELECT * INTO newest FROM perdure.stretches s ORDER BY s.number DESC LIMIT 1;
    IF marking AND halted IS NULL THEN
        IF newest.id IS NULL OR begin_anew OR newest.epoch <> epoch OR newest.marked_at < clock_timestamp() - interval '10 seconds' THEN
            PERFORM set_config('synchronous_commit', 'on', true);
            DELETE FROM perdure.stretches s WHERE s.marked_at < now() - interval '35 days';
            INSERT INTO perdure.stretches (epoch) VALUES (epoch) RETURNING * INTO newest;
        ELSIF abs(extract(epoch FROM clock_timestamp() - newest.marked_at)) > 1 THEN
            PERFORM set_config('synchronous_commit', 'on', true);
            UPDATE perdure.stretches s SET mark = s.mark + 1, marked_at = clock_timestamp()
            WHERE s.number = newest.number AND s.marked_at = newest.marked_at;
            SELECT * INTO newest FROM perdure.stretches s WHERE s.number = newest.number;
        END IF;
    END IF;
    stretch := newest.id;
    mark := newest.mark;
    SELECT s.mark INTO reached FROM perdure.stretches s WHERE s.id = remembered;
    SELECT i.id INTO installation FROM perdure.installation i;
    SELECT c.system_identifier INTO system FROM pg_control_system() c;
    flushed := (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint;
    timeline := ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer;
    missing := ARRAY(SELECT p.id FROM unnest(promised) AS p (id) WHERE NOT EXISTS (SELECT FROM perdure.jobs j WHERE j.id = p.id));
    RETURN NEXT;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.looked_up_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(job_id uuid, lane integer, state perdure.job_state, run smallint, attempt smallint, crashes smallint, interruptions smallint, since timestamp with time zone, run_at timestamp with time zone)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT p.job_id, j.lane, s.state, s.run, s.attempt, s.crashes, s.interruptions, s.since, s.run_at
    FROM perdure.plain_standings_at(cut, newest, open_since) p
    JOIN perdure.jobs j ON j.id = p.job_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL perdure.standing_at(p.job_id, cut) s
    WHERE p.state IS NULL
$function$
;

CREATE OR REPLACE FUNCTION perdure.made_at(id uuid)
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN ('1970-01-01 00:00:00+00'::timestamp with time zone + ((((('x0000'::text || "left"(replace((id)::text, '-'::text, ''::text), 12)))::bit(64))::bigint)::double precision * '00:00:00.001'::interval))
;

CREATE OR REPLACE FUNCTION perdure.make_partition(of_table text, of_day timestamp with time zone)
 RETURNS text
 LANGUAGE plpgsql
 SET lock_timeout TO '2s'
AS $function$
DECLARE
    wanted text := format('%s_%s', of_table, to_char(of_day AT TIME ZONE 'UTC', 'YYYYMMDD'));
    spare text := of_table || '_default';
    field text := CASE of_table WHEN 'jobs' THEN 'id' WHEN 'job_executions' THEN 'settled_at' WHEN 'job_events' THEN 'at' WHEN 'worker_samples' THEN 'at' END;
    low text := CASE of_table WHEN 'jobs' THEN perdure.id_floor(of_day)::text ELSE of_day::text END;
    high text := CASE of_table WHEN 'jobs' THEN perdure.id_floor(of_day + interval '1 day')::text ELSE (of_day + interval '1 day')::text END;
    why text := perdure.obstacle(ARRAY[format('perdure.%I', spare)::regclass]);
BEGIN
    IF why IS NOT NULL OR EXISTS (SELECT FROM perdure.day_partitions d WHERE d.name = wanted) THEN
        RETURN why;
    END IF;
    EXECUTE format('LOCK TABLE ONLY perdure.%I IN SHARE UPDATE EXCLUSIVE MODE', of_table);
    EXECUTE format('LOCK TABLE perdure.%I IN ACCESS EXCLUSIVE MODE', spare);
    EXECUTE format('CREATE TABLE perdure.%I (LIKE perdure.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', wanted, of_table);
    EXECUTE format('WITH moved AS (DELETE FROM perdure.%1$I WHERE %2$I >= %3$L AND %2$I < %4$L RETURNING *) INSERT INTO perdure.%5$I SELECT * FROM moved',
        spare, field, low, high, wanted);
    EXECUTE format('ALTER TABLE perdure.%I ATTACH PARTITION perdure.%I FOR VALUES FROM (%L) TO (%L)', of_table, wanted, low, high);
    RETURN NULL;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN 'others held locks for 2 seconds';
    WHEN insufficient_privilege OR duplicate_table THEN
        RETURN SQLERRM;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.make_partitions(days integer)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
DECLARE
    made integer := 0;
    wanted record;
BEGIN
    -- Two at once would make the same tables.
    PERFORM pg_advisory_xact_lock(hashtextextended('perdure.make_partitions', 0));
    FOR wanted IN
        SELECT t.parent, format('%s_%s', t.parent, to_char(d.day AT TIME ZONE 'UTC', 'YYYYMMDD')) AS name, t.column_name,
            CASE WHEN t.parent = 'jobs' THEN quote_literal(perdure.id_floor(d.day)) ELSE quote_literal(d.day) END AS low,
            CASE WHEN t.parent = 'jobs' THEN quote_literal(perdure.id_floor(d.day + interval '1 day'))
                ELSE quote_literal(d.day + interval '1 day') END AS high
        FROM (VALUES ('jobs', 'id'), ('job_executions', 'settled_at'), ('job_events', 'at')) AS t (parent, column_name)
        CROSS JOIN LATERAL (
            SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') + n * interval '1 day') AT TIME ZONE 'UTC' AS day
            FROM generate_series(-1, days) AS n
        ) d
        WHERE to_regclass(format('perdure.%I', format('%s_%s', t.parent, to_char(d.day AT TIME ZONE 'UTC', 'YYYYMMDD')))) IS NULL
    LOOP
        EXECUTE format('CREATE TABLE perdure.%I (LIKE perdure.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', wanted.name, wanted.parent);
        EXECUTE format('WITH moved AS (DELETE FROM perdure.%I WHERE %I >= %s AND %I < %s RETURNING *) INSERT INTO perdure.%I SELECT * FROM moved',
            wanted.parent || '_default', wanted.column_name, wanted.low, wanted.column_name, wanted.high, wanted.name);
        EXECUTE format('ALTER TABLE perdure.%I ATTACH PARTITION perdure.%I FOR VALUES FROM (%s) TO (%s)',
            wanted.parent, wanted.name, wanted.low, wanted.high);
        made := made + 1;
    END LOOP;
    RETURN made;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.may_claim(worker uuid)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
DECLARE
    found record;
BEGIN
    SELECT w.state, w.suspected_at, w.claim_share INTO found FROM perdure.workers w WHERE w.id = worker;
    IF found.state IN ('active', 'draining') THEN
        RETURN found.state = 'active' AND found.suspected_at IS NULL AND found.claim_share > 0;
    END IF;
    RAISE EXCEPTION 'worker % is % and may not claim', worker, coalesce(found.state::text, 'unknown') USING ERRCODE = 'PD006';
END $function$
;

CREATE OR REPLACE FUNCTION perdure.merge_saved(cuts pg_snapshot[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    of_table text;
    names text;
BEGIN
    CREATE TEMP TABLE saved_places ON COMMIT DROP AS
        SELECT DISTINCT ON (p.job_id) p.job_id, p.generation FROM (
            SELECT job_id, generation FROM saved_available_jobs UNION ALL SELECT job_id, generation FROM saved_parked_jobs
            UNION ALL SELECT job_id, generation FROM saved_scheduled_jobs UNION ALL SELECT job_id, generation FROM saved_blocked_jobs
            UNION ALL SELECT job_id, generation FROM saved_leases
        ) p ORDER BY p.job_id, p.generation DESC;
    DELETE FROM saved_places p USING perdure.job_executions e
        WHERE e.job_id = p.job_id AND NOT perdure.seen(e.settle_xid, cuts[p.generation]);
    CREATE UNIQUE INDEX ON saved_places (job_id);
    ANALYZE saved_places;
    FOREACH of_table IN ARRAY ARRAY['available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases'] LOOP
        SELECT string_agg(format('%I', f.attname), ', ') INTO names FROM pg_attribute f
            WHERE f.attrelid = format('perdure.%I', of_table)::regclass AND f.attnum > 0 AND NOT f.attisdropped;
        EXECUTE format('INSERT INTO perdure.%1$I (%2$s) SELECT %2$s FROM saved_%1$s s JOIN saved_places p USING (job_id, generation)',
            of_table, names);
    END LOOP;
    ALTER TABLE saved_dead_letter_queue RENAME TO saved_letters;
    INSERT INTO perdure.dead_letter_queue (job_id, dead_at, xid, lane, run, attempt, crashes, interruptions, outcome, fingerprint, cause, error)
        SELECT DISTINCT ON (s.job_id) s.job_id, s.dead_at, s.xid, s.lane, s.run, s.attempt, s.crashes, s.interruptions, s.outcome,
            s.fingerprint, s.cause, s.error
        FROM saved_letters s
        WHERE NOT EXISTS (SELECT FROM saved_places p WHERE p.job_id = s.job_id)
            AND NOT EXISTS (SELECT FROM perdure.job_executions e WHERE e.job_id = s.job_id AND NOT perdure.seen(e.settle_xid, cuts[s.generation]))
            AND NOT EXISTS (SELECT FROM perdure.job_events v WHERE v.job_id = s.job_id AND v.event = 'dead_letter_discarded'
                AND NOT perdure.seen(v.xid, cuts[s.generation]))
        ORDER BY s.job_id, s.generation DESC;
    INSERT INTO perdure.job_dependencies (child_id, parent_id, on_failure, state)
        SELECT DISTINCT ON (s.child_id, s.parent_id) s.child_id, s.parent_id, s.on_failure, s.state FROM saved_job_dependencies s
        ORDER BY s.child_id, s.parent_id, s.generation DESC;
    INSERT INTO perdure.unique_keys (key, job_id, states, expires_at)
        SELECT DISTINCT ON (s.key) s.key, s.job_id, s.states, s.expires_at FROM saved_unique_keys s ORDER BY s.key, s.generation DESC;
    DELETE FROM perdure.unique_keys u
        WHERE NOT EXISTS (SELECT FROM perdure.standing(u.job_id) s WHERE perdure.counts_in(u.states, s.state));
END $function$
;

CREATE OR REPLACE FUNCTION perdure.missing_partitions(ahead integer)
 RETURNS TABLE(parent text, name text, day timestamp with time zone)
 LANGUAGE sql
 STABLE
AS $function$
    WITH today AS (
        SELECT date_trunc('day', now() AT TIME ZONE 'UTC') AS day
    ), wanted AS (
        SELECT t.parent, n.day
        FROM today CROSS JOIN unnest(ARRAY['jobs', 'job_executions', 'job_events', 'worker_samples']) AS t (parent)
        CROSS JOIN generate_series(today.day - interval '1 day', today.day + ahead * interval '1 day', interval '1 day') AS n (day)
        UNION
        SELECT 'jobs', date_trunc('day', perdure.made_at(j.id) AT TIME ZONE 'UTC') FROM perdure.jobs_default j
        UNION
        SELECT 'job_executions', date_trunc('day', e.settled_at AT TIME ZONE 'UTC') FROM perdure.job_executions_default e
        UNION
        SELECT 'job_events', date_trunc('day', e.at AT TIME ZONE 'UTC') FROM perdure.job_events_default e
        UNION
        SELECT 'worker_samples', date_trunc('day', s.at AT TIME ZONE 'UTC') FROM perdure.worker_samples_default s
    )
    SELECT w.parent, n.name, w.day AT TIME ZONE 'UTC'
    FROM wanted w CROSS JOIN today CROSS JOIN LATERAL (SELECT format('%s_%s', w.parent, to_char(w.day, 'YYYYMMDD')) AS name) n
    WHERE w.day BETWEEN today.day - interval '10 years' AND today.day + ahead * interval '1 day'
        AND NOT EXISTS (SELECT FROM perdure.day_partitions d WHERE d.parent = w.parent AND d.name = n.name)
    ORDER BY w.day, w.parent
$function$
;

CREATE OR REPLACE FUNCTION perdure.new_job_id()
 RETURNS uuid
 LANGUAGE sql
RETURN (((lpad(to_hex(((EXTRACT(epoch FROM clock_timestamp()) * (1000)::numeric))::bigint), 12, '0'::text) || '7'::text) || substr(replace((gen_random_uuid())::text, '-'::text, ''::text), 14)))::uuid
;

CREATE OR REPLACE FUNCTION perdure.next_ended_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS SETOF perdure.job_executions
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    SELECT DISTINCT ON (e.job_id) e.* FROM perdure.job_executions e
    WHERE e.settled_at >= open_since AND e.job_id <= newest AND NOT perdure.seen(e.settle_xid, cut)
    ORDER BY e.job_id, e.run, e.settled_at, e.settle_xid
$function$
;

CREATE OR REPLACE FUNCTION perdure.number_fits(value numeric, comparison text, numbers numeric[])
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE comparison WHEN '='::text THEN (value = ANY (numbers)) WHEN '>='::text THEN (value >= ANY (numbers)) WHEN '<='::text THEN (value <= ANY (numbers)) WHEN '>'::text THEN (value > ANY (numbers)) WHEN '<'::text THEN (value < ANY (numbers)) ELSE NULL::boolean END
;

CREATE OR REPLACE FUNCTION perdure.obstacle(tables regclass[])
 RETURNS text
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN 'needs the isolation level read committed, to see what others did while it waited for its locks';
    ELSIF NOT pg_try_advisory_xact_lock(hashtextextended('perdure upkeep ' || 'perdure.jobs'::regclass::oid, 0)) THEN
        RETURN 'another process is at it';
    END IF;
    RETURN (
        SELECT format('a transaction of process %s has held %s for more than a second', coalesce(l.pid::text, '(prepared)'), l.relation::regclass)
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.relation = ANY (tables) AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
            AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
            AND (l.pid IS NULL OR a.xact_start < clock_timestamp() - interval '1 second')
            AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
        ORDER BY a.xact_start LIMIT 1
    );
END $function$
;

CREATE OR REPLACE FUNCTION perdure.open_epoch(seen integer, cause text, opener text, adopter text, reason text)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    opened integer;
    freed integer;
BEGIN
    LOCK TABLE perdure.epochs IN EXCLUSIVE MODE;
    IF perdure.epoch_now() > seen THEN
        RETURN perdure.epoch_now();
    END IF;
    -- Before the lock on the leases, so that whoever registers or claims at this moment is either seen here or sees the epoch.
    INSERT INTO perdure.epochs (number, cause, opened_by, adopted_at, adopted_by, reason)
        VALUES (perdure.epoch_now() + 1, cause, opener, CASE WHEN adopter IS NOT NULL THEN now() END, adopter, reason)
        RETURNING number INTO opened;
    LOCK TABLE perdure.workers IN SHARE ROW EXCLUSIVE MODE;
    UPDATE perdure.workers w SET state = 'dead', stopped_at = now(), cause = format('epoch %s: %s', opened, open_epoch.cause)
        WHERE w.state IN ('active', 'draining');
    LOCK TABLE perdure.leases IN SHARE ROW EXCLUSIVE MODE;
    WITH gone AS (
        DELETE FROM perdure.leases RETURNING *
    ), history AS (
        INSERT INTO perdure.job_executions (job_id, token, worker_id, process, isolated, lane, run, attempt, crashes, interruptions, slot,
            concurrency_key, outcome, state, available_at, claimed_at, available_xid, claim_xid, cause)
        SELECT g.job_id, g.token, g.worker_id, g.process, g.isolated, g.lane, g.run, g.attempt, g.crashes, g.interruptions, g.slot,
            g.concurrency_key, 'released', 'available', g.available_at, g.claimed_at, g.available_xid, g.claim_xid,
            format('given back when epoch %s opened', opened)
        FROM gone g
    )
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, attempt, crashes, interruptions, suspicion, gated, returned_key)
    SELECT g.job_id, g.rank, g.lane, g.band, g.run, g.attempt - 1, g.crashes, g.interruptions, g.suspicion,
        j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true), j.concurrency_key
    FROM gone g JOIN perdure.jobs j ON j.id = g.job_id;
    GET DIAGNOSTICS freed = ROW_COUNT;
    -- A job that is available again counts for a unique key that it had let go when it started, where nobody has taken the key meanwhile.
    INSERT INTO perdure.unique_keys (key, job_id, states, expires_at)
        SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, j.unique_until
        FROM perdure.job_executions e JOIN perdure.jobs j ON j.id = e.job_id
        WHERE e.settled_at = now() AND e.settle_xid = pg_current_xact_id() AND j.unique_key IS NOT NULL AND perdure.counts_in(j.unique_states, 'available')
            AND (j.unique_until IS NULL OR j.unique_until > now())
        ORDER BY j.unique_key, j.id
        ON CONFLICT (key) DO NOTHING;
    UPDATE perdure.epochs e SET released = freed WHERE e.number = opened;
    INSERT INTO perdure.job_events (event, actor, reason, detail)
        VALUES ('epoch_opened', opener, cause, jsonb_build_object('epoch', opened, 'released', freed));
    RETURN opened;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.plain_standings_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(job_id uuid, lane integer, state perdure.job_state, since timestamp with time zone)
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    WITH ended AS MATERIALIZED (
        SELECT e.job_id, e.lane, CASE WHEN perdure.seen(e.claim_xid, cut) THEN 'running' WHEN perdure.seen(e.available_xid, cut) THEN 'available'
            END::perdure.job_state AS state, e.claimed_at, e.available_at
        FROM perdure.next_ended_at(cut, newest, open_since) e
    ), there AS (
        SELECT l.job_id, l.lane, CASE WHEN perdure.seen(l.claim_xid, cut) THEN 'running' WHEN perdure.seen(l.available_xid, cut) THEN 'available'
            END::perdure.job_state AS state, CASE WHEN perdure.seen(l.claim_xid, cut) THEN l.claimed_at ELSE l.available_at END AS since
        FROM perdure.leases l WHERE l.job_id <= newest
        UNION ALL
        SELECT a.job_id, a.lane, CASE WHEN perdure.seen(a.xid, cut) THEN 'available'::perdure.job_state END, a.available_at
        FROM perdure.available_jobs a WHERE a.job_id <= newest
        UNION ALL
        SELECT p.job_id, p.lane, CASE WHEN perdure.seen(p.xid, cut) THEN 'available'::perdure.job_state END, p.available_at
        FROM perdure.parked_jobs p WHERE p.job_id <= newest
        UNION ALL
        SELECT s.job_id, s.lane, CASE WHEN perdure.seen(s.xid, cut)
            THEN CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END::perdure.job_state END, s.since
        FROM perdure.scheduled_jobs s WHERE s.job_id <= newest
        UNION ALL
        SELECT b.job_id, b.lane, CASE WHEN perdure.seen(b.xid, cut) THEN 'pending'::perdure.job_state END, b.since
        FROM perdure.blocked_jobs b WHERE b.job_id <= newest
    )
    SELECT e.job_id, e.lane, e.state, CASE WHEN e.state = 'running' THEN e.claimed_at ELSE e.available_at END FROM ended e
    UNION ALL
    SELECT t.job_id, t.lane, t.state, t.since FROM there t WHERE NOT EXISTS (SELECT FROM ended e WHERE e.job_id = t.job_id)
$function$
;

CREATE OR REPLACE FUNCTION perdure.queues_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(name text, paused_at timestamp with time zone, paused_by text, xid xid8)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT q.name, CASE WHEN t.paused THEN coalesce(b.at, q.paused_at) END, CASE WHEN t.paused THEN coalesce(b.actor, q.paused_by) END, q.xid
    FROM perdure.queues q
    LEFT JOIN LATERAL (
        SELECT v.at, v.actor FROM perdure.job_events v
        WHERE v.queue = q.name AND v.event = 'queue_paused' AND perdure.seen(v.xid, cut) ORDER BY v.at DESC LIMIT 1
    ) b ON true
    CROSS JOIN LATERAL (
        SELECT (q.paused_at IS NOT NULL)::integer
            - (count(*) FILTER (WHERE v.event = 'queue_paused') - count(*) FILTER (WHERE v.event = 'queue_resumed')) = 1 AS paused
        FROM perdure.job_events v
        WHERE v.queue = q.name AND v.event IN ('queue_paused', 'queue_resumed') AND NOT perdure.seen(v.xid, cut)
    ) t
    WHERE perdure.seen(q.xid, cut)
$function$
;

CREATE OR REPLACE FUNCTION perdure.rank_of(ready timestamp with time zone, priority smallint)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (((EXTRACT(epoch FROM (ready - '1970-01-01 00:00:00+00'::timestamp with time zone)) * (1000000)::numeric))::bigint - CASE WHEN (priority >= 4) THEN 180000000 WHEN (priority >= 2) THEN 60000000 ELSE 0 END)
;

CREATE OR REPLACE FUNCTION perdure.read_jobs(jobs jsonb)
 RETURNS TABLE(ordinal bigint, id uuid, queue text, kind text, args jsonb, priority smallint, max_attempts smallint, timeout_ms integer, labels text[], run_at timestamp with time zone, parents jsonb, inherit_priority boolean, unique_key text, unique_states smallint, unique_for_ms bigint, concurrency_key text, concurrency_limit smallint, crash_limit smallint, metadata jsonb)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT r.ordinal, r.id, coalesce(r.queue, 'default'), r.kind, coalesce(r.args, '{}'), coalesce(r.priority, 3::smallint),
        coalesce(r.max_attempts, 4::smallint), CASE WHEN r.timeout_ms = 0 THEN NULL ELSE coalesce(r.timeout_ms, 300000) END,
        coalesce(r.labels, '{}'), coalesce(r.run_at, now() + r.delay_ms * interval '1 millisecond'),
        CASE WHEN jsonb_array_length(r.parents) > 0 THEN r.parents END, coalesce(r.inherit_priority, true),
        r.unique_key, CASE WHEN r.unique_key IS NOT NULL THEN coalesce(r.unique_states, 31::smallint) END, r.unique_for_ms,
        r.concurrency_key, CASE WHEN r.concurrency_key IS NOT NULL THEN coalesce(r.concurrency_limit, 1::smallint) END,
        r.crash_limit, r.metadata
    FROM ROWS FROM (jsonb_to_recordset(jobs) AS (
        id uuid, queue text, kind text, args jsonb, priority smallint, max_attempts smallint, timeout_ms integer,
        labels text[], run_at timestamptz, delay_ms bigint, parents jsonb, inherit_priority boolean, unique_key text,
        unique_states smallint, unique_for_ms bigint, concurrency_key text, concurrency_limit smallint,
        crash_limit smallint, metadata jsonb
    )) WITH ORDINALITY AS r (
        id, queue, kind, args, priority, max_attempts, timeout_ms, labels, run_at, delay_ms, parents, inherit_priority,
        unique_key, unique_states, unique_for_ms, concurrency_key, concurrency_limit, crash_limit, metadata, ordinal
    )
$function$
;

CREATE OR REPLACE FUNCTION perdure.read_links(jobs jsonb, OUT ids uuid[], OUT lanes integer[], OUT priorities smallint[], OUT inherits boolean[], OUT holders uuid[], OUT created boolean[], OUT outward boolean[], OUT children integer[], OUT parents uuid[], OUT policies perdure.on_parent_failure[], OUT inner_parents integer[], OUT outer_depths smallint[], OUT outer_priorities smallint[])
 RETURNS record
 LANGUAGE plpgsql
 SET enable_nestloop TO 'off'
AS $function$
DECLARE
    missing uuid;
    key_holders uuid[] := CASE WHEN jobs @? '$[*].unique_key' THEN perdure.take_unique_keys(jobs) END;
BEGIN
    SELECT array_agg(b.id ORDER BY b.n), array_agg(b.lane ORDER BY b.n), array_agg(b.priority ORDER BY b.n),
        array_agg(b.inherit_priority ORDER BY b.n), array_agg(b.holder ORDER BY b.n),
        array_agg(b.holder IS NULL AND NOT b.stored ORDER BY b.n), array_agg(false)
    INTO ids, lanes, priorities, inherits, holders, created, outward
    FROM (
        SELECT j.ordinal AS n, j.id, j.priority, j.inherit_priority,
            (SELECT l.lane FROM perdure.lanes l WHERE l.queue = j.queue AND l.kind = j.kind AND l.labels = j.labels) AS lane,
            key_holders[j.ordinal] AS holder,
            coalesce((SELECT true FROM perdure.jobs s WHERE s.id = j.id), false) AS stored
        FROM perdure.read_jobs(jobs) j
    ) b;
    WITH batch AS MATERIALIZED (
        SELECT u.id, u.holder, u.fresh, u.n FROM unnest(ids, holders, created) WITH ORDINALITY AS u (id, holder, fresh, n)
    ), edges AS (
        SELECT DISTINCT ON (j.ordinal, coalesce(i.holder, p.parent_id)) j.ordinal AS child,
            coalesce(i.holder, p.parent_id) AS parent_id, coalesce(p.on_failure, 'hold') AS on_failure
        FROM perdure.read_jobs(jobs) j
        CROSS JOIN LATERAL jsonb_to_recordset(j.parents) AS p (parent_id uuid, on_failure perdure.on_parent_failure)
        LEFT JOIN batch i ON i.id = p.parent_id
        WHERE created[j.ordinal]
        ORDER BY 1, 2
    ), placed AS (
        SELECT e.*, i.n AS place, CASE WHEN i.n IS NULL THEN
            (SELECT ARRAY[s.depth, s.priority] FROM perdure.jobs s WHERE s.id = e.parent_id) END AS known
        FROM edges e LEFT JOIN batch i ON i.id = e.parent_id AND i.fresh
    )
    SELECT array_agg(p.child ORDER BY p.place NULLS FIRST, p.child), array_agg(p.parent_id ORDER BY p.place NULLS FIRST, p.child),
        array_agg(p.on_failure ORDER BY p.place NULLS FIRST, p.child), array_agg(p.place ORDER BY p.place NULLS FIRST, p.child),
        array_agg(p.known[1] ORDER BY p.place NULLS FIRST, p.child), array_agg(p.known[2] ORDER BY p.place NULLS FIRST, p.child),
        min(p.parent_id::text) FILTER (WHERE p.place IS NULL AND p.known IS NULL)
    INTO children, parents, policies, inner_parents, outer_depths, outer_priorities, missing
    FROM placed p;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'there is no job % to depend on', missing
            USING ERRCODE = 'PD002', DETAIL = jsonb_build_object('parent_id', missing)::text;
    END IF;
    FOR e IN 1 .. coalesce(array_length(children, 1), 0) LOOP
        EXIT WHEN inner_parents[e] IS NOT NULL;
        outward[children[e]] := true;
    END LOOP;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.recorded_parts(era integer, base pg_snapshot, base_at timestamp with time zone, cut pg_snapshot, cut_at timestamp with time zone, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(name text, columns text[], query text, estimate bigint)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT p.name, p.columns, p.query || CASE p.name
        WHEN 'moments' THEN format(' AND t.at <= %L', cut_at)
        WHEN 'job_executions' THEN format(' AND perdure.seen(t.settle_xid, %L)', cut)
        ELSE format(' AND perdure.seen(t.xid, %L)', cut) END, p.estimate
    FROM perdure.saved_parts(era, base, base_at) p
    WHERE p.name IN ('jobs', 'job_executions', 'job_events', 'worker_history', 'moments')
    UNION ALL
    (SELECT u.of_table, a.names, format('SELECT %s FROM perdure.%I(%L, %L, %L) t', a.saved, u.of_table || '_at', cut, newest, open_since), 10000
    FROM unnest(ARRAY['available_jobs', 'blocked_jobs', 'dead_letter_queue', 'job_dependencies', 'leases', 'queues', 'scheduled_jobs',
        'unique_keys', 'workers', 'lanes']) WITH ORDINALITY AS u (of_table, place)
    JOIN pg_proc f ON f.oid = format('perdure.%I', u.of_table || '_at')::regproc
    CROSS JOIN LATERAL (
        SELECT array_agg(c.name ORDER BY c.place) AS names, string_agg(CASE WHEN c.type = 'xid8'::regtype
            THEN format('perdure.aged(t.%I, %s)', c.name, era) ELSE format('t.%I', c.name) END, ', ' ORDER BY c.place) AS saved
        FROM unnest(f.proargnames, f.proargmodes, f.proallargtypes) WITH ORDINALITY AS c (name, mode, type, place) WHERE c.mode = 't'
    ) a
    ORDER BY u.place)
$function$
;

CREATE OR REPLACE FUNCTION perdure.refuse_circle(ids uuid[], children integer[], inner_parents integer[], left_over integer[])
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
DECLARE
    parent_of integer[] := array_fill(NULL::integer, ARRAY[array_length(ids, 1)]);
    path integer[];
    n integer;
BEGIN
    FOR e IN 1 .. array_length(children, 1) LOOP
        IF left_over[inner_parents[e]] > 0 THEN
            parent_of[children[e]] := inner_parents[e];
            n := children[e];
        END IF;
    END LOOP;
    WHILE array_position(path, n) IS NULL LOOP
        path := array_append(path, n);
        n := parent_of[n];
    END LOOP;
    path := path[array_position(path, n):] || n;
    RAISE EXCEPTION 'the dependencies run in a circle' USING ERRCODE = 'PD005', DETAIL = (
        SELECT jsonb_build_object('job_ids', jsonb_agg(ids[p.n] ORDER BY p.at DESC))::text FROM unnest(path) WITH ORDINALITY AS p (n, at)
    );
END $function$
;

CREATE OR REPLACE FUNCTION perdure.refuse_job(jobs jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    bad record;
BEGIN
    SELECT j.ordinal, c.field, c.why INTO bad
    FROM perdure.read_jobs(jobs) j
    CROSS JOIN LATERAL (VALUES
        (j.kind IS NULL OR length(j.kind) NOT BETWEEN 1 AND 200, 'kind', 'must be a name of 1 to 200 characters'),
        (length(j.queue) NOT BETWEEN 1 AND 200, 'queue', 'must be a name of 1 to 200 characters'),
        (jsonb_typeof(j.args) <> 'object', 'args', 'must be a JSON object'),
        (j.priority NOT BETWEEN 1 AND 5, 'priority', 'must be between 1 and 5'),
        (j.max_attempts < 1, 'max_attempts', 'must be at least 1'),
        (j.timeout_ms NOT BETWEEN 0 AND 2073600000, 'timeout_ms', 'must be at most 2073600000 (24 days), or 0 for none'),
        (j.crash_limit < 1, 'crash_limit', 'must be at least 1'),
        (j.concurrency_limit < 1, 'concurrency_limit', 'must be at least 1'),
        (length(j.concurrency_key) NOT BETWEEN 1 AND 500, 'concurrency_key', 'must have 1 to 500 characters'),
        (length(j.unique_key) NOT BETWEEN 1 AND 500, 'unique_key', 'must have 1 to 500 characters'),
        (j.unique_states & 23 <> 23, 'unique_states', 'must count pending, scheduled, available and retryable'),
        (array_position(j.labels, NULL) IS NOT NULL, 'labels', 'must not hold null'),
        (NOT isfinite(j.run_at), 'run_at', 'must be a moment'),
        (j.id IS NULL OR substr(j.id::text, 15, 1) <> '7' OR j.id NOT BETWEEN perdure.id_floor(now() - interval '1 day')
            AND perdure.id_floor(now() + interval '1 day'), 'id', 'must be a version 7 UUID made within a day of the database''s time')
    ) AS c (wrong, field, why)
    WHERE c.wrong ORDER BY j.ordinal LIMIT 1;
    RAISE EXCEPTION 'job %: % %', bad.ordinal, bad.field, bad.why
        USING ERRCODE = 'PD004', DETAIL = jsonb_build_object('field', bad.field, 'why', bad.why)::text;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.require_adopted()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE
    why text := perdure.halted_by();
BEGIN
    IF why IS NOT NULL THEN
        RAISE EXCEPTION '%', why USING ERRCODE = 'PD007';
    END IF;
    RETURN NEW;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.require_lineage(remembered_epoch integer, remembered uuid, remembered_mark bigint)
 RETURNS void
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF perdure.halted_by() IS NOT NULL THEN
        RAISE EXCEPTION '%', perdure.halted_by() USING ERRCODE = 'PD007';
    ELSIF perdure.epoch_now() <= remembered_epoch AND NOT EXISTS (
        SELECT FROM perdure.stretches s WHERE s.id = remembered AND s.mark >= remembered_mark
    ) THEN
        RAISE EXCEPTION 'the database has gone back in time' USING ERRCODE = 'PD007';
    END IF;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.resolve_blocked(children uuid[], most integer DEFAULT NULL::integer)
 RETURNS TABLE(lane integer, band smallint, rank bigint, job_id uuid)
 LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    seen pg_snapshot := pg_current_snapshot();
    oldest integer;
    ended record;
BEGIN
    -- Before this transaction gets an id, or one that has just let its snapshot go could have a later one.
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        SELECT coalesce(max(age(a.backend_xmin)), -1) INTO oldest FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker';
    END IF;
    IF children IS NULL THEN
        children := ARRAY(
            SELECT b.job_id FROM perdure.blocked_jobs b WHERE NOT b.verified AND b.look_at <= now()
            ORDER BY b.look_at LIMIT most FOR UPDATE SKIP LOCKED
        );
    END IF;
    FOR ended IN
        SELECT e.state, array_agg(e.job_id) AS ids
        FROM perdure.endings(ARRAY(
            SELECT DISTINCT d.parent_id FROM perdure.job_dependencies d
            WHERE d.child_id = ANY (children) AND d.state = 'waiting'
        )) e GROUP BY e.state
    LOOP
        RETURN QUERY SELECT * FROM perdure.settle_edges(ended.ids, ended.state, children);
    END LOOP;
    UPDATE perdure.blocked_jobs b SET verified = coalesce(b.looked_xid <= pg_snapshot_xmin(seen), false),
        looked_xid = coalesce(b.looked_xid, CASE WHEN age(b.xid::xid) > oldest THEN pg_current_xact_id() END),
        look_at = now() + greatest(now() - b.since, interval '1 second')
    WHERE b.job_id = ANY (children) AND NOT b.verified AND b.xid <> pg_current_xact_id();
END $function$
;

CREATE OR REPLACE FUNCTION perdure.restore_cases(cut pg_snapshot, newest uuid, open_since timestamp with time zone, of_lanes integer[], of_jobs uuid[])
 RETURNS TABLE(job_id uuid, circumstance text, state_then perdure.job_state, state_now perdure.job_state, run_now smallint)
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    WITH stood AS MATERIALIZED (
        SELECT s.job_id, s.state FROM perdure.standings_at(cut, newest, open_since) s
        WHERE of_jobs IS NULL AND (of_lanes IS NULL OR s.lane = ANY (of_lanes))
        UNION ALL
        SELECT j.id, s.state FROM unnest(of_jobs) AS u (id)
        JOIN perdure.jobs j ON j.id = u.id AND perdure.seen(j.xid, cut)
        CROSS JOIN LATERAL perdure.standing_at(j.id, cut) s
    ), fresh AS MATERIALIZED (
        -- No id is more than a day older than the transaction that wrote it, and none of those was open before `open_since`.
        SELECT j.id FROM perdure.jobs j
        WHERE of_jobs IS NULL AND (of_lanes IS NULL OR j.lane = ANY (of_lanes)) AND NOT perdure.seen(j.xid, cut)
            AND j.id >= CASE WHEN open_since > '1971-01-01' THEN perdure.id_floor(open_since - interval '1 day')
                ELSE '00000000-0000-0000-0000-000000000000' END
        UNION ALL
        SELECT j.id FROM unnest(of_jobs) AS u (id) JOIN perdure.jobs j ON j.id = u.id AND NOT perdure.seen(j.xid, cut)
    )
    SELECT b.job_id, CASE
        WHEN b.state IS NULL AND n.state IN ('pending', 'scheduled', 'retryable', 'available') AND NOT EXISTS (
            SELECT FROM perdure.job_executions e WHERE e.job_id = b.job_id AND e.token IS NOT NULL) THEN 'created_since'
        WHEN b.state IS NULL THEN 'started_since'
        WHEN b.state IN ('completed', 'cancelled', 'discarded') THEN
            CASE WHEN n.state IN ('completed', 'cancelled', 'discarded') THEN 'ended'
                WHEN n.state = 'running' THEN 'started_again' ELSE 'reopened_since' END
        WHEN n.state = 'completed' THEN 'completed_since'
        WHEN n.state = 'discarded' THEN 'failed_since'
        WHEN n.state = 'cancelled' THEN 'cancelled_since'
        WHEN n.state = 'running' AND b.state = 'running' AND perdure.seen(l.claim_xid, cut) THEN 'same_lease'
        WHEN n.state = 'running' THEN 'running_now'
        ELSE 'still_live' END, b.state, n.state, n.run
    FROM (SELECT s.job_id, s.state FROM stood s UNION ALL SELECT f.id, NULL FROM fresh f) b
    CROSS JOIN LATERAL perdure.standing(b.job_id) n
    LEFT JOIN perdure.leases l ON l.job_id = b.job_id
$function$
;

CREATE OR REPLACE FUNCTION perdure.restore_choices(of_restore uuid)
 RETURNS TABLE(job_id uuid, circumstance text, action text, state_then perdure.job_state, state_now perdure.job_state, run_now smallint)
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    SELECT c.job_id, c.circumstance, CASE
        WHEN c.circumstance = 'completed_since' AND r.policy ->> 'completed_since' = 'rerun' AND NOT EXISTS (
            SELECT FROM perdure.jobs j JOIN perdure.lanes n ON n.lane = j.lane WHERE j.id = c.job_id AND n.kind = ANY (r.rerun_kinds)
        ) THEN 'keep' ELSE coalesce(r.policy ->> c.circumstance, 'keep') END, c.state_then, c.state_now, c.run_now
    FROM perdure.restores r
    CROSS JOIN LATERAL perdure.restore_cases(r.cut, r.newest, r.open_since, r.lanes, r.jobs) c
    WHERE r.id = of_restore
$function$
;

CREATE OR REPLACE FUNCTION perdure.restore_moved(of_restore uuid, OUT moved bigint, OUT sample uuid[])
 RETURNS record
 LANGUAGE sql
 STABLE
AS $function$
    WITH planned AS (
        SELECT i.job_id, i.action, i.run_now FROM perdure.restore_items i WHERE i.restore_id = of_restore
    ), apart AS (
        SELECT coalesce(c.job_id, p.job_id) AS job_id
        FROM (
            SELECT * FROM perdure.restore_choices(of_restore) c WHERE c.action NOT IN ('keep', 'leave', 'drain', 'fence')
        ) c
        FULL JOIN planned p ON p.job_id = c.job_id
        WHERE coalesce(p.action, '') NOT IN ('drain', 'fence') AND (c.action, c.run_now) IS DISTINCT FROM (p.action, p.run_now)
    )
    SELECT count(*), (array_agg(a.job_id ORDER BY a.job_id))[1:20] FROM apart a
$function$
;

CREATE OR REPLACE FUNCTION perdure.restored_since(since pg_snapshot)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
    SELECT EXISTS (SELECT FROM perdure.restores r WHERE r.before IS NOT NULL AND NOT coalesce(perdure.seen(r.end_xid, since), false))
$function$
;

CREATE OR REPLACE FUNCTION perdure.saved_parts(era integer, base pg_snapshot, base_at timestamp with time zone)
 RETURNS TABLE(name text, columns text[], query text, estimate bigint)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT c.relname::text, a.names, format('SELECT %s FROM perdure.%I t WHERE %s', a.saved, c.relname, CASE
        WHEN base IS NULL THEN 'true'
        WHEN c.relname IN ('jobs', 'job_events', 'worker_history') THEN format('NOT perdure.seen(t.xid, %L)', base)
        WHEN c.relname = 'job_executions' THEN format('NOT perdure.seen(t.settle_xid, %L)', base)
        WHEN c.relname = 'moments' THEN format('t.at > %L', base_at)
        WHEN c.relname IN ('available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases', 'dead_letter_queue',
            'job_dependencies', 'unique_keys') THEN format(
                'CASE WHEN t.xmin::text::bigint >= %s THEN %s ELSE %s END + t.xmin::text::bigint >= %s',
                n.next & 4294967295, (n.next >> 32 << 32) - 4294967296, n.next >> 32 << 32, perdure.in_order(pg_snapshot_xmin(base)))
        ELSE 'true' END),
        (SELECT sum(greatest(p.reltuples, 0))::bigint FROM pg_class p WHERE p.oid = c.oid OR p.oid IN (
            SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid))
    FROM pg_class c
    CROSS JOIN (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) n
    CROSS JOIN LATERAL (
        SELECT array_agg(f.attname::text ORDER BY f.attnum) AS names, string_agg(CASE
            WHEN f.atttypid = 'xid8'::regtype THEN format('perdure.aged(t.%I, %s)', f.attname, era)
            WHEN f.atttypid = 'pg_snapshot'::regtype THEN format('perdure.aged_cut(t.%I, %s)', f.attname, era)
            WHEN c.relname = 'job_events' AND f.attname = 'detail' THEN format('perdure.aged_detail(t.%I, %s)', f.attname, era)
            ELSE format('t.%I', f.attname) END, ', ' ORDER BY f.attnum) AS saved
        FROM pg_attribute f WHERE f.attrelid = c.oid AND f.attnum > 0 AND NOT f.attisdropped AND f.attgenerated = ''
    ) a
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND c.relnamespace = (SELECT j.relnamespace FROM pg_class j WHERE j.oid = 'perdure.jobs'::regclass)
        AND c.relname NOT IN ('migrations', 'installation', 'leaders', 'cancel_requests', 'job_progress')
    -- Tables that refer to others come after them.
    ORDER BY EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'), c.relname
$function$
;

CREATE OR REPLACE FUNCTION perdure.scheduled_jobs_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(job_id uuid, run_at timestamp with time zone, since timestamp with time zone, xid xid8, lane integer, priority smallint, run smallint, attempt smallint, crashes smallint, interruptions smallint, retry boolean, gated boolean)
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    SELECT s.job_id, s.run_at, s.since, s.xid, s.lane, s.priority, s.run, s.attempt, s.crashes, s.interruptions, s.retry, s.gated
    FROM perdure.scheduled_jobs s WHERE s.job_id <= newest AND perdure.seen(s.xid, cut)
    UNION ALL
    SELECT u.job_id, coalesce(u.run_at, u.since), u.since, perdure.waited_since(u.job_id, u.run, cut), j.lane, j.priority, u.run, u.attempt,
        u.crashes, u.interruptions, u.state = 'retryable',
        j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true)
    FROM perdure.looked_up_at(cut, newest, open_since) u
    JOIN perdure.jobs j ON j.id = u.job_id
    WHERE u.state IN ('scheduled', 'retryable')
$function$
;

CREATE OR REPLACE FUNCTION perdure.seen(xid xid8, cut pg_snapshot)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (pg_snapshot_xmin(cut) < '281474976710656'::xid8) THEN ((xid >= '281474976710656'::xid8) OR pg_visible_in_snapshot(xid, cut)) ELSE ((xid >= '281474976710656'::xid8) AND pg_visible_in_snapshot(xid, cut)) END
;

CREATE OR REPLACE FUNCTION perdure.settle_edges(parents uuid[], ended perdure.job_state, among uuid[] DEFAULT NULL::uuid[])
 RETURNS TABLE(lane integer, band smallint, rank bigint, job_id uuid)
 LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    freed uuid[];
    doomed uuid[];
BEGIN
    WITH edges AS (
        UPDATE perdure.job_dependencies d
        SET state = CASE WHEN ended = 'completed' OR d.on_failure = 'run' THEN 'satisfied' ELSE 'cancelled' END
            ::perdure.edge_state
        WHERE d.parent_id = ANY (parents) AND d.state = 'waiting' AND (among IS NULL OR d.child_id = ANY (among))
            AND (ended = 'completed' OR d.on_failure <> 'hold')
        RETURNING d.child_id, d.state
    )
    SELECT array_agg(child_id ORDER BY child_id) FILTER (WHERE state = 'satisfied'),
           array_agg(DISTINCT child_id) FILTER (WHERE state = 'cancelled')
    INTO freed, doomed FROM edges;

    IF doomed IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM perdure.blocked_jobs b WHERE b.job_id = ANY (doomed)
            RETURNING b.job_id, b.lane, b.run
        ), history AS (
            INSERT INTO perdure.job_executions (job_id, lane, run, attempt, crashes, interruptions, outcome, state, cause)
            SELECT g.job_id, g.lane, g.run, 0, 0, 0, 'cancelled', 'cancelled', 'a parent ended ' || ended FROM gone g
        ), keys AS (
            DELETE FROM perdure.unique_keys u USING gone g
            WHERE u.job_id = g.job_id AND NOT perdure.counts_in(u.states, 'cancelled')
        )
        SELECT array_agg(g.job_id) INTO doomed FROM gone g;
        IF doomed IS NOT NULL THEN
            RETURN QUERY SELECT * FROM perdure.settle_edges(doomed, 'cancelled');
        END IF;
    END IF;

    IF freed IS NULL THEN
        RETURN;
    END IF;
    -- Locked in one order everywhere, so that parents that end together cannot deadlock on shared children.
    PERFORM FROM perdure.blocked_jobs b WHERE b.job_id = ANY (freed) ORDER BY b.job_id FOR UPDATE;
    UPDATE perdure.blocked_jobs b SET waiting = b.waiting - f.edges
    FROM (SELECT child_id, count(*) AS edges FROM unnest(freed) AS child_id GROUP BY child_id) f
    WHERE b.job_id = f.child_id;
    RETURN QUERY
    WITH ready AS (
        DELETE FROM perdure.blocked_jobs b WHERE b.job_id = ANY (freed) AND b.waiting = 0
        RETURNING b.*
    ), later AS (
        INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority, run, gated)
        SELECT r.job_id, r.run_at, r.lane, r.priority, r.run, r.gated FROM ready r WHERE r.run_at > now()
    )
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, gated)
    SELECT r.job_id, perdure.rank_of(now(), r.priority), r.lane, perdure.band_of(r.priority, 0::smallint), r.run, r.gated
    FROM ready r WHERE r.run_at IS NULL OR r.run_at <= now()
    RETURNING available_jobs.lane, available_jobs.band, available_jobs.rank, available_jobs.job_id;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.stage_saved()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    of_table text;
BEGIN
    FOREACH of_table IN ARRAY ARRAY['available_jobs', 'parked_jobs', 'scheduled_jobs', 'blocked_jobs', 'leases', 'dead_letter_queue',
        'job_dependencies', 'unique_keys'] LOOP
        EXECUTE format('CREATE TEMP TABLE saved_%1$s (LIKE perdure.%1$I INCLUDING DEFAULTS,
            generation integer NOT NULL DEFAULT current_setting(''restore.generation'')::integer) ON COMMIT DROP', of_table);
    END LOOP;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.standing(of_job uuid)
 RETURNS TABLE(state perdure.job_state, run smallint, attempt smallint, crashes smallint, interruptions smallint, suspicion smallint, since timestamp with time zone, run_at timestamp with time zone, worker_id uuid, rank bigint, band smallint, parked_for text)
 LANGUAGE sql
 STABLE ROWS 1
AS $function$
    SELECT s.state, s.run, s.attempt, s.crashes, s.interruptions, s.suspicion, s.since, s.run_at, s.worker_id, s.rank, s.band, s.parked_for
    FROM (
        SELECT 1 AS place, 'running'::perdure.job_state AS state, l.run, l.attempt, l.crashes, l.interruptions, l.suspicion,
            l.claimed_at AS since, NULL::timestamptz AS run_at, l.worker_id, l.rank, l.band, NULL::text AS parked_for
        FROM perdure.leases l WHERE l.job_id = of_job
        UNION ALL
        SELECT 2, 'available', a.run, a.attempt, a.crashes, a.interruptions, a.suspicion, a.available_at, NULL, NULL, a.rank, a.band, NULL
        FROM perdure.available_jobs a WHERE a.job_id = of_job
        UNION ALL
        SELECT 3, 'available', p.run, p.attempt, p.crashes, p.interruptions, p.suspicion, p.available_at, NULL, NULL, p.rank, p.band,
            p.concurrency_key
        FROM perdure.parked_jobs p WHERE p.job_id = of_job
        UNION ALL
        SELECT 4, CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END::perdure.job_state, s.run, s.attempt, s.crashes,
            s.interruptions, s.suspicion, s.since, s.run_at, NULL, NULL, NULL, NULL
        FROM perdure.scheduled_jobs s WHERE s.job_id = of_job
        UNION ALL
        SELECT 5, 'pending', b.run, 0::smallint, 0::smallint, 0::smallint, 0::smallint, b.since, b.run_at, NULL, NULL, NULL, NULL
        FROM perdure.blocked_jobs b WHERE b.job_id = of_job
        UNION ALL
        (SELECT 6, e.state, e.run, e.attempt, e.crashes, e.interruptions, 0::smallint, e.settled_at, NULL, e.worker_id, NULL, NULL, NULL
        FROM perdure.job_executions e
        WHERE e.job_id = of_job AND e.state IN ('completed', 'cancelled', 'discarded')
        ORDER BY e.run DESC, e.settled_at DESC LIMIT 1)
    ) s ORDER BY s.place LIMIT 1
$function$
;

CREATE OR REPLACE FUNCTION perdure.standing_at(of_job uuid, cut pg_snapshot)
 RETURNS TABLE(state perdure.job_state, run smallint, attempt smallint, crashes smallint, interruptions smallint, since timestamp with time zone, run_at timestamp with time zone, worker_id uuid, token uuid)
 LANGUAGE plpgsql
 STABLE ROWS 1
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
    last record;
    next record;
BEGIN
    SELECT e.state, e.run, e.attempt, e.crashes, e.interruptions, e.settled_at, e.retry_at, e.worker_id INTO last
    FROM perdure.job_executions e WHERE e.job_id = of_job AND perdure.seen(e.settle_xid, cut)
    ORDER BY e.run DESC, e.settled_at DESC, e.settle_xid DESC LIMIT 1;
    IF last.state = 'completed' THEN
        RETURN QUERY SELECT last.state, last.run, last.attempt, last.crashes, last.interruptions, last.settled_at, NULL::timestamptz,
            last.worker_id, NULL::uuid;
        RETURN;
    END IF;
    SELECT NULL::perdure.job_state AS state, e.run, CASE WHEN e.token IS NULL THEN e.attempt ELSE e.attempt - 1 END::smallint AS attempt,
        e.available_xid, e.claim_xid, NULL::xid8 AS wait_xid, e.available_at, e.claimed_at, NULL::timestamptz AS since,
        NULL::timestamptz AS run_at, e.worker_id, e.token INTO next
    FROM perdure.job_executions e WHERE e.job_id = of_job AND NOT perdure.seen(e.settle_xid, cut)
    ORDER BY e.run, e.settled_at, e.settle_xid LIMIT 1;
    IF next.run IS NULL THEN
        SELECT r.* INTO next FROM perdure.live_row(of_job) r;
    END IF;

    run := next.run;
    attempt := next.attempt;
    IF perdure.seen(next.claim_xid, cut) THEN
        state := 'running';
        since := next.claimed_at;
        attempt := next.attempt + 1;
        worker_id := next.worker_id;
        token := next.token;
    ELSIF perdure.seen(next.available_xid, cut) THEN
        state := 'available';
        since := next.available_at;
    ELSIF next.run = last.run THEN
        state := last.state;
        since := last.settled_at;
        run_at := last.retry_at;
    ELSIF last.run IS NOT NULL THEN
        -- It had ended, unless a later run had been opened and waited for its time.
        SELECT 'scheduled', v.at, v.at + (v.detail ->> 'delay_ms')::bigint * interval '1 millisecond' INTO state, since, run_at
        FROM perdure.job_events v
        WHERE v.job_id = of_job AND v.detail ? 'delay_ms' AND (v.detail ->> 'run')::smallint = next.run AND perdure.seen(v.xid, cut) LIMIT 1;
    ELSIF perdure.seen(next.wait_xid, cut) THEN
        state := next.state;
        since := next.since;
        run_at := next.run_at;
    ELSIF next.run IS NOT NULL THEN
        -- Nothing had ended yet. It waited for its first time, as whoever made it available or cancelled it has written, or for parents.
        SELECT 'scheduled', (v.detail ->> 'scheduled_at')::timestamptz, (v.detail ->> 'run_at')::timestamptz INTO state, since, run_at
        FROM perdure.job_events v
        WHERE v.job_id = of_job AND perdure.seen((v.detail ->> 'scheduled_xid')::xid8, cut) AND NOT perdure.seen(v.xid, cut) LIMIT 1;
        IF NOT FOUND THEN
            state := 'pending';
            SELECT j.enqueued_at INTO since FROM perdure.jobs j WHERE j.id = of_job;
        END IF;
    ELSE
        RETURN;
    END IF;
    IF state IS NULL THEN
        state := last.state;
        run := last.run;
        attempt := last.attempt;
        since := last.settled_at;
        worker_id := last.worker_id;
    END IF;
    crashes := CASE WHEN run = last.run THEN last.crashes ELSE 0 END;
    interruptions := CASE WHEN run = last.run THEN last.interruptions ELSE 0 END;
    RETURN NEXT;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.standings_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(job_id uuid, lane integer, state perdure.job_state, since timestamp with time zone)
 LANGUAGE sql
 STABLE ROWS 100000
AS $function$
    WITH plain AS MATERIALIZED (
        SELECT p.* FROM perdure.plain_standings_at(cut, newest, open_since) p
    )
    SELECT p.job_id, p.lane, p.state, p.since FROM plain p WHERE p.state IS NOT NULL
    UNION ALL
    SELECT p.job_id, j.lane, s.state, s.since
    FROM plain p
    JOIN perdure.jobs j ON j.id = p.job_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL perdure.standing_at(p.job_id, cut) s
    WHERE p.state IS NULL AND s.state <> 'completed'
    UNION ALL
    SELECT d.job_id, j.lane, l.state, l.settled_at
    FROM (
        SELECT DISTINCT e.job_id FROM perdure.job_executions e
        WHERE e.state IN ('cancelled', 'discarded') AND e.job_id <= newest AND perdure.seen(e.settle_xid, cut)
            AND NOT EXISTS (SELECT FROM plain p WHERE p.job_id = e.job_id)
    ) d
    JOIN perdure.jobs j ON j.id = d.job_id AND perdure.seen(j.xid, cut)
    CROSS JOIN LATERAL (
        SELECT x.state, x.settled_at FROM perdure.job_executions x WHERE x.job_id = d.job_id AND perdure.seen(x.settle_xid, cut)
        ORDER BY x.run DESC, x.settled_at DESC, x.settle_xid DESC LIMIT 1
    ) l
    WHERE l.state <> 'completed'
$function$
;

CREATE OR REPLACE FUNCTION perdure.take_turn()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    before CONSTANT text := current_setting('lock_timeout');
BEGIN
    FOR number IN 0..3 LOOP
        IF pg_try_advisory_xact_lock(hashtext('perdure.claim'), (pg_backend_pid() + number) % 4) THEN
            RETURN;
        END IF;
    END LOOP;
    BEGIN
        PERFORM set_config('lock_timeout', '1s', true);
        PERFORM pg_advisory_xact_lock(hashtext('perdure.claim'), pg_backend_pid() % 4);
        PERFORM set_config('lock_timeout', before, true);
    EXCEPTION WHEN lock_not_available THEN
        RETURN;
    END;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.take_unique_keys(jobs jsonb)
 RETURNS uuid[]
 LANGUAGE plpgsql
AS $function$
DECLARE
    holders uuid[];
    unsettled boolean;
BEGIN
    FOR look IN 1 .. 100 LOOP
        DELETE FROM perdure.unique_keys u WHERE u.expires_at <= now() AND u.key = ANY (ARRAY(
            SELECT k.key FROM perdure.read_jobs(jobs) j JOIN perdure.unique_keys k ON k.key = j.unique_key
            WHERE k.expires_at <= now() AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)
            ORDER BY k.key FOR UPDATE OF k
        ));
        INSERT INTO perdure.unique_keys (key, job_id, states, expires_at)
        SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, now() + j.unique_for_ms * interval '1 millisecond'
        FROM perdure.read_jobs(jobs) j
        WHERE j.unique_key IS NOT NULL AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id)
        ORDER BY j.unique_key, j.ordinal
        ON CONFLICT (key) DO NOTHING;
        SELECT array_agg(nullif(f.holder, f.id) ORDER BY f.ordinal), bool_or(f.asks AND f.holder IS NULL) INTO holders, unsettled
        FROM (
            SELECT a.*, CASE WHEN a.asks THEN (
                -- The own row first: a snapshot of the whole transaction may show one that has gone since beside it.
                SELECT u.job_id FROM perdure.unique_keys u WHERE u.key = a.unique_key ORDER BY u.job_id = a.id DESC LIMIT 1
            ) END AS holder
            FROM (
                SELECT j.ordinal, j.id, j.unique_key,
                    j.unique_key IS NOT NULL AND NOT EXISTS (SELECT FROM perdure.jobs b WHERE b.id = j.id) AS asks
                FROM perdure.read_jobs(jobs) j
            ) a
        ) f;
        IF NOT unsettled THEN
            RETURN holders;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'a unique key changed its holder too often meanwhile' USING ERRCODE = 'serialization_failure';
END $function$
;

CREATE OR REPLACE FUNCTION perdure.tell_forgotten(remembered_epoch integer, teller text, enqueued uuid[], succeeded uuid[])
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    told integer;
BEGIN
    IF perdure.epoch_now() <= remembered_epoch THEN
        RETURN 0;
    END IF;
    INSERT INTO perdure.forgotten_jobs (epoch, job_id, lost, remembered_by)
        SELECT perdure.epoch_now(), u.id, 'enqueue', teller FROM unnest(enqueued) AS u (id)
        WHERE NOT EXISTS (SELECT FROM perdure.jobs j WHERE j.id = u.id)
        UNION
        SELECT perdure.epoch_now(), u.id, 'success', teller FROM unnest(succeeded) AS u (id)
        WHERE NOT EXISTS (SELECT FROM perdure.job_executions e WHERE e.job_id = u.id AND e.outcome = 'completed')
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS told = ROW_COUNT;
    RETURN told;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.text_fits(value text, folded boolean, patterns text[])
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN folded THEN (value ~~* ANY (patterns)) ELSE (value ~~ ANY (patterns)) END
;

CREATE OR REPLACE FUNCTION perdure.unique_keys_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(key text, job_id uuid, states smallint, expires_at timestamp with time zone)
 LANGUAGE sql
 STABLE
AS $function$
    WITH standings AS MATERIALIZED (
        SELECT s.job_id, s.state FROM perdure.standings_at(cut, newest, open_since) s
    )
    SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, j.unique_until
    FROM perdure.jobs j
    LEFT JOIN standings s ON s.job_id = j.id
    LEFT JOIN perdure.unique_keys u ON u.key = j.unique_key AND u.job_id = j.id
    WHERE j.unique_key IS NOT NULL AND j.id <= newest AND perdure.seen(j.xid, cut) AND (j.unique_until IS NULL OR j.unique_until > open_since)
        AND perdure.counts_in(j.unique_states, coalesce(s.state, 'completed'))
        AND (coalesce(s.state, 'completed') NOT IN ('completed', 'cancelled', 'discarded') OR (
            EXISTS (SELECT FROM perdure.job_executions e WHERE e.job_id = j.id AND perdure.seen(e.settle_xid, cut))
            AND (perdure.counts_in(j.unique_states, 'running') OR u.job_id IS NOT NULL
                OR (SELECT a.attempt FROM perdure.standing_at(j.id, cut) a) = 0)))
    ORDER BY j.unique_key, u.job_id IS NULL, j.enqueued_at DESC, j.id DESC
$function$
;

CREATE OR REPLACE FUNCTION perdure.unpark(keys text[])
 RETURNS TABLE(lane integer, band smallint, rank bigint, job_id uuid)
 LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
BEGIN
    PERFORM perdure.lock_keys(keys);
    RETURN QUERY
    WITH limits AS (
        SELECT k.key, l.most FROM (SELECT DISTINCT u.key FROM unnest(keys) AS u (key)) k
        CROSS JOIN LATERAL (
            WITH RECURSIVE hop AS (
                (SELECT p.concurrency_limit AS most FROM perdure.parked_jobs p WHERE p.concurrency_key = k.key
                ORDER BY p.concurrency_limit DESC LIMIT 1)
                UNION ALL
                SELECT (SELECT p.concurrency_limit FROM perdure.parked_jobs p WHERE p.concurrency_key = k.key
                    AND p.concurrency_limit < h.most ORDER BY p.concurrency_limit DESC LIMIT 1)
                FROM hop h WHERE h.most IS NOT NULL
            )
            SELECT h.most FROM hop h WHERE h.most IS NOT NULL
        ) l
    ), free AS MATERIALIZED (
        SELECT m.key, ARRAY(
            SELECT n.slot FROM generate_series(1, m.most) AS n (slot)
            WHERE NOT EXISTS (SELECT FROM perdure.leases l WHERE l.concurrency_key = m.key AND l.slot = n.slot) ORDER BY n.slot
        ) AS slots
        FROM (SELECT l.key, max(l.most) AS most FROM limits l GROUP BY l.key) m
    ), contenders AS (
        SELECT l.key, l.most, c.rank, c.job_id FROM limits l JOIN free f ON f.key = l.key
        CROSS JOIN LATERAL (
            SELECT p.rank, p.job_id FROM perdure.parked_jobs p WHERE p.concurrency_key = l.key AND p.concurrency_limit = l.most
            ORDER BY p.rank, p.job_id LIMIT cardinality(f.slots)
        ) c
    ), filled AS (
        SELECT array_agg(c.job_id ORDER BY c.rank, c.job_id) AS ids,
            perdure.fill_slots(array_agg(c.most ORDER BY c.rank, c.job_id), (SELECT f.slots FROM free f WHERE f.key = c.key)) AS slots
        FROM contenders c GROUP BY c.key
    ), chosen AS (
        SELECT u.job_id FROM filled f CROSS JOIN LATERAL unnest(f.ids, f.slots) AS u (job_id, slot) WHERE u.slot IS NOT NULL
    ), gone AS (
        DELETE FROM perdure.parked_jobs p USING chosen c WHERE p.job_id = c.job_id RETURNING p.*
    )
    INSERT INTO perdure.available_jobs (job_id, rank, available_at, xid, lane, band, run, attempt, crashes, interruptions, suspicion, gated,
        returned_key)
    SELECT g.job_id, g.rank, g.available_at, g.xid, g.lane, g.band, g.run, g.attempt, g.crashes, g.interruptions, g.suspicion, true,
        g.concurrency_key
    FROM gone g
    RETURNING available_jobs.lane, available_jobs.band, available_jobs.rank, available_jobs.job_id;
END $function$
;

CREATE OR REPLACE FUNCTION perdure.waited_since(of_job uuid, of_run smallint, cut pg_snapshot)
 RETURNS xid8
 LANGUAGE sql
 STABLE
AS $function$
    SELECT coalesce(
        (SELECT e.settle_xid FROM perdure.job_executions e WHERE e.job_id = of_job AND e.run = of_run AND perdure.seen(e.settle_xid, cut)
        ORDER BY e.settled_at DESC, perdure.in_order(e.settle_xid) DESC LIMIT 1),
        (SELECT v.xid FROM perdure.job_events v WHERE v.job_id = of_job AND v.detail ? 'delay_ms'
            AND (v.detail ->> 'run')::smallint = of_run AND perdure.seen(v.xid, cut) LIMIT 1),
        (SELECT r.wait_xid FROM perdure.live_row(of_job) r WHERE perdure.seen(r.wait_xid, cut)),
        (SELECT (v.detail ->> 'scheduled_xid')::xid8 FROM perdure.job_events v WHERE v.job_id = of_job
            AND perdure.seen((v.detail ->> 'scheduled_xid')::xid8, cut) AND NOT perdure.seen(v.xid, cut) LIMIT 1),
        (SELECT j.xid FROM perdure.jobs j WHERE j.id = of_job))
$function$
;

CREATE OR REPLACE FUNCTION perdure.words_that_fit(words text[], attempt smallint, clauses jsonb)
 RETURNS SETOF boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE ROWS 1
AS $function$
    SELECT true WHERE clauses IS NULL OR NOT EXISTS (
        SELECT FROM jsonb_to_recordset(clauses) AS c (field text, negated boolean, folded boolean, patterns text[], numbers numeric[],
            comparison text)
        WHERE c.negated = CASE WHEN c.field = 'attempt' THEN perdure.number_fits(attempt, c.comparison, c.numbers)
            ELSE EXISTS (
                SELECT FROM generate_series(1, cardinality(words), 2) AS i (place)
                WHERE words[i.place] = c.field AND perdure.text_fits(words[i.place + 1], c.folded, c.patterns)
            ) END
    )
$function$
;

CREATE OR REPLACE FUNCTION perdure.workers_at(cut pg_snapshot, newest uuid, open_since timestamp with time zone)
 RETURNS TABLE(id uuid, name text, host text, pid integer, type text, state perdure.worker_state, queues text[], kinds text[], labels text[], capacity integer, processes integer, version text, started_at timestamp with time zone, heartbeat_at timestamp with time zone, stopped_at timestamp with time zone, cause text, cordoned_at timestamp with time zone)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT DISTINCT ON (h.worker_id) h.worker_id, h.name, h.host, h.pid, h.type, h.state, h.queues, h.kinds, h.labels, h.capacity, h.processes,
        h.version, h.started_at, h.at, h.stopped_at, h.cause, h.cordoned_at
    FROM perdure.worker_history h WHERE perdure.seen(h.xid, cut)
    ORDER BY h.worker_id, h.state DESC, h.at DESC
$function$
;

CREATE OR REPLACE FUNCTION perdure.written_by(row_version xid)
 RETURNS xid8
 LANGUAGE sql
 STABLE
RETURN (SELECT ((CASE WHEN (n.low >= n.next) THEN (n.low - '4294967296'::bigint) ELSE n.low END)::text)::xid8 AS low FROM (SELECT s.next, (((s.next >> 32) << 32) + ((written_by.row_version)::text)::bigint) AS low FROM (SELECT ((pg_snapshot_xmax(pg_current_snapshot()))::text)::bigint AS next) s) n)
;

CREATE TRIGGER job_dependencies_depth AFTER INSERT ON perdure.job_dependencies REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION perdure.check_depth();

CREATE TRIGGER leaders_halted BEFORE INSERT OR UPDATE ON perdure.leaders FOR EACH ROW WHEN ((new.expires_at > now())) EXECUTE FUNCTION perdure.require_adopted();

CREATE TRIGGER workers_changed AFTER UPDATE ON perdure.workers FOR EACH ROW WHEN (((old.state <> new.state) OR (old.kinds <> new.kinds) OR (old.processes <> new.processes) OR (old.capacity <> new.capacity) OR (old.cordoned_at IS DISTINCT FROM new.cordoned_at))) EXECUTE FUNCTION perdure.keep_worker();

CREATE TRIGGER workers_halted BEFORE INSERT ON perdure.workers FOR EACH ROW WHEN ((new.state = ANY (ARRAY['active'::perdure.worker_state, 'draining'::perdure.worker_state]))) EXECUTE FUNCTION perdure.require_adopted();

CREATE TRIGGER workers_made AFTER INSERT ON perdure.workers FOR EACH ROW EXECUTE FUNCTION perdure.keep_worker();

CREATE VIEW perdure.day_partitions AS
 SELECT (p.relname)::text AS parent,
    (c.relname)::text AS name,
    ((to_date("right"((c.relname)::text, 8), 'YYYYMMDD'::text))::timestamp without time zone AT TIME ZONE 'UTC'::text) AS day
   FROM ((pg_inherits i
     JOIN pg_class c ON ((c.oid = i.inhrelid)))
     JOIN pg_class p ON ((p.oid = i.inhparent)))
  WHERE ((i.inhparent = ANY (ARRAY[('perdure.jobs'::regclass)::oid, ('perdure.job_executions'::regclass)::oid, ('perdure.job_events'::regclass)::oid, ('perdure.worker_samples'::regclass)::oid])) AND (c.relname ~ '_\d{8}$'::text));

CREATE VIEW perdure.job_states AS
 SELECT blocked_jobs.job_id,
    'pending'::perdure.job_state AS state,
    blocked_jobs.lane,
    blocked_jobs.run,
    (0)::smallint AS attempt,
    (0)::smallint AS crashes,
    (0)::smallint AS interruptions,
    blocked_jobs.since,
    blocked_jobs.run_at,
    NULL::text AS concurrency_key
   FROM perdure.blocked_jobs
UNION ALL
 SELECT scheduled_jobs.job_id,
    (
        CASE
            WHEN scheduled_jobs.retry THEN 'retryable'::text
            ELSE 'scheduled'::text
        END)::perdure.job_state AS state,
    scheduled_jobs.lane,
    scheduled_jobs.run,
    scheduled_jobs.attempt,
    scheduled_jobs.crashes,
    scheduled_jobs.interruptions,
    scheduled_jobs.since,
    scheduled_jobs.run_at,
    NULL::text AS concurrency_key
   FROM perdure.scheduled_jobs
UNION ALL
 SELECT available_jobs.job_id,
    'available'::perdure.job_state AS state,
    available_jobs.lane,
    available_jobs.run,
    available_jobs.attempt,
    available_jobs.crashes,
    available_jobs.interruptions,
    available_jobs.available_at AS since,
    NULL::timestamp with time zone AS run_at,
    NULL::text AS concurrency_key
   FROM perdure.available_jobs
UNION ALL
 SELECT parked_jobs.job_id,
    'available'::perdure.job_state AS state,
    parked_jobs.lane,
    parked_jobs.run,
    parked_jobs.attempt,
    parked_jobs.crashes,
    parked_jobs.interruptions,
    parked_jobs.available_at AS since,
    NULL::timestamp with time zone AS run_at,
    parked_jobs.concurrency_key
   FROM perdure.parked_jobs
UNION ALL
 SELECT leases.job_id,
    'running'::perdure.job_state AS state,
    leases.lane,
    leases.run,
    leases.attempt,
    leases.crashes,
    leases.interruptions,
    leases.claimed_at AS since,
    NULL::timestamp with time zone AS run_at,
    leases.concurrency_key
   FROM perdure.leases
UNION ALL
 SELECT e.job_id,
    e.state,
    e.lane,
    e.run,
    e.attempt,
    e.crashes,
    e.interruptions,
    e.settled_at AS since,
    NULL::timestamp with time zone AS run_at,
    NULL::text AS concurrency_key
   FROM perdure.job_executions e
  WHERE ((e.state = ANY (ARRAY['completed'::perdure.job_state, 'cancelled'::perdure.job_state, 'discarded'::perdure.job_state])) AND (NOT (EXISTS ( SELECT
           FROM perdure.job_executions n
          WHERE ((n.job_id = e.job_id) AND (n.run > e.run) AND (n.state = ANY (ARRAY['completed'::perdure.job_state, 'cancelled'::perdure.job_state, 'discarded'::perdure.job_state])))))) AND (NOT (EXISTS ( SELECT
           FROM perdure.blocked_jobs b
          WHERE (b.job_id = e.job_id)))) AND (NOT (EXISTS ( SELECT
           FROM perdure.scheduled_jobs s
          WHERE (s.job_id = e.job_id)))) AND (NOT (EXISTS ( SELECT
           FROM perdure.available_jobs a
          WHERE (a.job_id = e.job_id)))) AND (NOT (EXISTS ( SELECT
           FROM perdure.parked_jobs p
          WHERE (p.job_id = e.job_id)))) AND (NOT (EXISTS ( SELECT
           FROM perdure.leases l
          WHERE (l.job_id = e.job_id)))));
