"""What the documentation shows is there: commands with their options, imports, and all that a wheel needs."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HELD = re.compile(r"`(perdure [^`]+)`")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for match in BLOCK.finditer(page.read_text("utf-8")):
        if match[1] in languages:
            yield match[2]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command that a page shows after a prompt, and of those in the text."""
    text = "\n".join(blocks(page, "console", "sh", "bash"))
    shown = re.findall(r"^\$ (?:.* )?(perdure .*)$", text, re.MULTILINE)
    for line in [*shown, *HELD.findall(page.read_text("utf-8"))]:
        try:
            yield shlex.split(line, comments=True)[1:]
        except ValueError:
            continue  # a quotation that goes on in the next line


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def here(tmp_path: Path) -> Command:
    return Command(tmp_path, {"COLUMNS": "400"})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_in_the_documentation_is_one(page: Path, here: Command) -> None:
    for words in commands(page):
        names: list[str] = []
        for word in words:
            if not re.fullmatch(r"[a-z]+", word) or len(names) == 2:
                break
            names.append(word)
        helps = [here(*names[:count], "--help") for count in range(len(names), 0, -1)]
        shown = next((one.out for one in helps if one.code == 0), "")
        assert shown or words[:1] == ["--version"], words
        for option in (word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)):
            assert option in shown or option in {"--help", "--version"}, (
                f"{option} of perdure {' '.join(words)}"
            )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_example_is_python_and_imports_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        tree = compile(block, name_of(page), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "perdure":
                module = importlib.import_module(str(node.module))
                assert [one.name for one in node.names if not hasattr(module, one.name)] == []


def test_the_wheel_has_all_that_the_program_needs(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = ROOT / "src"
    suffixes = {".py", ".sql", ".lua", ".md", ".typed"}
    needed = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.suffix in suffixes}
    assert needed - names == set()
    assert any(name.endswith("LICENSE") for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)
