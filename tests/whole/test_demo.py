"""`perdure demo` tells the truth about what it reads, and what happens to its jobs is what its story says."""

import asyncio
import io
import json
import re
import shutil
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from perdure import Perdure
from perdure.demo.decay import Decayed
from perdure.demo.ending import decay, recalled, restored
from perdure.demo.lookback import Recalled, Restored
from perdure.demo.packages import PackageFacts, circles, import_graph, package_facts
from perdure.demo.screen import Screen
from perdure.demo.source import facts_of, module_of, package_of, python_files
from perdure.demo.story import Mended
from perdure.domain.execution_memory import ExecutionContext, Resolution, SimilarExecution
from perdure.domain.prediction import Action, Prediction, Reason
from perdure.domain.restore import Action as RestoreAction
from perdure.domain.restore import CaseCount, Circumstance, Phase, Restore
from perdure.domain.views import EventView
from perdure.runtime.embedded import wait_until_stopped
from perdure.runtime.settings import Settings
from perdure.stores.postgres.figures import Handover, KindFigures, KindProgress
from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command
from tests.support.servers import postgres_binaries
from tests.support.terminal import running

PATIENCE_S = 200.0
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PROMISES = ("S1", "S2", "S3", "S4", "S5", "S6", "S7")
CHAPTERS = (
    "the pipeline",
    "a busy storage",
    "a poison file",
    "a delayed job",
    "an urgent job",
    "a killed process",
    "a sick worker",
    "looking back",
    "seen before",
    "one graph",
    "the end",
)

TOLD = (
    r"w3: health 0\.\d+; predicted to fail .*memory fills; to do",
    r"w3 is evacuated by perdure: fails",
    r"w4 \S+ takes its place",
    r"looking back to .* UTC",
    r"like job \S+ before .* SyntaxError, .*, which was replayed by perdure demo: the file was mended",
    r"a wrong filter cancels \d+ of them",
    r"plan to restore the graph of job .* (\d+) jobs \(was live, has been cancelled since\): requeue",
    r"the plan is applied: done",
)


class Terminal(io.StringIO):
    """A stdout that a person looks at."""

    def isatty(self) -> bool:
        return True


def prediction(why: str) -> Prediction:
    return Prediction(
        worker_id=UUID(int=3),
        at=NOW,
        horizon=timedelta(minutes=5),
        probability=0.51,
        base=0.01,
        median=None,
        low=None,
        high=None,
        action=Action.EVACUATE,
        reasons=(Reason(what=why, probability_without=0.01),),
        samples=20,
        failures=0,
    )


def evacuated_by(actor: str) -> EventView:
    return EventView(at=NOW, event="worker_evacuating", actor=actor)


def indexed(*, attempts: int = 40) -> KindFigures:
    return KindFigures(
        kind="index",
        jobs=40,
        attempts=attempts,
        retries=0,
        rescued=0,
        dead_letters=0,
        replayed=0,
        completed=40,
        span_s=10.0,
        waits_s=(0.1, 0.2),
        runs_s=(0.5, 0.6),
    )


FIXED = Resolution(how="replayed", run=2, attempt=1, at=0.0, actor="perdure demo", reason="mended")


def similar(*, job: int = 1, resolved: Resolution | None = FIXED) -> SimilarExecution:
    execution = ExecutionContext(
        token=UUID(int=9),
        job_id=UUID(int=job),
        run=1,
        attempt=2,
        kind="analyse",
        queue="demo",
        outcome="failed",
        state="discarded",
        settled_at=0.0,
        embedder="hashing",
        resolved=resolved,
    )
    return SimilarExecution(similarity=0.9, execution=execution)


def case(circumstance: Circumstance, jobs: int, *, outcome: str = "done") -> CaseCount:
    return CaseCount(circumstance=circumstance, action=RestoreAction.REQUEUE, jobs=jobs, outcome=outcome)


ALL_BACK = (case(Circumstance.CANCELLED_SINCE, 5),)


