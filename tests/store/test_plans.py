"""The statements of the hot path read what they need by index, however large the tables are."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest

from perdure.stores.postgres.connections import Connection, connect
from perdure.stores.postgres.dispatch import CLAIM_SETTINGS, few_of, tokens
from perdure.stores.postgres.jobs import SETTLE_SETTINGS
from perdure.stores.postgres.statements import statements
from perdure.stores.postgres.watermarks import ENDLESS, FIRST_RANK
from tests.support.servers import PostgresServer

ROWS = 50_000
BIG = {
    "available_jobs",
    "leases",
    "scheduled_jobs",
    "blocked_jobs",
    "parked_jobs",
    "job_dependencies",
    "unique_keys",
    "jobs",
}
WORKER = uuid4()
OBSERVER = uuid4()
FILL = f"""
INSERT INTO perdure.queues (name) VALUES ('default'), ('elsewhere');
INSERT INTO perdure.lanes (queue, kind) SELECT 'default', 'k' || n FROM generate_series(1, 3) n;
INSERT INTO perdure.lanes (queue, kind) SELECT 'elsewhere', 'k' || n FROM generate_series(1, 97) n;
CREATE TEMP TABLE made AS SELECT n, perdure.new_job_id() AS id FROM generate_series(1, 4 * {ROWS}) n;
INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args, concurrency_key, concurrency_limit)
    SELECT m.id, 1, 3, 4, '{{}}', CASE WHEN m.n % 100 = 0 THEN 'key' || m.n % 7 END, CASE WHEN m.n % 100 = 0 THEN 3 END FROM made m;
INSERT INTO perdure.available_jobs (job_id, rank, lane, band)
    SELECT m.id, m.n, 1 + m.n % 3, m.n % 3 FROM made m WHERE m.n <= {ROWS};
INSERT INTO perdure.leases (job_id, worker_id, process, lane, band, rank, run, attempt, crashes, interruptions, suspicion,
    available_at, available_xid, deadline)
    SELECT m.id, CASE WHEN m.n % 500 = 0 THEN '{WORKER}'::uuid ELSE md5((m.n % 50)::text)::uuid END, m.n % 4, 1, 1, m.n, 1, 1, 0, 0, 0,
        now(), '1', now() + interval '1 hour' FROM made m WHERE m.n > {ROWS} AND m.n <= 2 * {ROWS};
INSERT INTO perdure.workers (id, name, host, pid, type, queues, kinds, labels, capacity, processes, version)
    SELECT DISTINCT l.worker_id, 'w', 'h', 1, 't', '{{}}'::text[], '{{}}'::text[], '{{}}'::text[], 1, 1, '' FROM perdure.leases l;
INSERT INTO perdure.scheduled_jobs (job_id, run_at, lane, priority)
    SELECT m.id, now() + (m.n - 2.1 * {ROWS}) * interval '1 second', 1, 3 FROM made m WHERE m.n > 2 * {ROWS} AND m.n <= 3 * {ROWS};
INSERT INTO perdure.blocked_jobs (job_id, waiting, lane, priority, verified)
    SELECT m.id, 1, 1, 3, m.n % 1000 > 0 FROM made m WHERE m.n > 3 * {ROWS};
ALTER TABLE perdure.job_dependencies DISABLE TRIGGER ALL;
INSERT INTO perdure.job_dependencies (child_id, parent_id)
    SELECT c.id, p.id FROM made c JOIN made p ON p.n = c.n - 2 * {ROWS} WHERE c.n > 3 * {ROWS};
ALTER TABLE perdure.job_dependencies ENABLE TRIGGER ALL;
INSERT INTO perdure.unique_keys (key, job_id, states) SELECT m.n::text, m.id, 31 FROM made m WHERE m.n <= {ROWS};
"""
ALIVE = """
INSERT INTO perdure.workers (id, name, host, pid, type, queues, kinds, labels, capacity, processes, version)
VALUES ($1, 'w', 'h', 1, 't', '{}', '{}', '{}', 1, 1, '')
"""
SOME_LEASES = """
WITH made AS (SELECT n, perdure.new_job_id() AS id FROM generate_series({first}, {last}) n), bodies AS (
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args) SELECT m.id, 1, 3, 4, '{{}}' FROM made m
)
INSERT INTO perdure.leases (job_id, worker_id, process, lane, band, rank, run, attempt, crashes, interruptions, suspicion,
    available_at, available_xid, deadline)
