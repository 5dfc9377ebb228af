"""Applications that cannot be used, or only in part, as somebody meets them who starts a worker."""

import os
import signal
from pathlib import Path

import pytest

from perdure.runtime.current_application import noted, noted_application
from perdure.runtime.embedded.layout import Layout
from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command

JOBS = """
import perdure
@perdure.job
async def greet() -> None: ...
@perdure.job(queue="media")
async def resize() -> None: ...
app = 1
"""
LIVELY = """
import os, subprocess, threading, time
os.write(1, b"noise")
subprocess.run(["echo", "noise"])
assert os.environ["PERDURE_DATABASE_URL"] == "postgresql://localhost:1/none"
threading.Thread(target=time.sleep, args=(1000,)).start()
with open("pid", "w") as file:
    file.write(str(subprocess.Popen(["sleep", "1000"]).pid))
"""
NOWHERE = "postgresql://localhost:1/none"
BROKEN = {
    "missing.py": ("from json import nothing_such\n", "missing.py:1: ImportError: cannot import name"),
    "unclosed.py": ("x = 1\ny = (\n", "unclosed.py:2: SyntaxError: '(' was never closed"),
    "deeper.py": ("import json\n\njson.loads('{')\n", "deeper.py:3: JSONDecodeError: Expecting property"),
    "leaving.py": ("import sys\nsys.exit(0)\n", "leaving.py:2: SystemExit: 0"),
    "empty.py": ("x = 1\n", "empty.py defines and imports no job"),
    "dying.py": ("import os\nos._exit(7)\n", "its process ended with code 7"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_worker_does_not_start_for_an_application_that_is_broken(bare: Command, name: str) -> None:
    """It is refused by the user's own line before a database is asked: no row of a worker, no leader."""
    code, said = BROKEN[name]
    (bare.folder / name).write_text(code)
    ended = bare("worker", "run", name, "--database-url", NOWHERE)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert said in ended.err.splitlines()[0], ended.err
    assert "PERDURE-1013" in ended.err
    assert "Traceback" not in ended.err


def test_the_traceback_of_an_application_comes_when_asked_for(bare: Command) -> None:
    (bare.folder / "deeper.py").write_text(BROKEN["deeper.py"][0])
    with_database = bare.with_database(NOWHERE)
    assert "json.loads('{')" in with_database("worker", "run", "deeper.py", "-v", "-v").err


def test_an_attribute_that_is_not_there_is_refused_with_the_nearest(bare: Command) -> None:
    (bare.folder / "attributed.py").write_text(JOBS)
    for words in (["worker", "run"], ["job", "enqueue", "attributed.greet", "--dry-run", "--app"]):
        for name, step in (("ap", "did you mean app?"), ("zzz", "leave it out: attributed.py")):
            ended = bare.with_database(NOWHERE)(*words, f"attributed.py:{name}")
            assert ended.code == Exit.USAGE, ended.err
            assert f"attributed.py has no '{name}'\n  next: {step}" in ended.err
    assert (
        bare("job", "enqueue", "attributed.greet", "--dry-run", "--app", "attributed.py:app").code
        == Exit.DONE
    )


def test_a_queue_that_a_worker_leaves_out_is_named(bare: Command) -> None:
    (bare.folder / "queued.py").write_text(JOBS)
    worker = ("worker", "run", "queued.py", "--database-url", NOWHERE)
    warning = "warning: queued.resize is enqueued on queue media, which this worker does not serve"
    assert f"{warning}: --queues default,media\n" in bare(*worker).err
    assert "warning" not in bare(*worker, "--queues", "default,media").err


def test_an_application_may_write_read_the_settings_and_start_what_lasts(bare: Command) -> None:
    """It is tried out as the processes of the worker import it, and nothing that it leaves running is waited for."""
    (bare.folder / "lively.py").write_text(LIVELY + JOBS)
    ended = bare("worker", "run", "lively.py", "--database-url", NOWHERE)
    os.kill(int((bare.folder / "pid").read_text()), signal.SIGKILL)
    assert "warning: lively.resize is enqueued on queue media" in ended.err
    assert ended.code == Exit.UNREACHABLE


def test_a_second_note_leaves_the_first_and_names_who_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Layout(tmp_path).prepare()
    for name in ("first.py", "second.py"):
        (tmp_path / name).touch()
    with noted(tmp_path, "first.py") as alone:
        assert alone is None
        with noted(tmp_path, "second.py") as other:
            assert other == os.getpid()
            assert noted_application(tmp_path) == "first.py"
        assert noted_application(tmp_path) == "first.py", "who came second takes no note away"
    assert noted_application(tmp_path) == "first.py", "what ran last can still be asked"
    (tmp_path / "first.py").unlink()
    assert noted_application(tmp_path) == ""
    with noted(tmp_path, "a.module") as alone:
        assert alone is None
