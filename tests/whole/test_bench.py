"""`perdure bench` measures what it says it does, and leaves nothing behind. What the figures are is no matter here."""

import json

import psycopg
import pytest

from perdure.bench.figures import BESIDE, LONG_UNITS, UNITS, Sample, beside_of, figures_of
from tests.support.command import Command
from tests.support.terminal import running

PATIENCE_S = 150.0
WITHOUT_A_FLOOR = {"latency_p50_ms", "latency_p99_ms", "idle_rss_mb", "backlog_slowdown", "pinned_slowdown"}


@pytest.mark.timeout(240)
def test_every_figure_is_measured_and_the_schema_is_gone(
    bare: Command, empty_database_url: str, redis_url: str
) -> None:
    (bare.folder / ".perdure").mkdir()  # where workers remember the database
    process = bare.with_database(empty_database_url).process(
        "bench", "--quick", "--json", "--redis-url", redis_url
    )
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert "another installation" not in said
    told = json.loads(out)
    assert told["schema"] == "perdure.bench/1"
    assert list(told["figures"]) == list(UNITS)
    for name, figure in told["figures"].items():
        assert figure["unit"] == UNITS[name]
        assert figure["value"] > 0, name
        if name in WITHOUT_A_FLOOR:
            assert figure["floor"] is figure["ratio"] is None
        else:
            assert figure["floor"] > 0, name
            assert figure["ratio"] > 0, name
    beside = {name: figure["value"] for name, figure in told["beside"].items()}
    assert beside.keys() <= BESIDE.keys()
    assert beside["drain_dead_rows_per_job"] >= 2, "the row that waited and the lease"
    assert beside["drain_wal_bytes_per_job"] > 0
    assert 0 < beside["drain_commits_per_job"] < 2
    assert beside["idle_supervisor_rss_mb"] > 0
    assert told["machine"]["cores"] >= 1
    assert {"perdure", "python", "postgresql"} <= told["versions"].keys()
    assert told["settings"]["measured"]["repeat"] == 1
    assert told["settings"]["measured"]["checkpoints"] is True
    assert "round 1 of 1: enqueue_one" in said
    assert _schemas(empty_database_url) == 0


@pytest.mark.timeout(240)
def test_what_takes_hours_is_measured_on_demand(bare: Command, empty_database_url: str) -> None:
    names = ["history_slowdown", "queues_slowdown", "drain_fifty_processes"]
    process = bare.with_database(empty_database_url).process(
        "bench", "--quick", "--json", "--only", ",".join(names)
    )
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    figures = json.loads(out)["figures"]
    assert list(figures) == names
    assert figures.keys() <= LONG_UNITS.keys()
    assert all(figure["value"] > 0 for figure in figures.values())
    assert _schemas(empty_database_url) == 0


@pytest.mark.timeout(240)
def test_a_role_that_may_not_ask_for_checkpoints_measures_without_them(
    bare: Command, empty_database_url: str
) -> None:
    role = "bench_without_rights"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        try:
            connection.execute(f"GRANT CREATE ON DATABASE {connection.info.dbname} TO {role}")
            url = empty_database_url.replace("postgres@", f"{role}@", 1)
            process = bare.with_database(url).process(
                "bench", "--quick", "--json", "--only", "backlog_slowdown"
            )
            out, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, said
            told = json.loads(out)
            assert told["figures"]["backlog_slowdown"]["value"] > 0
            assert told["settings"]["measured"]["checkpoints"] is False
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


@pytest.mark.timeout(240)
def test_ctrl_c_takes_the_worker_and_the_schema_along(bare: Command, empty_database_url: str) -> None:
    command = bare.with_database(empty_database_url)
    with running(command, "bench", "--quick", "--repeat", "1000", "--only", "drain_one_process") as bench:
        bench.wait_for("round 1 of 1000", within_s=PATIENCE_S)
        bench.interrupt()
        assert bench.ended() == 130
    assert "Traceback" not in bench.said
    assert _schemas(empty_database_url) == 0
    assert _others(empty_database_url) == 0, "a connection is left, and whoever holds it"


def test_only_known_figures_can_be_asked_for(bare: Command) -> None:
    ended = bare("bench", "--only", "enqueue_one,speed")
    assert ended.code == 2
    assert "'speed'" in ended.err
    assert bare("bench", "--repeat", "0").code == 2


def test_rounds_are_summed_up_by_their_medians() -> None:
    rounds = [
        Sample(values={"enqueue_one": value}, floors={"enqueue_one": floor}, beside={"flush_ms": value / 100})
        for value, floor in ((90.0, 100.0), (50.0, 200.0), (200.0, 400.0))
    ]
    (figure,) = figures_of(rounds).values()
    assert (figure.value, figure.floor, figure.ratio, figure.unit) == (90.0, 200.0, 0.5, "jobs/s")
    assert beside_of(rounds)["flush_ms"].value == 0.9
    assert figures_of([]) == {}


def _schemas(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT FROM pg_namespace WHERE nspname = 'perdure_bench'").rowcount


def _others(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return found.rowcount
