"""The README and the tutorial are followed word for word, with the wheel in an environment of its own."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.servers import postgres_binaries
from tests.support.terminal import Running

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f-]{27}$", re.MULTILINE)
STAYS = re.compile(r"perdure (dev|worker run)\b")
READY = "process ready"
NOT_HERE = {
    "make demo": "has tests of its own",
    "make test": "is what runs this",
    "python3 -m venv .venv && . .venv/bin/activate": "the environment is made once for both pages",
    "pip install 'perdure[embedded]'": "the same; the wheel is that of this checkout",
    ". ../.venv/bin/activate": "the same",
}
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which `make dist` works, and beside it an empty environment."""
    stamp = ROOT / ".venv" / ".setup-stamp"
    if not stamp.exists():
        pytest.skip("`make dist` needs what `make setup` makes")
    postgres_binaries()
    folder = tmp_path_factory.mktemp("readme")
    for name in ("src", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "README.md", "LICENSE", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
        os.utime(folder / name, (0, 0))  # older than the stamp: the set-up of this checkout serves
    (folder / ".venv").symlink_to(ROOT / ".venv")
    subprocess.run([sys.executable, "-m", "venv", folder / "own"], check=True)
    return folder


@dataclass
class Reader:
    """Somebody who types what a page shows, in one terminal, and leaves what stays running in another."""

    folder: Path
    environment: dict[str, str]
    stack: ExitStack
    said: dict[str, str] = field(default_factory=dict)
    last_id: str = ""
    dev: "Running | None" = None

    def type(self, line: str) -> None:
        """Run one line to its end, or, when it is one that stays, until it is ready."""
        line = line.replace(" ID", f" {self.last_id}")
        if STAYS.search(line):
            self.leave_running(line)
            return
        here = self.folder / ".here"
        script = f"set -e\n{line}\npwd > {here}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        self.said[line] = done.stdout
        if found := UUID.findall(done.stdout):
            self.last_id = found[-1]
        for name, value in re.findall(r"^export (\w+)=(\S+)$", line, re.MULTILINE):
            self.environment[name] = shlex.split(value)[0]
        self.folder = Path(here.read_text().strip())

    def leave_running(self, line: str) -> None:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.dev = Running(process)
        self.stack.callback(self.end, self.dev)
        self.dev.wait_for(READY, within_s=PATIENCE_S)

    def end(self, left: Running) -> None:
        """Ctrl-C, as often as it takes."""
        if left.process.poll() is None:
            left.interrupt()
            assert left.ended() == 0, left.said
        for stream in (left.process.stdout, left.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def reader(place: Path) -> Iterator[Reader]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PERDURE_", "VIRTUAL_", "COV"))
    }
    path = f"{place / 'own' / 'bin'}:{kept['PATH']}"
    with ExitStack() as stack:
        yield Reader(place, {**kept, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}, stack)


def lines_of(block: str) -> list[str]:
    """What stands after a prompt, without the remarks."""
    return [re.sub(r"\s{2,}#.*$", "", line[2:]) for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.timeout(600)
def test_the_readme_is_true_word_for_word(place: Path, reader: Reader, empty_database_url: str) -> None:
    for language, block in BLOCK.findall((ROOT / "README.md").read_text("utf-8")):
        if language == "python":
            (place / block.splitlines()[0].removeprefix("# ")).write_text(block)
            continue
        for line in lines_of(block):
            if line in NOT_HERE:
                continue
            if "user:password@host" in line:  # from here on on a server: what was started before ends
                reader.stack.close()
                reader.type(re.sub(r"=\S+", "=" + shlex.quote(empty_database_url), line, count=1))
            else:
                reader.type(line)
    assert reader.said["python app.py"] == "00000000-0000-0000-0000-000000000001 at 640\n"
    assert reader.said["perdure job list"].count("app.resize") == 2
    assert "0001_core" in reader.said["perdure db migrate"]


@pytest.mark.timeout(600)
def test_the_tutorial_is_true_word_for_word(place: Path, reader: Reader) -> None:
    if not (place / "own" / "bin" / "perdure").exists():
        reader.type('make dist && pip install "$(ls dist/perdure-*.whl)[embedded]"')
    for language, block in BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text("utf-8")):
        if language == "python":
            _write(reader.folder / "app.py", block)
            continue
        for line in lines_of(block):
            if line in NOT_HERE:
                continue
            if line == "perdure dlq groups":
                _until_discarded(reader)
            reader.type(line)
    assert reader.said[next(line for line in reader.said if "job wait" in line)] == '"Hello, Ada!"\n'
    assert "no luck with 1" in reader.said["perdure dlq groups"]
    assert "replay" in reader.said[next(line for line in reader.said if "dlq replay" in line)]


def _write(app: Path, block: str) -> None:
    """A whole program is what stands there already, further jobs go below it; what shows only calls is left out."""
    if block.startswith("from perdure import"):
        assert app.read_text().startswith(block)
    elif block.startswith("@job"):
        app.write_text(f"{app.read_text()}\n\n{block}")


def _until_discarded(reader: Reader) -> None:
    job = reader.last_id
    until = time.monotonic() + PATIENCE_S
    while "discarded" not in reader.said.get(f"perdure job show {job}", ""):
        assert time.monotonic() < until
        reader.type(f"perdure job show {job}")
