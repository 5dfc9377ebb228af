"""What type checkers accept and refuse; to add a file of cases, name it `cases_*.py` and mark its wrong lines."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CASES = sorted(HERE.glob("cases_*.py"))
MARK = re.compile(r"  # E: ")


def marked(path: Path) -> set[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if MARK.search(line)}


def refused_by_mypy(path: Path, cache: Path) -> set[int]:
    options = [
        "--strict",
        "--no-error-summary",
        "--hide-error-context",
        "--no-pretty",
        "--cache-dir",
        str(cache),
    ]
    done = run("mypy", *options, str(path))
    found = re.findall(rf"^[^\n]*{re.escape(path.name)}:(\d+): error:", done.stdout, re.MULTILINE)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return {int(line) for line in found}


def refused_by_pyright(path: Path) -> set[int]:
    done = run("pyright", "--outputjson", str(path))
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    diagnostics = json.loads(done.stdout)["generalDiagnostics"]
    return {d["range"]["start"]["line"] + 1 for d in diagnostics if d["severity"] == "error"}


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_mypy_refuses_the_wrong_lines_and_no_others(path: Path, tmp_path: Path) -> None:
    assert refused_by_mypy(path, tmp_path) == marked(path)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_pyright_refuses_the_wrong_lines_and_no_others(path: Path) -> None:
    assert refused_by_pyright(path) == marked(path)
