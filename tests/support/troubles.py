"""Rows that stand for troubles which take long to come about, or machines to break."""

BRIEF_LIVES = """
    INSERT INTO perdure.workers (id, name, host, pid, type, queues, kinds, labels, capacity, processes, version, state, started_at, stopped_at)
    SELECT gen_random_uuid(), 'brief-' || n, 'here', n, 'w', '{}', '{}', '{}', 1, 1, '1', 'dead', now() - interval '2 minutes', now()
    FROM generate_series(1, 4) n
"""
REFUSED_RESTORE = """
    INSERT INTO perdure.restores (ended_at, cut_at, open_since, cut, newest, phase, source, actor, reason, scope, policy)
    SELECT now(), now(), now(), pg_current_snapshot(), gen_random_uuid(), 'refused', 'moment', 'ada', '', '{}', '{}'
"""
OVERDUE_SNAPSHOT = (
    "INSERT INTO perdure.snapshot_policy (every, keep, set_by, set_at, unverified_since)"
    " VALUES ('1 hour', 1, 'ada', now() - interval '2 hours', now() - interval '8 days')"
)
MODEL_IN_FORCE = """
    WITH made AS (
        INSERT INTO perdure.models (made_by, body, sha256, kind, trained_from, trained_to, moments, failures, facts)
        VALUES ('ada', '', '', 'logistic', now(), now(), 1, 1, jsonb_build_object('quality', jsonb_build_object('error', $1::float8)))
        RETURNING id
    )
    UPDATE perdure.model_posts SET champion = (SELECT m.id FROM made m), champion_since = now()
"""
"""The calibration error of the model is the parameter."""