def restore(*, phase: Phase = Phase.DONE, outcomes: tuple[CaseCount, ...] = ALL_BACK) -> Restore:
    return Restore(
        id=UUID(int=4),
        phase=phase,
        digest="d",
        at=NOW,
        source="s",
        scope={},
        policy={},
        rerun=(),
        actor="program",
        reason="",
        planned_at=NOW,
        begun_at=NOW,
        drain_by=None,
        before_at=NOW,
        ended_at=NOW,
        now=NOW,
        tolerance=0,
        undoes=None,
        holds=False,
        report="",
        cases=outcomes,
        outcomes=outcomes,
    )


def facts(*, files: int) -> PackageFacts:
    return replace(package_facts("p", "", []), files=files)


@pytest.fixture
def folder(scratch: Path) -> Path:
    """Real source: two packages of the standard library, and a file that is no Python."""
    library = Path(sysconfig.get_path("stdlib"))
    for package in ("json", "email"):
        shutil.copytree(library / package, scratch / "input" / package)
    (scratch / "input" / "old.py").write_text("print 'for Python 2'\n")
    return scratch / "input"


@pytest.mark.timeout(300)
def test_the_story_goes_as_it_should_on_embedded_servers(bare: Command, folder: Path, scratch: Path) -> None:
    postgres_binaries()
    with running(bare, "demo", "--input", str(folder), "--data-dir", str(scratch)) as demo:
        assert demo.ended(within_s=PATIENCE_S) == 0, demo.said
        for title in (*CHAPTERS, *PROMISES):
            demo_line = next(line for line in demo.lines if line.startswith(f"ok      {title:<16}"))
            assert demo_line
        for told in TOLD:
            assert re.search(told, demo.said), told
        total = next(line.split() for line in demo.lines if line.startswith("total"))
        progress = [at for at, line in zip(demo.times, demo.lines, strict=True) if "analyse " in line][:-1]
    _, jobs, attempts, retries, rescued, dead, replayed, *_ = total
    assert int(attempts) > int(jobs) > len(list(python_files(folder)))
    assert int(retries) >= 1
    assert int(rescued) >= 1
    cancelled = re.findall(r"a wrong filter cancels (\d+) of them", demo.said)
    assert (dead, int(replayed)) == ("2", 2 + int(cancelled[0])), (
        "run again: what was poison, and what was restored"
    )
    assert all(after - before > 0.9 for before, after in pairwise(progress)), "more than a line a second"
    _assert_true(json.loads((scratch / "demo" / "report.json").read_text()), folder)
    assert "## Most complex functions" in (scratch / "demo" / "report.md").read_text()
    assert not (scratch / "demo" / "postgres").exists(), "what nobody asked to keep is left"
    assert sorted(folder.rglob("*.py")) == sorted(folder / path for path in python_files(folder))


@pytest.mark.timeout(300)
def test_what_goes_otherwise_is_told_and_fails_the_demo(
    bare: Command, folder: Path, scratch: Path, empty_database_url: str
) -> None:
    """On a named server, in a schema of its own: somebody deletes the record of a finished job behind its back, and evacuates the sick worker
    before the leader does."""
    command = bare.with_database(empty_database_url)
    with running(command, "demo", "--input", str(folder / "json"), "--data-dir", str(scratch)) as demo:
        demo.wait_for("schema of its own: perdure_demo_", within_s=PATIENCE_S)
        demo.wait_for("scanned", within_s=PATIENCE_S)
        (schema,) = _schemas(empty_database_url)
        _forget_a_finished_job(empty_database_url, schema)
        demo.wait_for("w3 has a new release", within_s=PATIENCE_S)
        (title,) = re.findall(r"and w3 \((\S+)\)", demo.said)
        asyncio.run(_evacuate(empty_database_url, schema, title))
        assert demo.ended(within_s=PATIENCE_S) == Exit.FAILED, demo.said
    assert any(line.startswith("BROKEN") and "S1" in line for line in demo.lines), demo.said
    assert any(re.match(r"BROKEN +a sick worker .*evacuated by program", line) for line in demo.lines), (
        demo.said
    )
    assert demo.lines[-1] == "NOT all is well"
    assert _schemas(empty_database_url) == []


