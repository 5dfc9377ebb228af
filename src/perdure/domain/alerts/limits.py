"""The thresholds of the rules: the same numbers for the built-in alerts and for Prometheus."""

LETTERS = 100
"""Dead letters that wait, and that come in ten minutes; named by the specification."""
WORKER_FAILURES = 0.10
"""Part of the workers that were declared dead within 15 minutes; named by the specification."""
SATURATION = 0.90
"""Part of the slots that are busy; named by the specification."""
CONNECTIONS = 0.80
"""Part of the connections that PostgreSQL allows; named by the specification."""
RETRIES = 0.05
"""Part of the attempts that have to be repeated; named by the specification."""

ERRORS_HIGH, ERRORS_EXTREME = 0.05, 0.50
EVENTS_MIN = 20
"""Fewer events than this make no share that means anything."""
ATTEMPTS_PER_JOB = 3.0
LATE_ALLOWED = 0.05
"""95 of 100 jobs should start within the target."""
BURN_FAST, BURN_SLOW = 14.4 * LATE_ALLOWED, 6 * LATE_ALLOWED
"""Speeds at which the budget of 30 days is used up in 2 and in 5 days."""
HEAD_S = 600.0
BACKLOG_MIN = 100
DRAIN_S = 3_600.0
LETTER_AGE_S = 3 * 86_400.0
SILENCE_S = 30.0
"""Twice the silence after which a worker is declared dead by default."""
OVERDUE_S = 30.0
"""How long after its deadline a running job is overdue; the leader ends it within seconds."""
EVACUATION_LATE_S = 60.0
SNAPSHOT_LATE_S = 600.0
"""A snapshot counts from its beginning and once it is whole: a large one takes minutes."""
SNAPSHOT_VERIFIED_S = 7 * 86_400.0
NEW_ERRORS = 10
"""So often an error must come in its first ten minutes to be told as a new one."""
SHORT_LIVES = 3
RISK = 0.8
MISCALIBRATED = 0.15
EMBEDDING_BACKLOG = 10_000
TRANSACTION_S = 900.0
DEAD_ROWS_MIN = 50_000
DEAD_PER_LIVE = 2.0
