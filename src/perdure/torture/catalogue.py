"""The faults that a durable job system must survive, and what shows for each that this one does.

A row is shown by the scenarios that name its number and by the tests that are named here; both are run by `make test`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ACT, HANDLERS, LIMITS = "tests/services/test_act.py", "tests/api/test_handlers.py", "tests/api/test_limits.py"
DISPATCH, REDIS = "tests/contract/test_dispatch.py", "tests/contract/test_dispatch_faults.py"
DEATHS, PACE, LIFE = (
    "tests/faults/test_deaths.py",
    "tests/faults/test_pace.py",
    "tests/faults/test_worker_life.py",
)
EVACUATION, EVACUATE = "tests/faults/test_evacuation.py", "tests/services/test_evacuate.py"
SETTLE, SCHEMA, PLANS = (
    "tests/store/test_settle.py",
    "tests/store/test_schema.py",
    "tests/store/test_plans.py",
)
LATE, PARKED, RESCUE = (
    "tests/store/test_late_parents.py",
    "tests/store/test_parked.py",
    "tests/services/test_rescue.py",
)
SNAPSHOT, SIMULATION = "tests/services/test_snapshot.py", "tests/simulation/test_simulation.py"
MUTATIONS = "tests/stateful/test_mutations.py"
LINEAGE = "tests/store/test_lineage.py"
THOUSANDS = f"{SIMULATION}::test_every_promise_holds_for_thousands_of_seeds"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, what must hold besides S1 to S7 and L1, the tests that show it, and what of it is open, and why."""

    number: int
    fault: str
    holds: str
    tests: Sequence[str] = ()
    open: str = ""


