"""What each option of `@job` and of an enqueue means, for docstrings and the reference."""

from collections.abc import Collection, Mapping

MEANINGS: Mapping[str, str] = {
    "name": "What the database calls the kind; by default the function's module and qualified name. It outlives a move of the function.",
    "mode": "Where the handler runs: `async` on the event loop, `thread`, or `process`, which alone can be killed. By default `async` for `async def`, `thread` for `def`.",
    "queue": "The queue in which the job waits; workers serve queues, and a queue can be paused.",
    "priority": "From 1 to 5, the highest. A job that waits ages, so that none waits for ever.",
    "retries": "Attempts after a first one that fails. Crashes and interruptions are counted apart.",
    "timeout": "Longest run of one attempt, up to 24 days; None for no limit. What is over it fails as timed out: an async handler is cancelled, a process killed, a thread left behind and its process replaced.",
    "retry": "How long to wait after a failure: `Backoff()`, `Fixed(...)`, `Delays([...])`, or an object of your own with `delay` and `horizon`.",
    "labels": "What a worker must offer (its setting `labels`) to be given the job.",
    "concurrency_key": "At most `concurrency_limit` jobs of this key run at a time, over all workers (promise S6). A text, or a function of the arguments by name.",
    "concurrency_limit": "How many jobs of one `concurrency_key` may run at a time.",
    "unique_key": "No second job is stored while another holds this key (promise S7): while it lives, or for `unique_for`. A text, or a function of the arguments by name.",
    "unique_for": "Hold the unique key for so long from the enqueue, whatever becomes of the job. Without a `unique_key` the key is the kind and its arguments.",
    "unique_states": "The states in which the unique key counts; all those of waiting must be among them. By default those of a live job, with `unique_for` all.",
    "on_duplicate": 'When another job holds the unique key: `"raise"` DuplicateJob, or `"return"` the handle of that job.',
    "on_parent_failure": "When a parent of `depends_on` ends without success: `hold` the job until the parent is retried, `cancel` it, or `run` it all the same.",
    "inherit_priority": "Whether a job with `depends_on` takes the highest priority of its parents.",
    "crash_limit": "So many crashes of its process while it ran alone discard it; None for the setting `crash_limit`.",
    "encrypted": "Whether arguments and results are stored so that only holders of the setting `encryption_keys` can read them.",
    "follow_advice": "How far time-out and retry delay follow the kind's own history: `FollowAdvice(timeout_at_least=..., retry_at_most=...)`.",
    "delay": "Start no sooner than this from now, by the database's clock. Not together with `run_at`.",
    "run_at": "Start no sooner than then: a datetime with a time zone.",
    "depends_on": "The jobs that must end before: handles, prepared jobs, ids, or `Dependency` for a policy of its own; one or several.",
    "id": "The job's id, a UUID of version 7; a repeated call with the same id enqueues once.",
    "metadata": "Anything that JSON can hold, kept beside the arguments and not given to the handler.",
    "conn": "Your own connection or session (psycopg, asyncpg, SQLAlchemy): the job exists once your transaction has committed, and never if it rolls back.",
}


def listed(names: Collection[str]) -> str:
    """A line for each option, for a docstring."""
    return "\n".join(f"    {name}: {MEANINGS[name]}" for name in names)
