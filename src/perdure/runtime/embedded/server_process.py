"""One server process: started with its log, watched until ready, stopped with ever harder signals."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure.runtime.embedded.errors import ServerDidNotStart
from perdure.runtime.embedded.run_as import RunAs, command_as

READY_WITHIN_S = 120.0
"""Long, because recovery after a crash may replay much; a server that fails ends, which is noticed at once."""
POLL_S = 0.003
LOG_LINES_SHOWN = 8
WATCHDOG = Path(__file__).with_name("watchdog.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How to start one server; `death_signal` is what it gets when the starting process dies.

    Linux sends that signal by itself; elsewhere (`watched`) a small second process does.
    """

    name: str
    command: Sequence[str]
    log: Path
    run_as: RunAs
    death_signal: signal.Signals
    inherited: Sequence[int] = ()
    watched: bool = sys.platform != "linux"


class ServerProcess:
    """A running server, child of this process, in a session of its own so that Ctrl-C does not reach it."""

    def __init__(self, start: Start) -> None:
        self._name = start.name
        self._log = start.log
        self._log_began = start.log.stat().st_size if start.log.exists() else 0
        with start.log.open("ab") as log:
            self._process = subprocess.Popen(
                command_as(start.run_as, start.command, death_signal=start.death_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=start.inherited,
                start_new_session=True,
                cwd="/",
            )
        self._watchdog = _watch(self._process.pid, start.death_signal) if start.watched else None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Poll until the server is ready. Raises ServerDidNotStart when it ends first or takes too long."""
        until = time.monotonic() + READY_WITHIN_S
        while not ready():
            if not self.running:
                raise self._failed(
                    f"{self._name} ended while it started (exit code {self._process.returncode})"
                )
            if time.monotonic() > until:
                raise self._failed(f"{self._name} was not ready after {READY_WITHIN_S:g} s")
            time.sleep(POLL_S)

    def send(self, number: signal.Signals) -> None:
        if self.running:
            self._process.send_signal(number)

    def stop(self, escalation: Sequence[tuple[signal.Signals, float]]) -> None:
        """Send each signal in turn, with its seconds of patience, until the server is gone; at last SIGKILL."""
        self._end(escalation)
        if self._watchdog:
            self._watchdog.communicate(b"done")

    def _end(self, escalation: Sequence[tuple[signal.Signals, float]]) -> None:
        for number, patience_s in escalation:
            self.send(number)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
            return
        self._process.kill()
        self._process.wait()

    def _failed(self, what: str) -> ServerDidNotStart:
        return ServerDidNotStart(
            f"{what}; its log ends with:\n{last_lines(self._log, begin=self._log_began)}",
            next_step=f"read {self._log}",
        )


def _watch(server: int, death_signal: signal.Signals) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", str(WATCHDOG), str(server), str(int(death_signal))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd="/")


def last_lines(log: Path, *, begin: int = 0) -> str:
    """The end of a log, without what an earlier start wrote before byte `begin`."""
    try:
        with log.open("rb") as lines:
            lines.seek(begin)
            text = lines.read().decode(errors="replace")
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-LOG_LINES_SHOWN:]) or "  (nothing)"
