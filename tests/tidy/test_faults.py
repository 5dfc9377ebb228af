"""The page of faults is complete and true: 52 rows, each with something that shows it, and all of it exists."""

import ast
from functools import cache
from pathlib import Path

import pytest

from perdure.torture.catalogue import ROWS, Row
from perdure.torture.run import FAMILIES
from perdure.torture.scenario import SCENARIOS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "faults.md"
MAY_BE_OPEN = {24, 30, 31, 32, 49}
"""Rate limits, slots of Redis Cluster, cron and quorums are not built yet."""


def scenarios_of(row: Row) -> list[str]:
    return [name for name, entry in SCENARIOS.items() if row.number in entry.scenario.numbers]


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_there_are_52_rows_in_their_order() -> None:
    assert [row.number for row in ROWS] == list(range(1, 53))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_each_row_is_shown_by_something_that_exists(row: Row) -> None:
    assert row.open == "" or row.number in MAY_BE_OPEN
    assert scenarios_of(row) or row.tests or row.number in {32, 49}
    for test in row.tests:
        file, _, name = test.partition("::")
        assert name in functions_in(file), test


def test_each_scenario_belongs_to_a_row_and_is_in_the_page() -> None:
    assert FAMILIES
    page = PAGE.read_text("utf-8")
    for name, entry in SCENARIOS.items():
        assert set(entry.scenario.numbers) <= set(range(1, 53)), name
        assert f"`perdure torture --only {name}`" in page, name


def test_the_page_has_every_row_with_its_result() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    for row in ROWS:
        (line,) = [line for line in lines if line.startswith(f"| {row.number} | ")]
        assert row.fault in line
        assert "holds" in line or "open" in line or "not played" in line
    for row in ROWS:
        for test in row.tests:
            assert any(f"`{test}`" in line for line in lines), test


def test_no_promise_was_broken_when_the_page_was_written() -> None:
    assert "BROKEN" not in PAGE.read_text("utf-8")
