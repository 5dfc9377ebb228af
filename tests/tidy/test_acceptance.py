"""The page of promises names tests that exist, for every promise."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "acceptance.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NOT_YET = re.compile(r"not yet: \S.{10,}")


def rows() -> Iterator[tuple[str, str]]:
    """What each row promises, and its cell of tests."""
    for line in PAGE.read_text("utf-8").splitlines():
        cells = re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))
        if line.startswith("| ") and cells[-1] not in {"Tests", "---"}:
            yield cells[0], cells[-1]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests of a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_every_promise_has_a_test_or_a_reason() -> None:
    found = list(rows())
    assert len(found) > 100
    assert [
        promise for promise, cell in found if not NAMED.search(cell) and not NOT_YET.fullmatch(cell)
    ] == []


def test_every_test_that_is_named_exists() -> None:
    named = {match for _, cell in rows() for match in NAMED.findall(cell)}
    assert [f"{path}::{name}" for path, name in sorted(named) if name not in names_in(path)] == []


def test_a_promise_stands_once() -> None:
    promises = [promise for promise, _ in rows()]
    assert len(promises) == len(set(promises))


@pytest.mark.parametrize("tool", ["ruff", "mypy", "pyright", "lint-imports"])
def test_the_check_runs_linter_types_and_floors(tool: str) -> None:
    """`make check` and `make test` are what the whole check of a fresh clone runs."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    check = makefile.partition("\ncheck:")[2].partition("\n\n")[0]
    assert re.search(rf"\$\(BIN\)/{tool}\b", check)
    assert "--lines 80 --branches 70" in makefile
    whole = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "\nmake check\n" in whole
    assert "\nmake test || {\n" in whole


def test_each_folder_of_tests_is_run() -> None:
    named = re.findall(
        r"^\w*COUNTED +:= \$\(addprefix tests/,([\w ]+)\)$",
        (ROOT / "Makefile").read_text("utf-8"),
        re.MULTILINE,
    )
    folders = {
        path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert sorted(folder for line in named for folder in line.split()) == sorted(folders)
