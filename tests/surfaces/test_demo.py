"""`perdure demo` tells the truth about what it reads, and what happens to its jobs is what its story says."""

import io
import json
import shutil
import sysconfig
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from perdure.demo.packages import circles, import_graph, package_facts
from perdure.demo.screen import Screen
from perdure.demo.source import facts_of, module_of, package_of, python_files
from perdure.runtime.embedded import wait_until_stopped
from perdure.stores.postgres.figures import KindProgress
from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command
from tests.support.servers import postgres_binaries
from tests.support.terminal import running

PATIENCE_S = 150.0
PROMISES = ("S1", "S2", "S3", "S4", "S5", "S6", "S7")
CHAPTERS = (
    "the pipeline",
    "a busy storage",
    "a poison file",
    "a delayed job",
    "an urgent job",
    "a killed process",
    "the end",
)


class Terminal(io.StringIO):
    """A stdout that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(scratch: Path) -> Path:
    """Real source: two packages of the standard library, and a file that is no Python."""
    library = Path(sysconfig.get_path("stdlib"))
    for package in ("json", "email"):
        shutil.copytree(library / package, scratch / "input" / package)
    (scratch / "input" / "old.py").write_text("print 'for Python 2'\n")
    return scratch / "input"


@pytest.mark.timeout(240)
def test_the_story_goes_as_it_should_on_embedded_servers(bare: Command, folder: Path, scratch: Path) -> None:
    postgres_binaries()
    with running(bare, "demo", "--input", str(folder), "--data-dir", str(scratch)) as demo:
        assert demo.ended(within_s=PATIENCE_S) == 0, demo.said
        for title in (*CHAPTERS, *PROMISES):
            demo_line = next(line for line in demo.lines if line.startswith(f"ok      {title:<16}"))
            assert demo_line
        total = next(line.split() for line in demo.lines if line.startswith("total"))
        progress = [at for at, line in zip(demo.times, demo.lines, strict=True) if "analyse " in line][:-1]
    _, jobs, attempts, retries, rescued, dead, replayed, *_ = total
    assert int(attempts) > int(jobs) > len(list(python_files(folder)))
    assert int(retries) >= 1
    assert int(rescued) >= 1
    assert (dead, replayed) == ("1", "1")
    assert all(after - before > 0.9 for before, after in pairwise(progress)), "more than a line a second"
    _assert_true(json.loads((scratch / "demo" / "report.json").read_text()), folder)
    assert "## Most complex functions" in (scratch / "demo" / "report.md").read_text()
    assert not (scratch / "demo" / "postgres").exists(), "what nobody asked to keep is left"
    assert sorted(folder.rglob("*.py")) == sorted(folder / path for path in python_files(folder))


@pytest.mark.timeout(240)
def test_a_broken_promise_is_told_and_fails_the_demo(
    bare: Command, folder: Path, scratch: Path, empty_database_url: str
) -> None:
    """On a named server, in a schema of its own: somebody deletes the record of a finished job behind its back."""
    command = bare.with_database(empty_database_url)
    with running(command, "demo", "--input", str(folder / "json"), "--data-dir", str(scratch)) as demo:
        demo.wait_for("schema of its own: perdure_demo_")
        demo.wait_for("scanned")
        (schema,) = _schemas(empty_database_url)
        _forget_a_finished_job(empty_database_url, schema)
        assert demo.ended(within_s=PATIENCE_S) == Exit.FAILED, demo.said
    assert any(line.startswith("BROKEN") and "S1" in line for line in demo.lines), demo.said
    assert demo.lines[-1] == "NOT all is well"
    assert _schemas(empty_database_url) == []


@pytest.mark.timeout(240)
def test_ctrl_c_ends_it_with_its_servers(bare: Command, folder: Path, scratch: Path) -> None:
    postgres_binaries()
    with running(bare, "demo", "--input", str(folder), "--data-dir", str(scratch)) as demo:
        demo.wait_for("scanned")
        demo.interrupt()
        assert demo.ended() == 130
    assert "Traceback" not in demo.said
    assert wait_until_stopped(scratch / "demo", within_s=20)
    assert "worker stopped" in (scratch / "demo" / "worker.log").read_text()


def test_a_folder_without_source_is_refused_before_anything_starts(bare: Command, tmp_path: Path) -> None:
    ended = bare("demo", "--input", str(tmp_path))
    assert ended.code == 2
    assert "no Python source" in ended.err
    assert bare("demo", "--input", str(tmp_path / "nowhere")).code == 2


def test_on_a_terminal_there_are_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", terminal)
    screen = Screen()
    screen.progress({"analyse": KindProgress(kind="analyse", jobs=40, completed=10, discarded=0, failures=2)})
    screen.say("something happens")
    screen.stop()
    shown = terminal.getvalue()
    assert "analyse the files" in shown
    assert "10/40" in shown
    assert "2 attempts failed" in shown
    assert "something happens" in shown


def test_figures_of_a_file_are_those_counted_by_hand() -> None:
    source = b"""