ROWS = (
    Row(
        1,
        "SIGKILL between the commit of a claim and the start of the handler",
        "may start again at once; the attempt counts once",
        (
            "tests/runtime/test_giving_back.py::test_a_claim_that_is_committed_after_the_death_of_its_process_is_given_back",
        ),
    ),
    Row(
        2,
        "SIGKILL after the effect, before the completion",
        "run again; what was written in the transaction that completes the job is not there twice",
        ("tests/api/test_complete.py::test_a_rolled_back_completion_is_tried_again_and_leaves_one_effect",),
    ),
    Row(
        3, "SIGKILL with results that are not stored yet", "those jobs run again, none is lost", (THOUSANDS,)
    ),
    Row(
        4,
        "SIGTERM with long handlers, the end of the grace",
        "given back at once, and no attempt is burnt",
        (f"{DEATHS}::test_sigterm_gives_back_what_runs_and_burns_no_attempt",),
    ),
    Row(
        5,
        "SIGSTOP for longer than a lease, then SIGCONT",
        "the late result is refused and seen; the handler is told to stop",
        (f"{DEATHS}::test_processes_of_a_frozen_supervisor_claim_nothing_more_and_end",),
    ),
    Row(
        6,
        "a handler keeps the interpreter to itself, or never ends",
        "the heart beats on, the deadline frees the job, the process is replaced",
        (
            f"{DEATHS}::test_a_handler_that_keeps_the_interpreter_busy_is_caught_at_its_deadline",
            f"{PACE}::test_a_handler_that_keeps_the_interpreter_to_itself_does_not_stop_the_heart",
        ),
    ),
    Row(
        7,
        "a handler crashes its process, again and again",
        "given up after its limit; others go on",
        (f"{DEATHS}::test_a_job_that_kills_its_process_ends_in_the_dead_letter_queue_alone",),
    ),
    Row(
        8,
        "a host is cut off from PostgreSQL, or hears no answers",
        "it stops by itself, and others take over",
    ),
    Row(9, "a host is cut off from Redis alone", "work goes on through PostgreSQL", (THOUSANDS,)),
    Row(10, "sessions are terminated, twice a second", "throughput comes back; no lease is left behind"),
    Row(
        11,
        "PostgreSQL restarts in the middle of an enqueue's commit",
        "repeating the call with its ids doubles nothing",
        ("tests/api/test_enqueue.py::test_a_call_whose_answer_was_lost_is_repeated_safely",),
    ),
    Row(
        12,
        "PostgreSQL crashes with asynchronous commits in flight",
        "claims vanish; no token is ever accepted twice",
        ("tests/stateful/test_crash.py::test_a_token_issued_before_a_crash_is_never_accepted_after_it",),
    ),
    Row(
        13,
        "failover to a replica that lags",
        "no old token is accepted; the loss is noticed and told",
        (
            f"{LINEAGE}::test_a_new_epoch_voids_every_lease_and_counts_as_nothing",
            f"{LINEAGE}::test_a_producer_notices_each_job_that_it_was_promised",
        ),
    ),
    Row(
        14,
        "the old primary is still up",
        "writers notice another lineage and stop",
        (f"{LINEAGE}::test_a_failover_that_loses_nothing_goes_on_and_the_old_primary_is_refused",),
    ),
    Row(
        15,
        "PostgreSQL is away for long",
        "nobody is declared dead on its return; processes stay up",
        (THOUSANDS,),
    ),
    Row(16, "the disk is full, or the server read-only", "claims stop, results wait up to a bound"),
    Row(
        17,
        "no connection is left",
        "claiming and settling do not wait for each other",
        (f"{LIFE}::test_a_worker_with_all_its_processes_stays_within_its_connections",),
    ),
    Row(
        18,
        "a pooler in transaction mode",
        "nothing rests on a session's state; polling is chosen without being told",
        (f"{LIFE}::test_a_worker_that_hears_no_notifications_finds_work_and_says_so",),
    ),
    Row(19, "serialization failures and deadlocks in any statement", "each is repeated; effects happen once"),
    Row(
        20,
        "an open transaction pins the horizon",
        "throughput stays at 80 % or more; the session is named",
        (
            "tests/store/test_late_parents.py::test_an_old_transaction_elsewhere_keeps_nobody_from_being_looked_at",
        ),
    ),
    Row(21, "four overlapping repeatable-read transactions", "the same"),
    Row(
        22,
        "autovacuum is off",
        "it slows down within bounds",
        (
            "tests/store/test_keeping.py::test_hot_tables_are_vacuumed_when_dead_rows_prevail_and_not_again_at_once",
        ),
    ),
    Row(23, "a million jobs wait, and a few urgent ones come", "the urgent ones wait milliseconds"),
    Row(
        24,
        "100,000 jobs ahead that are blocked: by limits, by pauses, by kinds that nobody has here",
        "others are at least half as fast",
        (
            f"{PLANS}::test_jobs_of_lanes_that_nobody_here_serves_do_not_slow_a_claim",
            f"{PARKED}::test_very_many_jobs_of_one_key_cost_no_more_than_few",
            f"{DISPATCH}::test_many_jobs_of_a_full_key_do_not_hold_up_those_behind_them",
        ),
        open="rate limits are not built yet",
    ),
    Row(
        25,
        "very many delayed jobs, thousands due per second",
        "99 of 100 start within a second of their time",
        (f"{PLANS}::test_staging_reads_what_is_due",),
    ),
    Row(
        26,
        "Redis is flushed",
        "everything is found again",
        (f"{REDIS}::test_a_flush_in_the_middle_loses_nothing",),
    ),
    Row(
        27,
        "a failover of Redis loses announcements",
        "found within a second",
        (f"{DISPATCH}::test_a_lost_announcement_costs_no_job",),
    ),
    Row(
        28,
        "Redis is restored from an old dump",
        "stale ids are dropped when they are confirmed",
        (f"{REDIS}::test_a_restored_dump_hands_nothing_out_again",),
    ),
    Row(
        29,
        "Redis is full, or may evict",
        "noticed at the start and at run time",
        (f"{REDIS}::test_an_evicting_redis_is_refused_by_name",),
    ),
    Row(
        30,
        "the scripts of Redis are flushed; slots move",
        "scripts are loaded again",
        open="moves of slots: Redis Cluster is not supported yet",
    ),
    Row(
        31,
        "two leaders, for the old one was paused",
        "every act of the old one is harmless",
        (
            f"{MUTATIONS}::test_a_short_history_finds_a_missing_guard",
            "tests/store/test_leadership.py::test_one_leads_until_its_term_is_over_and_each_term_has_a_number_of_its_own",
        ),
        open="cron schedules are not built yet",
    ),
    Row(
        32,
        "the leader dies between cron's insert and its mark",
        "one job per schedule and time",
        open="cron schedules are not built yet",
    ),
    Row(
        33,
        "the wall clock jumps, by an hour, on a host or on the server",
        "nothing runs early or twice, nobody is declared dead for it",
        (
            f"{RESCUE}::test_a_clock_that_is_set_forward_kills_nobody_who_beats",
            "tests/store/test_leadership.py::test_a_clock_that_is_set_back_leaves_nobody_without_a_leader",
        ),
    ),
    Row(
        34,
        "every message arrives twice",
        "nothing is accepted twice",
        (
            f"{DISPATCH}::test_a_doubled_announcement_gives_one_lease",
            f"{SETTLE}::test_only_the_first_of_two_settlements_counts",
            THOUSANDS,
        ),
    ),
    Row(
        35,
        "a unique key is taken when its job comes back",
        "the rest of the batch goes on",
        (f"{SETTLE}::test_a_rescued_batch_goes_on_when_one_of_it_finds_its_key_taken",),
    ),
    Row(
        36,
        "the parent completes while the child is cancelled",
        "one of the two legal ends, and nobody waits for ever",
        (
            f"{ACT}::test_a_cancel_of_a_child_that_is_being_released_finds_it_available",
            f"{MUTATIONS}::test_a_child_that_one_end_cancels_and_another_would_free_is_cancelled",
        ),
    ),
    Row(
        37,
        "a crash between the parent's acceptance and the child's release",
        "one transaction, or healed",
        (
            f"{LATE}::test_a_settling_that_stalls_before_its_first_write_leaves_no_child_waiting",
            f"{MUTATIONS}::test_a_short_history_finds_a_missing_guard",
        ),
    ),
    Row(
        38,
        "10,000 parents end together",
        "the child starts once",
        (f"{LATE}::test_a_fan_in_of_ten_thousand",),
    ),
    Row(
        39,
        "cancel, retry and completion race for one job",
        "one legal history",
        (
            f"{ACT}::test_cancel_against_claim_and_completion_ends_in_one_outcome",
            f"{ACT}::test_a_job_is_reopened_once_however_many_ask",
        ),
    ),
    Row(
        40,
        "arguments that cannot be read, an unknown kind, a huge payload",
        "dead-lettered with the reason; an unknown kind is left where it is",
        (
            f"{HANDLERS}::test_arguments_that_no_longer_fit_are_dead_lettered_with_the_reason",
            f"{HANDLERS}::test_a_kind_that_no_worker_knows_stays_where_it_is",
            f"{LIMITS}::test_arguments_over_the_limit_that_reach_a_worker_are_dead_lettered_with_the_reason",
        ),
    ),
    Row(
        41,
        "a rolling upgrade; a schema newer than the program",
        "old and new work side by side; who cannot start says why",
        (f"{SCHEMA}::test_a_newer_schema_is_left_alone",),
    ),
    Row(
        42,
        "a migration is killed half way, or two run at once",
        "it can be done again; no lock is left",
        (f"{SCHEMA}::test_two_migrations_at_once_wait_for_each_other",),
    ),
    Row(43, "all workers start at once", "a bounded number of statements"),
    Row(
        44,
        "a worker is evacuated that cannot be reached",
        "its jobs move without it",
        (f"{EVACUATION}::test_a_worker_that_cannot_be_reached_is_evacuated_long_before_it_is_declared_dead",),
    ),
    Row(
        45,
        "every worker is unwell by its score",
        "work goes on: only so many are evacuated at once",
        (f"{EVACUATE}::test_no_more_workers_than_allowed_are_evacuated_at_once",),
    ),
    Row(
        46,
        "health flaps around the threshold",
        "alarms are held back, evacuations are bounded",
        (
            "tests/domain/health/test_alarm.py::test_a_repeat_is_held_back_until_it_is_beaten_or_old",
            f"{EVACUATE}::test_no_more_workers_than_allowed_are_evacuated_at_once",
        ),
    ),
    Row(
        47,
        "a snapshot under load; a restore that is broken off",
        "a consistent cut; nothing is half done",
        (
            f"{SNAPSHOT}::test_a_restored_snapshot_is_what_was_there_at_its_cut",
            f"{SNAPSHOT}::test_a_half_snapshot_is_never_offered",
            "tests/services/test_restore.py::test_a_crash_at_any_step_comes_to_the_same_end",
        ),
    ),
    Row(
        48,
        "the whole database is restored from a backup under live workers",
        "noticed; older leases are refused; what was lost is listed",
        (
            "tests/faults/test_rollback.py::test_a_backup_restored_under_a_live_worker",
            f"{LINEAGE}::test_a_base_backup_is_noticed",
        ),
    ),
    Row(
        49,
        "a worker that lies",
        "never accepted under the rules of a quorum",
        open="quorums are not built yet",
    ),
    Row(
        50,
        "very large numbers; a day without a partition",
        "works; the partition is made",
        (
            "tests/store/test_large_numbers.py::test_jobs_run_and_are_looked_back_on_after_2_to_the_47_transactions",
            f"{PACE}::test_the_leader_makes_partitions_that_are_missing",
            "tests/store/test_enqueue.py::test_jobs_of_a_day_without_a_partition_run_as_any_other",
        ),
    ),
    Row(
        51,
        "a slow reader of a live page",
        "it holds nobody up",
        (
            "tests/web/test_live.py::test_one_who_reads_slowly_holds_nobody_up_and_gets_the_newest_alone",
            "tests/web/test_live.py::test_only_a_version_that_differs_is_sent",
        ),
    ),
    Row(
        52,
        "the vector store or a model is away",
        "dispatch does not notice",
        (
            "tests/memory/test_faces.py::test_jobs_run_as_ever_while_qdrant_is_away",
            "tests/memory/test_execution_memory.py::test_without_qdrant_it_is_said_and_nothing_is_lost",
            "tests/domain/health/test_extra.py::test_without_numpy_the_error_names_the_command_and_the_rest_works",
        ),
    ),
)
