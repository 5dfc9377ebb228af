"""The harness that measures peers: its rules, its bounds, and one small run of Perdure without a network."""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from benchmarks.peers import environments
from benchmarks.peers.__main__ import FIGURES, main, run
from benchmarks.peers.catalogue import BY_NAME, SYSTEMS, System
from benchmarks.peers.killing import cells
from benchmarks.peers.measurements import MEASUREMENTS, QUICK, drain_one_process
from benchmarks.peers.programs import DRIVERS, Gap, Program
from benchmarks.peers.results import Results, load, tables
from benchmarks.peers.runlog import RECORD, Aftermath, Entry, RunLog, aftermath, window
from benchmarks.peers.servers import Servers
from tests.support.servers import PostgresServer

DATABASE = "peers"
SMALL = replace(
    QUICK,
    single_enqueues=20,
    callers=5,
    bulk_jobs=200,
    drained_jobs=200,
    killed_jobs=150,
    killed_wait_s=120.0,
    step_s=90.0,
)


@pytest.fixture
def servers(postgres_server: PostgresServer, redis_url: str) -> Iterator[Servers]:
    yield Servers(
        postgres_url=postgres_server.url_of("postgres"),
        database_url=postgres_server.url_of(DATABASE),
        redis_url=redis_url,
        versions={"postgresql": "of the tests", "redis": "of the tests"},
    )
    postgres_server.drop_database(DATABASE)


@pytest.fixture
def program(servers: Servers, tmp_path: Path) -> Program:
    """Perdure, as the harness drives it."""
    return Program(
        system=BY_NAME["perdure"],
        interpreter=Path(sys.executable),
        servers=servers,
        folder=tmp_path,
        variables={},
    )


@pytest.mark.timeout(480)
def test_perdure_and_the_floors_are_measured_and_a_killed_worker_loses_nothing(
    servers: Servers, tmp_path: Path
) -> None:
    figures = [name for name in FIGURES if name not in {"drain_two_processes", "latency"}]
    *_, results = run(["floor-postgres", "floor-redis", "perdure"], figures, 1, SMALL, servers)
    perdure = results.rows["perdure"]
    assert perdure.gaps == {}
    assert perdure.rounds.keys() == {*figures, "idle_mb"} - {"idle", "kill"}
    assert all(value > 0 for values in perdure.rounds.values() for value in values)
    (killed,) = perdure.killed
    assert killed["orphans_ran_again"] == killed["orphans"] > 0
    assert (killed["unfinished"], killed["still_held"]) == (0, 0)
    rates = {"enqueue_one", "enqueue_concurrent", "enqueue_bulk", "drain_one_process"}
    assert results.rows["floor-postgres"].rounds.keys() == results.rows["floor-redis"].rounds.keys() == rates
    kept = tmp_path / "results.json"
    results.save(kept)
    assert tables(load([kept])) == tables(results)


@pytest.mark.timeout(240)
def test_latency_is_measured_from_the_call_to_the_start(program: Program) -> None:
    found = MEASUREMENTS["latency"](program, SMALL)
    assert 0 < found["latency_p50_ms"] <= found["latency_p99_ms"]


@pytest.mark.timeout(240)
def test_a_store_that_still_holds_jobs_is_not_drained(program: Program) -> None:
    """However many jobs have started: what counts is what the store says."""
    holds = replace(program, system=replace(program.system, waiting=lambda _: 1))
    with pytest.raises(Gap, match="still held 1 jobs"):
        drain_one_process(holds, replace(SMALL, drained_jobs=5, settled_s=0.1))


def test_a_program_that_hangs_is_ended_and_named(program: Program, tmp_path: Path) -> None:
    (tmp_path / "hanging_driver.py").write_text("import time\ntime.sleep(600)\n")
    hanging = replace(program, system=_system(driver=str(tmp_path / "hanging_driver.py")))
    with pytest.raises(Gap, match="`prepare` was not done in 1 s"):
        hanging.ask("prepare", within_s=1.0)


def test_a_worker_that_ends_is_noticed_at_once_with_its_last_words(program: Program, tmp_path: Path) -> None:
    (tmp_path / "ending_driver.py").write_text("raise SystemExit('no such queue')\n")
    ending = replace(program, system=_system(driver=str(tmp_path / "ending_driver.py")))
    began = time.monotonic()
    with ending.workers(1, {}) as workers:
        assert not ending.wait(workers, lambda: False, within_s=100.0)
        assert time.monotonic() - began < 50.0
        assert ending.why(workers) == "the worker ended with code 1: no such queue"