import os, a.b
from .sibling import one
from . import cousin
from .. import aunt

def plain(): return 1

async def branches(items):
    if items and os.name or not items:
        for item in items:
            while item: pass
    return [x for x in items if x if not x]

class Holder:
    def method(self):
        try: return 1 if self else 2
        except OSError: pass
"""
    facts = facts_of(source, "pack/inner/module.py")
    assert (facts.functions, facts.classes, facts.lines, facts.size) == (3, 1, 18, len(source))
    assert [(f.name, f.complexity) for f in facts.worst] == [("branches", 9), ("method", 3), ("plain", 1)]
    assert facts.imports == ("a.b", "os", "pack.aunt", "pack.inner.cousin", "pack.inner.sibling")
    assert facts.complexity == 13


def test_names_of_packages_and_modules() -> None:
    assert [package_of(path) for path in ("a.py", "b/c.py", "b/d/__init__.py")] == ["", "b", "b.d"]
    assert [module_of(path) for path in ("a.py", "b/c.py", "b/d/__init__.py")] == ["a", "b.c", "b.d"]


def test_the_import_graph_has_its_edges_and_circles() -> None:
    sources = {
        "a/__init__.py": b"import b, os",
        "b/__init__.py": b"import a",
        "c/__init__.py": b"import b, c",
    }
    packages = [package_facts(package_of(path), "", [facts_of(text, path)]) for path, text in sources.items()]
    graph = import_graph(packages)
    assert (graph.edges, graph.outside, graph.circles) == (3, 1, (("a", "b"),))
    assert graph.most_needed == (("b", 2), ("a", 1))
    assert circles({"x": {"x"}, "y": set()}) == (("x",),)


def _assert_true(report: dict[str, object], folder: Path) -> None:
    """The report's sums against a count by other means: the tokens of the language in place of its tree."""
    files = [path for path in folder.rglob("*.py") if path.name != "old.py"]
    words = [word for path in files for word in _words(path)]
    every = [*files, folder / "old.py"]
    totals = report["totals"]
    assert isinstance(totals, dict)
    assert totals.pop("complexity") > totals["functions"]
    assert totals == {
        "packages": len({path.parent for path in every}),
        "files": len(every),
        "faults": 1,
        "size": sum(path.stat().st_size for path in every),
        "lines": sum(len(path.read_bytes().splitlines()) for path in every),
        "functions": words.count("def"),
        "classes": words.count("class"),
    }
    assert report["faults"] == ["old.py: Missing parentheses in call to 'print'. Did you mean print(...)?"]


def _words(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        yield from (token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME)


def _schemas(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'perdure_demo_%'")
        return [name for (name,) in rows]


def _forget_a_finished_job(url: str, schema: str) -> None:
    """Delete the history of one completed job, past the guards that would refuse it."""
    forget = sql.SQL(
        "DELETE FROM {executions} WHERE job_id = (SELECT job_id FROM {executions} WHERE outcome = 'completed' LIMIT 1)"
    ).format(executions=sql.Identifier(schema, "job_executions"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        while connection.execute(forget).rowcount == 0:
            connection.execute("SELECT pg_sleep(0.05)")
