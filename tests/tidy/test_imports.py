"""What is imported when: the package and quick commands pull in nothing that they do not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import perdure
from perdure.surfaces.cli.program import COMMANDS

HEAVY = (
    "asyncpg",
    "cyclopts",
    "numpy",
    "psutil",
    "psycopg",
    "pydantic",
    "redis",
    "rich",
    "structlog",
    "uvloop",
)

HELP_PAGES = (
    *((name,) for name, _, _ in COMMANDS),
    ("job", "list"),
    ("job", "enqueue"),
    ("queue", "list"),
    ("dlq", "replay"),
    ("db", "migrate"),
    ("config", "show"),
    ("worker", "run"),
)


def imported_by(script: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize(
    ("script", "further"),
    [
        ("import perdure", ("asyncio", "msgspec", "importlib.metadata")),
        ("from perdure import Perdure, job", ()),
        ("from perdure.surfaces.cli import main; main(['--version'])", ("asyncio", "msgspec", "email")),
    ],
)
def test_an_import_pulls_in_nothing_heavy(script: str, further: tuple[str, ...]) -> None:
    """A bound on time would only measure how busy the machine is; this is what the time goes into."""
    found = imported_by(f"{script}; import sys; print(*sys.modules, file=sys.stderr)")
    assert "perdure" in found
    assert found & {*HEAVY, *further} == set()


@pytest.mark.parametrize("words", HELP_PAGES, ids=" ".join)
def test_a_help_page_pulls_in_no_driver_and_no_settings(words: tuple[str, ...]) -> None:
    """It needs the tree of commands and what draws the page; the commands import the rest when they run."""
    script = f"from perdure.surfaces.cli import main; main({[*words, '--help']})"
    found = imported_by(f"{script}; import sys; print(*sys.modules, file=sys.stderr)")
    assert found & {*HEAVY, "asyncio"} == {"cyclopts", "rich"}


def test_each_public_name_is_there_and_known_to_type_checkers() -> None:
    tree = ast.parse(Path(perdure.__file__).read_text("utf-8"))
    told = {
        name.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("perdure.")
        for name in node.names
    }
    assert sorted(told) == sorted(perdure.__all__) == sorted(dir(perdure))
    for name, home in told.items():
        value = getattr(perdure, name)
        assert value is getattr(sys.modules[str(home)], name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = perdure.nonsense  # type: ignore[attr-defined]