@pytest.mark.timeout(300)
def test_ctrl_c_ends_it_with_its_servers(bare: Command, folder: Path, scratch: Path) -> None:
    postgres_binaries()
    with running(bare, "demo", "--input", str(folder), "--data-dir", str(scratch)) as demo:
        demo.wait_for("scanned", within_s=PATIENCE_S)
        demo.interrupt()
        assert demo.ended() == 130
    assert "Traceback" not in demo.said
    assert wait_until_stopped(scratch / "demo", within_s=20)
    assert "worker stopped" in (scratch / "demo" / "worker.log").read_text()


@pytest.mark.parametrize(
    "otherwise",
    [
        {"prediction": None},
        {"prediction": prediction("jobs fail")},
        {"evacuation": None},
        {"evacuation": evacuated_by("somebody")},
        {"code": -9},
        {"handover": Handover(moved=0, finished=0, amiss=0)},
        {"handover": Handover(moved=5, finished=3, amiss=1)},
        {"done_by_heir": 0},
    ],
    ids=str,
)
def test_a_sick_worker_must_be_foretold_evacuated_and_replaced(otherwise: dict[str, Any]) -> None:
    went = Decayed(
        name="w3",
        prediction=prediction("memory fills"),
        evacuation=evacuated_by("perdure"),
        code=0,
        handover=Handover(moved=5, finished=3, amiss=0),
        heir="w4",
        done_by_heir=9,
    )
    assert decay(went, indexed()).ok
    assert not decay(went, indexed(attempts=41)).ok
    assert not decay(replace(went, **otherwise), indexed()).ok


@pytest.mark.parametrize(
    "otherwise",
    [
        {"before": similar(job=7)},
        {"before": similar(resolved=None)},
        {"fixed": False},
    ],
    ids=["another failure", "nothing fixed it", "its fix does not help"],
)
def test_the_failure_that_was_fixed_before_must_be_found(otherwise: dict[str, Any]) -> None:
    mended = Mended(job=UUID(int=1), fingerprint="f", error="SyntaxError", letters=1, replayed=1)
    went = Recalled(job=UUID(int=2), before=similar(), fixed=True)
    assert recalled(went, mended).ok
    assert not recalled(replace(went, **otherwise), mended).ok


@pytest.mark.parametrize(
    "otherwise",
    [
        {"restore": restore(phase=Phase.BROKEN), "facts": None},
        {"restore": restore(outcomes=(case(Circumstance.CANCELLED_SINCE, 4),))},
        {
            "restore": restore(
                outcomes=(case(Circumstance.CANCELLED_SINCE, 5), case(Circumstance.FAILED_SINCE, 1))
            )
        },
        {"restore": restore(outcomes=(case(Circumstance.CANCELLED_SINCE, 5, outcome="moved"),))},
        {"cancelled": 0, "restore": restore(outcomes=())},
        {"facts": facts(files=4)},
    ],
    ids=["broken", "too few", "too many", "not done", "nothing was damaged", "not whole"],
)
def test_the_damaged_graph_and_nothing_else_must_come_back(otherwise: dict[str, Any]) -> None:
    went = Restored(
        package="p", files=5, jobs=7, cancelled=5, snapshot="s", restore=restore(), facts=facts(files=5)
    )
    assert restored(went).ok
    assert not restored(replace(went, **otherwise)).ok


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


async def _evacuate(url: str, schema: str, name: str) -> None:
    async with Perdure(Settings.model_validate({"database_url": url, "schema": schema})) as app:
        (worker,) = (one for one in await app.workers.list() if one.name == name)
        await app.health.evacuate(worker.id)


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
