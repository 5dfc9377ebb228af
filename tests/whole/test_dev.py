"""`perdure dev` keeps a worker on the newest code, ends as it is told to, and keeps its data."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perdure.domain.errors import BrokenApplication
from perdure.runtime.changes import Changes, stamps
from perdure.runtime.embedded import wait_until_stopped
from perdure.runtime.merged_log import entry_of
from perdure.runtime.trial import JobOfApp, try_out
from perdure.surfaces.cli.dev import example
from tests.support.command import Command
from tests.support.servers import postgres_binaries
from tests.support.terminal import Running, running

READY = "process ready"
APPLICATION = """
import time
from pathlib import Path
from perdure import job

@job(queue="other")
def greet(name: str) -> str:
    print("hello", name)
    return f"hello {name}"

@job
def wait_for(path: str) -> None:
    print("waiting")
    while not Path(path).exists():
        time.sleep(0.01)
    print("waited")

@job(retries=0)
def divide(by: int) -> float:
    return 1 / by
"""


@pytest.fixture
def here(bare: Command, scratch: Path) -> Command:
    """The command line in a folder with an application."""
    postgres_binaries()
    (scratch / "app.py").write_text(APPLICATION)
    return Command(scratch, bare.variables)


def enqueue(here: Command, *words: str) -> None:
    """From another terminal in the same folder."""
    with running(here, "job", "enqueue", *words) as command:
        assert command.ended() == 0, command.said


def rewrite(here: Command, text: str) -> None:
    (here.folder / "app.py").write_text(text)


@pytest.mark.timeout(240)
def test_new_code_is_taken_over_and_broken_code_is_waited_out(here: Command) -> None:
    with running(here, "dev", "app.py") as dev:
        dev.wait_for("postgresql://")
        dev.wait_for("perdure job enqueue app.greet --args '{\"name\": …}'")
        line = dev.wait_for(READY)
        enqueue(here, "app.greet", "--args", '{"name": "you"}')
        line = dev.wait_for("output .*hello you", after=line)

        rewrite(here, APPLICATION.replace('"hello"', '"good day"') + "\ndef broken(:\n")
        line = dev.wait_for("SyntaxError", after=line)
        with running(here, "job", "enqueue", "app.greet") as command:
            assert command.ended() == 2, command.said
            assert re.search(
                r"app\.py cannot be imported: app\.py:\d+: SyntaxError: invalid syntax\n", command.said
            )
        enqueue(here, "app.greet", "--app", "", "--queue", "other", "--args", '{"name": "still"}')
        line = dev.wait_for("hello still", after=line)

        rewrite(here, APPLICATION.replace('"hello"', '"good day"'))
        line = dev.wait_for("draining", after=line)
        line = dev.wait_for(READY, after=line)
        enqueue(here, "app.greet", "--queue", "other", "--args", '{"name": "again"}')
        dev.wait_for("good day again", after=line)
        dev.interrupt()
        assert dev.ended() == 0, dev.said


PROGRAM = """
from perdure import Perdure
from app import greet

