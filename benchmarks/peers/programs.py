"""Starts drivers and workers in their environments, each within a bounded time, and ends them with their children."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import psutil

from benchmarks.peers.catalogue import System
from benchmarks.peers.servers import Servers

DRIVERS = Path(__file__).with_name("drivers")
LINES_SHOWN = 3
POLL_S = 0.002


class Gap(Exception):
    """A figure that could not be had; the message is short enough to stand in the table's notes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One system on one set of servers: its interpreter, and the variables that its driver reads."""

    system: System
    interpreter: Path
    servers: Servers
    folder: Path
    variables: Mapping[str, str]

    @property
    def driver(self) -> Path:
        return DRIVERS / self.system.driver

    def command(self, *words: str) -> list[str]:
        driver = self.driver
        by = [str(DRIVERS / "drive.py"), driver.stem] if driver.suffix == ".py" else [str(driver)]
        return [str(self.interpreter), *by, *words]

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """The variables of this program, and nothing of ours that a system could take for its own settings."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PERDURE_", "PYTHON"))
        }
        addresses = {
            "PEER_DATABASE_URL": self.servers.database_url,
            "PEER_REDIS_URL": self.servers.redis_url,
            "PEER_VARIANT": self.system.variant,
            "PYTHONPATH": os.pathsep.join((str(DRIVERS), str(self.driver.parent))),
        }
        return {**kept, **self.variables, **addresses, **more}

    def ask(self, *words: str, within_s: float, more: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the driver answers. Raises Gap when it fails or takes too long."""
        log = self.folder / "driver.log"
        with log.open("w") as said:
            process = self._start(self.command(*words), more or {}, said, stdout=subprocess.PIPE)
        try:
            out, _ = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise Gap(f"`{words[0]}` was not done in {within_s:g} s") from None
        finally:
            kill_tree(process)
            if process.stdout is not None:
                process.stdout.close()
        if process.returncode != 0:
            raise Gap(f"`{shlex.join(words)}` failed: {last_lines(log)}")
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer

    @contextmanager
    def workers(self, count: int, more: Mapping[str, str]) -> Iterator[Sequence[subprocess.Popen[str]]]:
        """So many worker processes, killed at the end with their children."""
        commands = 1 if self.system.one_command else count
        started = []
        try:
            for number in range(commands):
                with (self.folder / f"worker-{number}.log").open("w") as said:
                    wanted = {**more, "PEER_PROCESSES": str(count)}
                    started.append(self._start(self.command("worker"), wanted, said, stdout=said))
            yield started
        finally:
            for process in started:
                kill_tree(process)

    def wait(
        self, workers: Sequence[subprocess.Popen[str]], holds: Callable[[], bool], *, within_s: float
    ) -> bool:
        """Whether the condition came true in time, while all workers ran."""
        ended: list[bool] = []

        def over() -> bool:
            ended[:] = [process.poll() is not None for process in workers]
            return holds() or any(ended)

        return wait_until(over, within_s=within_s) and holds()

    def why(self, workers: Sequence[subprocess.Popen[str]]) -> str:
        """Why nothing comes from these workers."""
        for number, process in enumerate(workers):
            if process.poll() is not None:
                return f"the worker ended with code {process.returncode}: {last_lines(self.folder / f'worker-{number}.log')}"
        return "the worker still runs"

    def _start(
        self, command: list[str], more: Mapping[str, str], said: TextIO, *, stdout: int | TextIO
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(more),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=said,
            text=True,
            start_new_session=True,
        )


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process with all its descendants; what has ended is left out."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a process and its descendants; it is stopped first, so that it cannot start another meanwhile."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(process.pid).suspend()
    for one in tree(process):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def wait_until(holds: Callable[[], bool], *, within_s: float, poll_s: float = POLL_S) -> bool:
    """Whether the condition came true in time."""
    until = time.monotonic() + within_s
    while not (true := holds()) and time.monotonic() < until:
        time.sleep(poll_s)
    return true


def last_lines(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-LINES_SHOWN:])[-300:] or "it said nothing"