SELECT m.id, gen_random_uuid(), 1, 1, 1, m.n, 1, 1, 0, 0, 0, now(), '1', now() FROM made m
"""
SOME_JOBS = """
WITH made AS (SELECT n, perdure.new_job_id() AS id FROM generate_series({first}, {last}) n), bodies AS (
    INSERT INTO perdure.jobs (id, lane, priority, max_attempts, args) SELECT m.id, 1, 3, 4, '{{}}' FROM made m
)
INSERT INTO perdure.available_jobs (job_id, rank, lane, band) SELECT m.id, m.n, 1, 1 FROM made m
"""
FOREIGN = """
INSERT INTO perdure.available_jobs (job_id, rank, lane, band)
    SELECT perdure.new_job_id(), n, 4 + n % 97, n % 3 FROM generate_series(1, 100000) n
"""
ENDED = f"""
INSERT INTO perdure.job_executions (job_id, token, worker_id, settled_at, available_at, claimed_at, outcome, state, lane, run, attempt, crashes,
    interruptions)
SELECT gen_random_uuid(), gen_random_uuid(), '{WORKER}', e.at, e.at, e.at, 'completed', 'completed', 1, 1, 1, 0, 0
FROM (SELECT now() - interval '2 hours' + n * interval '144 milliseconds' AS at FROM generate_series(1, {ROWS}) n) e;
SELECT brin_summarize_new_values(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE m.amname = 'brin' AND c.relkind = 'i' AND i.indrelid::regclass::text LIKE '%job_executions_%';
ANALYZE perdure.job_executions
"""
CLAIMING = "; ".join(f"SET {name} = '{value}'" for name, value in CLAIM_SETTINGS.items())
LAST_MINUTES = ("now() - interval '2 minutes'", "now()")
NO_IDS = (f"'{UUID(int=0)}'", f"'{UUID(int=0)}'")
SETTLING = "; ".join(f"SET {name} = '{value}'" for name, value in SETTLE_SETTINGS.items())


@dataclass(frozen=True)
class Plan:
    """What one run of a statement did."""

    nodes: tuple[Mapping[str, Any], ...]

    @property
    def scanned(self) -> set[str]:
        """The big tables that were read from end to end; the partition of a day without jobs is none."""
        return {
            table_of(node)
            for node in self.nodes
            if node["Node Type"] == "Seq Scan" and table_of(node) in BIG and looked_at(node) > 100
        }

    @property
    def indexes(self) -> set[str]:
        return {
            str(node["Index Name"]) for node in self.nodes if "Index Name" in node and node["Actual Loops"]
        }

    @property
    def compared(self) -> float:
        """How many pairs of rows were compared in vain: many, where a loop stands for a look-up."""
        return sum(
            float(node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]) for node in self.nodes
        )

    def rows_of(self, table: str) -> float:
        """How many rows of a table were looked at."""
        return sum(
            looked_at(node) for node in self.nodes if table_of(node) == table and "Scan" in node["Node Type"]
        )


def looked_at(node: Mapping[str, Any]) -> float:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def table_of(node: Mapping[str, Any]) -> str:
    name = str(node.get("Relation Name", ""))
    stem, _, day = name.rpartition("_")
    return stem if day.isdigit() or day == "default" else name


def walk(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


async def plan_of(connection: Connection, module: str, name: str, *arguments: str) -> Plan:
    """Run a prepared statement as a driver would, and undo it."""
    return await plan_of_text(connection, statements(module)[name].numbered(), *arguments)


async def plan_of_text(connection: Connection, text: str, *arguments: str) -> Plan:
    await connection.execute(f"PREPARE measured AS {text}")
    transaction = connection.transaction()
    await transaction.start()
    try:
        explained = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE measured({', '.join(arguments)})"
        )
    finally:
        await transaction.rollback()
        await connection.execute("DEALLOCATE measured")
    (plan,) = json.loads(explained)
    return Plan(tuple(walk(plan["Plan"])))


@pytest.fixture(scope="module")
def filled_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A database with much in it, for the tests of this file, which change nothing."""
    postgres_server.create_database("plans", template=migrated_template)
    with psycopg.connect(postgres_server.url_of("plans"), autocommit=True) as connection:
        connection.execute(FILL.encode())
        connection.execute("VACUUM ANALYZE")
    yield postgres_server.url_of("plans")
    postgres_server.drop_database("plans")


@pytest.fixture
async def filled(filled_url: str) -> AsyncIterator[Connection]:
    """A connection whose changes are undone."""
    connection = await connect(filled_url, application_name="tests")
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


EXPLAINED = """
LOAD 'auto_explain'; SET client_min_messages = log; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
SET auto_explain.log_analyze = on; SET auto_explain.log_format = json
"""


async def plan_within(connection: Connection, name: str, *values: object) -> Plan:
    """Run a statement of dispatch, and undo it: its plan, and those of what the functions do that it calls."""
    told: list[str] = []

    def tell(_: object, message: asyncpg.PostgresLogMessage) -> None:
        told.append(str(message))

    prepared = await connection.prepare(statements("dispatch")[name].numbered())
    await connection.execute(EXPLAINED)
    connection.add_log_listener(tell)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await prepared.fetch(*values)
    finally:
        await transaction.rollback()
        connection.remove_log_listener(tell)
        await connection.execute("SET auto_explain.log_min_duration = -1")
    plans = [json.loads(text[text.index("{") :]) for text in told if "plan:" in text]
    assert plans
    return Plan(tuple(node for plan in plans for node in walk(plan["Plan"])))


def streams(lanes: int = 3) -> tuple[list[int], list[int], list[int]]:
    numbers = [lane for lane in range(1, lanes + 1) for _ in range(3)]
    return numbers, [0, 1, 2] * lanes, [FIRST_RANK] * len(numbers)


def terms(most: int) -> tuple[object, ...]:
    return WORKER, 1, False, 5000, tokens(most)


async def claim_plan(connection: Connection, most: int, *, lanes: int = 3, few: int | None = None) -> Plan:
    return await plan_within(connection, "claim", *streams(lanes), ENDLESS, few or most, most, *terms(most))


async def test_a_claim_reads_its_streams_by_the_claim_index(filled: Connection) -> None:
    await filled.execute(CLAIMING)
    plan = await claim_plan(filled, 100)
    assert plan.scanned == set()
    assert "available_jobs_claim" in plan.indexes
    assert plan.rows_of("available_jobs") <= 9 * 100 + 300


async def test_a_claim_from_many_streams_reads_not_many_times_what_it_takes(filled: Connection) -> None:
    """Whether the jobs of the streams take turns or one stream holds the best of all."""
    await filled.execute(CLAIMING)
    await filled.execute(FOREIGN)
    before, few = 3 * 300, few_of(300, 100)
    plan = await claim_plan(filled, 100, lanes=100, few=few)
    assert plan.scanned == set()
    assert plan.rows_of("available_jobs") <= 300 * few + (100 // few + 1) * 100 + 3 * 100 < 300 * 100
    await filled.execute(
        "UPDATE perdure.available_jobs SET rank = rank - 1000000 WHERE lane = 50 AND band = 1"
    )
    alone = await claim_plan(filled, 100, lanes=100, few=few)
    assert alone.rows_of("available_jobs") <= before + 300 * few + 4 * 100


async def test_the_first_job_of_each_of_many_streams_is_found_by_the_claim_index(filled: Connection) -> None:
    await filled.execute(CLAIMING)
    await filled.execute(FOREIGN)
    plan = await plan_within(filled, "occupied", *streams(100))
    assert plan.scanned == set()
    assert plan.rows_of("available_jobs") <= 300


async def test_jobs_of_lanes_that_nobody_here_serves_do_not_slow_a_claim(filled: Connection) -> None:
    await filled.execute(CLAIMING)
    before = await claim_plan(filled, 100)
    await filled.execute(FOREIGN)
    after = await claim_plan(filled, 100)
    assert after.scanned == set()
    assert after.rows_of("available_jobs") <= before.rows_of("available_jobs")
    await filled.execute("ANALYZE")
    analyzed = await claim_plan(filled, 100)
    assert analyzed.scanned == set()
    assert analyzed.rows_of("available_jobs") <= before.rows_of("available_jobs")


async def test_a_claim_keeps_its_plan_when_the_tables_were_empty_at_first(database_url: str) -> None:
    """Each step is planned once, perhaps when there is hardly anything to plan for."""
    connection = await connect(database_url, application_name="tests")
    await connection.execute(CLAIMING)
    await connection.execute(ALIVE, WORKER)
    for first, last in ((1, 1), (2, 3_000)):
        await connection.execute(SOME_JOBS.format(first=first, last=last))
        plan = await claim_plan(connection, 100)
        assert plan.scanned == set()
        assert plan.compared == 0
        await connection.execute("ANALYZE")
        assert plan.rows_of("available_jobs") <= 3 * 100
        assert plan.rows_of("jobs") == min(last, 100)
    await connection.close()


async def places(connection: Connection, most: int) -> list[list[object]]:
    rows = await connection.fetch("SELECT * FROM perdure.available_jobs ORDER BY rank LIMIT $1", most)
    return [[row[column] for row in rows] for column in ("lane", "band", "rank", "job_id")]


async def test_a_confirmation_reads_its_places_by_the_claim_index(filled: Connection) -> None:
    await filled.execute(CLAIMING)
    plan = await plan_within(filled, "claim_places", *await places(filled, 100), *terms(100))
    assert plan.scanned == set()
    assert {"available_jobs_claim", "available_jobs_pkey"} & plan.indexes
    assert plan.rows_of("available_jobs") <= 300


@pytest.mark.parametrize("name", ["claim", "claim_places"])
async def test_a_claim_opens_the_days_of_its_jobs_alone(filled: Connection, name: str) -> None:
    """However long history is kept, and with one scan for all bodies."""
    await filled.execute(CLAIMING)
    if name == "claim":
        plan = await claim_plan(filled, 100)
    else:
        plan = await plan_within(filled, name, *await places(filled, 100), *terms(100))
    days = [node for node in plan.nodes if table_of(node) == "jobs"]
    kept = await filled.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'perdure.jobs'::regclass"
    )
    assert len(days) <= 2 < kept  # two, when the jobs were made at midnight
    assert sum(node["Actual Loops"] for node in days) <= 2
    assert plan.rows_of("jobs") == 100


async def test_gated_jobs_are_claimed_by_their_keys(filled: Connection) -> None:
    await filled.execute(CLAIMING)
    ids = await filled.fetchval(
        "SELECT array_agg(a.job_id) FROM perdure.available_jobs a JOIN perdure.jobs j ON j.id = a.job_id"
        " WHERE j.concurrency_key IS NOT NULL AND a.rank <= 5000"
    )
    scans = await scans_of(filled, "dispatch", "claim_gated", ids, 50, WORKER, 1, False, 5000)
    assert scans["available_jobs"].keys() == scans["leases"].keys() == {"index"}


async def test_staging_reads_what_is_due(filled: Connection) -> None:
    plan = await plan_of(filled, "jobs", "stage", "1000")
    assert plan.scanned == set()
    assert "scheduled_jobs_due" in plan.indexes
    assert plan.rows_of("scheduled_jobs") <= 2_000


async def test_resolving_reads_what_is_not_verified(filled: Connection) -> None:
    scans = await scans_of(filled, "jobs", "resolve", 1000)
    assert scans["blocked_jobs"].keys() == scans["job_dependencies"].keys() == {"index"}


async def scans_of(
    connection: Connection, module: str, name: str, *values: object
) -> dict[str, dict[str, int]]:
    """How the big tables were scanned by a statement whose look is in a function, where no EXPLAIN sees it."""
    counts = "SELECT relname, seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = ANY ($1)"
    async with connection.transaction():
        await connection.fetch(statements(module)[name].numbered(), *values)
        rows = await connection.fetch(counts, sorted(BIG))
    found = {row["relname"]: {"whole": row["seq_scan"], "index": row["idx_scan"]} for row in rows}
    return {table: {how: count for how, count in scans.items() if count} for table, scans in found.items()}


async def settle_arguments(connection: Connection, most: int = 100) -> list[str]:
    rows = await connection.fetch(
        "SELECT job_id, token FROM perdure.leases ORDER BY md5(token::text) LIMIT $1", most
    )
    ids, tokens = (f"'{{{','.join(str(row[column]) for row in rows)}}}'" for column in ("job_id", "token"))
    nulls = f"array_fill(NULL::text, ARRAY[{len(rows)}])"
    numbers = f"array_fill(0::bigint, ARRAY[{len(rows)}])"
    return [ids, tokens, nulls, numbers, numbers]


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_settling_finds_its_leases_by_their_keys(filled: Connection, mode: str) -> None:
    await filled.execute(f"SET plan_cache_mode = {mode}")
    plan = await plan_of(filled, "jobs", "settle_completed", *await settle_arguments(filled))
    assert plan.scanned == set()
    assert {"leases_pkey", "job_dependencies_parent"} <= plan.indexes


@pytest.mark.parametrize(
    ("name", "arguments", "index"),
    [
        ("of_process", (f"'{WORKER}'", "1", "500"), "leases_guard"),
        ("of_dead", ("500",), "leases_guard"),
        ("of_strangers", ("500",), "leases_guard"),
        ("overdue", (f"'{OBSERVER}'", "6000", "'{60000}'", "'{1000}'", "NULL", "500"), "leases_guard"),
        ("overdue", (f"'{OBSERVER}'", "6000", "'{60000}'", "'{1000}'", "7000", "500"), "leases_guard"),
    ],
)
async def test_guardians_read_the_leases_of_their_workers(
    filled: Connection, name: str, arguments: tuple[str, ...], index: str
) -> None:
    await filled.execute(
        "UPDATE perdure.workers SET state = 'dead', stopped_at = now() WHERE id = $1", WORKER
    )
    await filled.execute(ALIVE, OBSERVER)
    plan = await plan_of(filled, "leases", name, *arguments)
    assert plan.scanned == set()
    assert index in plan.indexes
    assert plan.rows_of("leases") <= 1_000


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("alerts", "count_up", (LAST_MINUTES[0], *LAST_MINUTES, *NO_IDS, "10")),
        ("levels", "count_recent", (*LAST_MINUTES, *NO_IDS)),
        ("rollups", "roll_up", (*LAST_MINUTES, *NO_IDS)),
    ],
)
async def test_counts_find_what_has_just_ended_before_any_vacuum(
    filled: Connection, module: str, name: str, arguments: tuple[str, ...]
) -> None:
    """Block ranges that nobody has summarized yet would all be read."""
    await filled.execute(f"{ENDED.partition('SELECT brin')[0]}; SET plan_cache_mode = force_custom_plan")
    await filled.execute(f"UPDATE perdure.alert_watch SET counted_to = {LAST_MINUTES[0]}")
    plan = await plan_of(filled, module, name, *arguments)
    assert plan.rows_of("job_executions") < ROWS / 5


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_a_count_for_alerts_reads_what_is_new_and_not_the_day(filled: Connection, mode: str) -> None:
    """Where nothing is known of the table of one row that says how far it came: nobody analyses it before it has changed fifty times."""
    await filled.execute(f"{ENDED}; SET plan_cache_mode = {mode}")
    await filled.execute("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname = 'alert_watch'")
    counted_to = "UPDATE perdure.alert_watch SET counted_to = now() - interval '1 hour' RETURNING counted_to"
    later = await filled.fetchval(counted_to) + timedelta(seconds=35)
    (span,) = await filled.fetch(statements("alerts")["span_to_count"].numbered(), later, 120_000)
    plan = await plan_of(filled, "alerts", "count_up", *(f"'{bound}'" for bound in span), "10")
    assert await filled.fetchval("SELECT count(*) FROM perdure.job_executions") == ROWS
    assert plan.rows_of("job_executions") < ROWS / 5


