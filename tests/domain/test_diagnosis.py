"""The rules of the doctor: each bad fact has its line with something to do."""

from dataclasses import replace
from datetime import date

import pytest

from perdure.domain.diagnosis import (
    Line,
    RedisFacts,
    SchemaFacts,
    ServerFacts,
    TableFacts,
    Verdict,
    judge_connections,
    judge_extras,
    judge_redis,
    judge_schema,
    judge_server,
    worst,
)

GOOD = ServerFacts(
    version=150_018,
    version_text="PostgreSQL 15.18",
    in_recovery=False,
    max_connections=100,
    reserved_connections=3,
    used_connections=7,
    synchronous_commit="on",
    fsync="on",
    full_page_writes="on",
    oldest_transaction_s=0,
    oldest_transaction="",
    clock_difference_s=0.01,
    commit_ms=1.0,
    listener_heard=True,
)
TIDY = SchemaFacts(
    tables=[TableFacts(name="leases", live_rows=10, dead_rows=50_000)],
    partitions_missing=[],
    today=date(2030, 1, 1),
    workers_alive=2,
    processes_alive=4,
    workers_silent=0,
)
SAFE = RedisFacts(product="Redis", version="7.0.15", policy="noeviction", persistence=True)


def line(lines: list[Line], check: str) -> Line:
    return next(each for each in lines if each.check == check)


def test_good_facts_are_ok() -> None:
    assert worst([*judge_server(GOOD), *judge_schema(TIDY), *judge_redis(SAFE)]) is Verdict.OK


@pytest.mark.parametrize(
    ("change", "check", "verdict"),
    [
        ({"version": 140_010}, "postgresql version", Verdict.BAD),
        ({"version": 190_001}, "postgresql version", Verdict.WARN),
        ({"in_recovery": True}, "postgresql role", Verdict.BAD),
        ({"fsync": "off"}, "durability", Verdict.BAD),
        ({"full_page_writes": "off"}, "durability", Verdict.BAD),
        ({"synchronous_commit": "off"}, "durability", Verdict.BAD),
        ({"oldest_transaction_s": 1000.0}, "oldest transaction", Verdict.WARN),
        ({"oldest_transaction_s": 100_000.0}, "oldest transaction", Verdict.BAD),
        ({"clock_difference_s": -5.0}, "clock", Verdict.WARN),
        ({"clock_difference_s": 90_000.0}, "clock", Verdict.BAD),
        ({"commit_ms": 50.0}, "commit", Verdict.WARN),
        ({"listener_heard": False}, "notifications", Verdict.WARN),
    ],
)
def test_a_bad_server_is_told_with_what_to_do(
    change: dict[str, object], check: str, verdict: Verdict
) -> None:
    found = line(judge_server(replace(GOOD, **change)), check)  # type: ignore[arg-type]
    assert found.verdict is verdict
    assert found.next_step


@pytest.mark.parametrize(
    ("per_worker", "workers", "used", "verdict"),
    [(6, 0, 7, Verdict.OK), (6, 3, 95, Verdict.WARN), (20, 5, 7, Verdict.BAD)],
)
def test_connections_must_be_enough(per_worker: int, workers: int, used: int, verdict: Verdict) -> None:
    facts = replace(GOOD, used_connections=used)
    assert judge_connections(facts, per_worker=per_worker, workers=workers).verdict is verdict


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"partitions_missing": ["jobs_20300102"]}, "partitions"),
        ({"tables": [TableFacts(name="leases", live_rows=10, dead_rows=200_000)]}, "dead rows"),
        ({"workers_alive": 0}, "workers"),
        ({"workers_silent": 1}, "workers"),
    ],
)
def test_an_untidy_schema_is_told_with_what_to_do(change: dict[str, object], check: str) -> None:
    found = line(judge_schema(replace(TIDY, **change)), check)  # type: ignore[arg-type]
    assert found.verdict is Verdict.WARN
    assert found.next_step


@pytest.mark.parametrize(
    ("change", "check"),
    [({"version": "6.2.14"}, "redis version"), ({"policy": "allkeys-lru"}, "redis policy")],
)
def test_an_unsafe_redis_is_told_with_what_to_do(change: dict[str, str], check: str) -> None:
    found = line(judge_redis(replace(SAFE, **change)), check)  # type: ignore[arg-type]
    assert found.verdict is Verdict.BAD
    assert found.next_step


@pytest.mark.parametrize(
    ("wanted", "verdict", "step"),
    [
        ([], Verdict.OK, "pip install 'perdure[all]'"),
        (["web"], Verdict.OK, "pip install 'perdure[all]'"),
        (["state", "web", "redis"], Verdict.BAD, "pip install 'perdure[redis,state]'"),
    ],
)
def test_an_extra_that_lacks_packages_is_bad_only_where_the_settings_need_it(
    wanted: list[str], verdict: Verdict, step: str
) -> None:
    judged = judge_extras({"web": (), "redis": ("hiredis",), "state": ("fsspec", "zstandard")}, wanted)
    assert (judged.verdict, judged.next_step) == (verdict, step)
    assert "web installed; not: redis (lacks hiredis), state (lacks fsspec, zstandard)" in judged.found


def test_with_all_extras_there_is_nothing_to_do() -> None:
    assert judge_extras({"web": ()}, ["web"]).next_step == ""


def test_of_extras_nothing_is_told_where_nothing_is_known() -> None:
    assert judge_extras({}, ["web"]).found.startswith("cannot be told")