print(Perdure().enqueue_sync(greet, "program").result_sync(timeout="30s"))
"""


@pytest.mark.timeout(240)
def test_a_program_in_the_same_folder_finds_the_servers_each_time_they_start(here: Command) -> None:
    (here.folder / "program.py").write_text(PROGRAM)
    addresses = set()
    for options in ((), ("--redis",)):
        with running(here, "dev", "app.py", *options) as dev:
            line = dev.wait_for("postgresql://")
            addresses.add(dev.lines[line - 1])
            dev.wait_for(READY)
            done = run_program(here, "program.py")
            assert (done.returncode, done.stdout, done.stderr) == (0, "hello program\n", "")
            dev.interrupt()
            assert dev.ended() == 0, dev.said
    assert len(addresses) == 1, "the address stays from start to start"
    assert wait_until_stopped(here.folder / ".perdure")
    away = run_program(here, "program.py")
    assert away.returncode == 1
    assert f"next: run `perdure dev app.py` in {here.folder}" in away.stderr


def run_program(here: Command, name: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    command = [sys.executable, "-W", "always", name]
    return subprocess.run(
        command, cwd=here.folder, env=kept, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.timeout(240)
def test_ctrl_c_drains_and_a_second_one_kills(here: Command) -> None:
    with running(here, "dev", "app.py") as dev:
        _wait_in_a_job(here, dev, "first")
        dev.interrupt()
        line = dev.wait_for("worker +draining")
        (here.folder / "first").touch()
        dev.wait_for("waited", after=line)
        assert dev.ended() == 0, dev.said
    with running(here, "dev", "app.py") as dev:
        _wait_in_a_job(here, dev, "second")
        dev.interrupt()
        dev.wait_for("worker +draining")
        began = time.monotonic()
        dev.interrupt()
        assert dev.ended() == 130, dev.said
        assert time.monotonic() - began < 15, "it waited for the job"
    assert _states(here) == {"completed": 1, "available": 1}, "the job that was cut off is given back"


@pytest.mark.timeout(240)
def test_data_stays_unless_a_fresh_start_is_wanted(here: Command) -> None:
    for words, expected in (((), {}), ((), {"completed": 1}), (("--fresh",), {})):
        with running(here, "dev", "app.py", *words) as dev:
            line = dev.wait_for(READY)
            assert _states(here) == expected
            if not words and not expected:
                enqueue(here, "app.greet", "--queue", "other", "--args", '{"name": "you"}')
                dev.wait_for("hello you", after=line)
            dev.interrupt()
            assert dev.ended() == 0, dev.said


@pytest.mark.timeout(240)
def test_a_first_version_that_is_broken_is_waited_out(here: Command, database_url: str) -> None:
    """On a server that is named, too: nothing embedded is started."""
    rewrite(here, "1 / 0\n")
    with running(here.with_database(database_url), "dev", "app.py") as dev:
        line = dev.wait_for("ZeroDivisionError")
        rewrite(here, APPLICATION)
        dev.wait_for(READY, after=line)
        dev.interrupt()
        assert dev.ended() == 0, dev.said
    assert not (here.folder / ".perdure").exists()


@pytest.mark.timeout(240)
def test_a_failure_is_told_with_its_traceback_and_a_worker_that_is_killed_is_replaced(
    here: Command, database_url: str
) -> None:
    named = here.with_database(database_url)
    with running(named, "dev", "app.py") as dev:
        line = dev.wait_for(READY)
        enqueue(named, "app.divide", "--args", '{"by": 0}')
        line = dev.wait_for("attempt failed kind=app.divide .*ZeroDivisionError", after=line)
        line = dev.wait_for("return 1 / by", after=line)
        (worker,) = (
            one
            for one in psutil.Process(dev.process.pid).children()
            if "perdure.runtime.spawned" in " ".join(one.cmdline())
        )
        worker.kill()
        line = dev.wait_for("the worker ended by SIGKILL; another starts in 1 s", after=line)
        line = dev.wait_for(READY, after=line)
        enqueue(named, "app.greet", "--queue", "other", "--args", '{"name": "again"}')
        dev.wait_for("hello again", after=line)
        dev.interrupt()
        assert dev.ended() == 0, dev.said


def test_a_named_database_is_never_emptied(here: Command, database_url: str) -> None:
    ended = here.with_database(database_url)("dev", str(here.folder / "app.py"), "--fresh")
    assert ended.code == 2
    assert "only the data of embedded servers" in ended.err


async def test_an_application_is_tried_out_apart(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("print('noise')\n" + APPLICATION)
    jobs = {job.name: job for job in await try_out(str(path))}
    assert jobs["app.greet"] == JobOfApp(name="app.greet", queue="other", parameters=["name"])
    path.write_text("import perdure\nx = 1\nraise ValueError('mine')\n")
    with pytest.raises(BrokenApplication, match=r"app\.py:3: ValueError: mine") as refusal:
        await try_out(str(path))
    assert "raise ValueError('mine')" in refusal.value.trace
    assert "perdure/runtime" not in refusal.value.trace, "the traceback begins in the user's code"
    path.write_text("x = 1\n")
    with pytest.raises(BrokenApplication, match="defines and imports no job"):
        await try_out(str(path))


async def test_changes_are_those_of_source_files(tmp_path: Path) -> None:
    for name in ("app.py", ".hidden/a.py", "venv/b.py", "venv/pyvenv.cfg", "text.txt", "inner/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert set(stamps(tmp_path)) == {"app.py", "inner/c.py"}
    changes = Changes(tmp_path, look_s=0.001)
    (tmp_path / "app.py").write_text("x = 1")
    (tmp_path / "inner" / "c.py").unlink()
    (tmp_path / "text.txt").write_text("other")
    assert await changes.next() == ["app.py", "inner/c.py"]
    assert stamps(tmp_path / "nowhere") == {}


def test_entries_of_the_merged_log_name_who_speaks() -> None:
    own = entry_of('{"event": "settled", "jobs": 3, "process": "process 2", "level": "info"}')
    assert (own.source, own.text, own.level) == ("process 2", "settled jobs=3", "info")
    supervisor = entry_of('{"event": "process ready", "process": 1, "timestamp": "2030-01-31T12:00:00Z"}')
    assert (supervisor.source, supervisor.text) == ("worker", "process ready process=1")
    assert supervisor.at is not None
    for printed in ("plain text", "[1, 2]", '{"not": "ours"}', ""):
        assert (entry_of(printed).source, entry_of(printed).text) == ("output", printed)


def test_the_example_can_be_copied() -> None:
    bare = JobOfApp(name="app.tidy", queue="default", parameters=[])
    assert example(bare) == "perdure job enqueue app.tidy"


def test_the_example_names_what_the_command_would_not_find() -> None:
    job = JobOfApp(name="app.tidy", queue="media", parameters=["n"])
    words = "perdure job enqueue app.tidy --app app.py --args"
    assert example(job, application="app.py").startswith(words)


def _wait_in_a_job(here: Command, dev: Running, name: str) -> None:
    line = dev.wait_for(READY)
    enqueue(here, "app.wait_for", "--args", f'{{"path": "{here.folder / name}"}}')
    dev.wait_for("output .*waiting", after=line)


def _states(here: Command) -> dict[str, int]:
    with running(here, "job", "list", "-o", "csv", "--fields", "state") as command:
        assert command.ended() == 0, command.said
        states = [line for line in command.lines if line and line != "state"]
    return {state: states.count(state) for state in set(states)}