async def test_a_large_claim_compares_no_pairs_of_rows(filled: Connection) -> None:
    await filled.execute(CLAIMING)
    assert (await claim_plan(filled, 1_000)).compared == 0


@pytest.mark.parametrize("name", ["settle_completed", "settle_others"])
async def test_settling_keeps_its_plan_when_the_tables_grow(database_url: str, name: str) -> None:
    """Planned while one lease stood, and after an ANALYZE of that moment, as on any quiet system."""
    connection = await connect(database_url, application_name="tests")
    await connection.execute(f"{SETTLING}; SET plan_cache_mode = force_generic_plan")
    await connection.execute(SOME_LEASES.format(first=1, last=1))
    await connection.execute("ANALYZE")
    statement = statements("jobs")[name]
    await connection.execute(f"PREPARE measured AS {statement.numbered()}")
    await connection.fetchval(
        f"EXPLAIN (FORMAT JSON) EXECUTE measured({await ending_arguments(connection, name)})"
    )
    await connection.execute(SOME_LEASES.format(first=2, last=3_000))
    arguments = await ending_arguments(connection, name)
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE measured({arguments})")
    plan = Plan(tuple(walk(json.loads(explained)[0]["Plan"])))
    assert plan.rows_of("leases") <= 4 * 500
    assert plan.compared == 0
    await connection.close()


async def ending_arguments(connection: Connection, name: str) -> str:
    arguments = await settle_arguments(connection, 500)
    if name == "settle_completed":
        return ", ".join(arguments)
    ids, tokens, texts, numbers, _ = arguments

    def each(value: str, kind: str) -> str:
        return f"array_fill({value}::{kind}, ARRAY[cardinality({ids}::uuid[])])"

    small = each("0", "smallint")
    outcomes, states = each("'failed'", "perdure.outcome"), each("'retryable'", "perdure.job_state")
    counts = [each("1", "smallint"), small, small, small]
    return ", ".join([ids, tokens, outcomes, states, *counts, numbers, texts, texts, texts, numbers, numbers])