def test_a_system_that_cannot_be_installed_is_a_named_gap(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "BUILT", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    *_, results = run(["dramatiq"], ["enqueue_one"], 1, SMALL, servers)
    assert "could not be installed" in results.rows["dramatiq"].gaps["all"]
    assert re.search(r"^- dramatiq, all: could not be installed", tables(results), re.MULTILINE)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_system_has_a_driver_and_is_pinned(system: System) -> None:
    assert (DRIVERS / system.driver).is_file()
    if system.environment == environments.OURS:
        return
    lines = (environments.PINS / f"{system.environment}.txt").read_text("utf-8").split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {line.partition("==")[0] for line in lines}
    packages = (environments.PINS / "node" / "package.json").read_text("utf-8")
    assert system.package in pinned or re.search(rf'"{system.package}": "\d[\d.]*"', packages)


def test_the_run_log_counts_whole_records_only(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run.log")
    log.path.write_text("S000007 0000042 0000000001500\nE000007 0000042 0000000021500\nS000008 0")
    assert len(log) == 2
    assert log.entries() == [Entry(True, 7, 42, 1_500), Entry(False, 7, 42, 21_500)]
    assert log.running() == 1
    assert log.path.stat().st_size == 2 * RECORD + 9


def test_two_processes_are_measured_from_when_both_work() -> None:
    starts = [Entry(True, n, 1, 100 + n) for n in range(10)] + [
        Entry(True, 10 + n, 2, 103 + n) for n in range(6)
    ]
    assert (window(starts).began_us, window(starts).jobs, window(starts).processes) == (103, 13, 2)


def test_a_process_that_comes_when_most_is_done_does_not_shorten_the_measurement() -> None:
    starts = [Entry(True, n, 1, 100 + n) for n in range(10)] + [Entry(True, 10, 2, 109)]
    assert (window(starts).began_us, window(starts).jobs) == (100, 11)


def test_what_a_killed_worker_left_is_read_from_the_log() -> None:
    """Job 0 ended, 1 ended and ran again, 2 and 3 were running, 3 never came back, 4 began later, 5 never."""
    entries = [
        *(Entry(True, n, 1, 10) for n in (0, 1, 2, 3)),
        *(Entry(False, n, 1, 30) for n in (0, 1)),
        *(Entry(True, n, 2, at) for n, at in ((4, 60), (1, 70), (2, 2_000_040))),
        *(Entry(False, n, 2, at) for n, at in ((4, 80), (1, 90), (2, 2_000_060))),
    ]
    assert aftermath(entries, killed_at_us=40, jobs=6) == Aftermath(
        orphans=2, orphans_ran_again=1, last_again_s=2.0, unfinished=2, doubled=1
    )


@pytest.mark.parametrize(
    ("unfinished", "held", "last_again_s", "shown"),
    [
        (0, 0, 16.62, ["0", "3", "16.6 s (20 of 20)"]),
        (13, 0, None, ["**13**", "3", "never (20 of 20)"]),
        (13, 4, None, ["**9**; 4 still held after 60 s", "3", "never (20 of 20)"]),
        (7, 40, None, ["7 still held after 60 s", "3", "never (20 of 20)"]),
    ],
)
def test_what_its_store_still_holds_is_not_lost(
    unfinished: int, held: int, last_again_s: float | None, shown: list[str]
) -> None:
    found = {"unfinished": unfinished, "still_held": held, "waited_s": 60.0, "doubled": 3, "orphans": 20}
    assert cells({**found, "orphans_ran_again": 20, "last_again_s": last_again_s}) == shown


def test_runs_are_put_together_round_by_round(tmp_path: Path) -> None:
    paths = []
    for number, (value, gap) in enumerate(((100.0, {"enqueue_bulk": "no"}), (300.0, {}), (120.0, {}))):
        results = Results()
        results.row("pgqueuer").add({"enqueue_one": value} | ({} if gap else {"enqueue_bulk": 5_000.0}))
        results.row("pgqueuer").gaps |= gap
        paths.append(tmp_path / f"{number}.json")
        results.save(paths[-1])
    together = load(paths)
    assert together.rows["pgqueuer"].median("enqueue_one") == 120.0
    assert "| pgqueuer | - | 120 | - | 5,000 |" in tables(together)
    assert "- pgqueuer: one 100 to 300 (3), bulk 5,000 to 5,000 (2)" in tables(together)
    assert "Gaps:" not in tables(together), "another run has the figure"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "perdure,cellery"], "no system 'cellery'"),
        (["--figures", ","], "no figure is named"),
        (["--merge", "missing.json"], "cannot be read"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_started(words: list[str], says: str) -> None:
    with pytest.raises(SystemExit) as refused:
        main(words)
    assert says in str(refused.value)


def test_only_results_of_this_harness_are_merged(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"schema": "something/1"}')
    with pytest.raises(ValueError, match="no result of this harness"):
        load([tmp_path / "other.json"])


def test_a_new_measurement_begins_with_an_empty_store(servers: Servers) -> None:
    servers.empty()
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE left_over ()")
    servers.empty()
    with psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SELECT to_regclass('left_over')").fetchone() == (None,)


def _system(*, driver: str) -> System:
    return replace(BY_NAME["perdure"], driver=driver)
