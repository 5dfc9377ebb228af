"""A command in another terminal: what it says is read while it runs, and Ctrl-C reaches it."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.command import Command

PATIENCE_S = 60.0


class Running:
    """A command that runs, and the lines that it has said so far, on stdout and stderr together."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.times: list[float] = []
        self._news = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (process.stdout, process.stderr)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, after: int = 0, within_s: float = PATIENCE_S) -> int:
        """Wait for a line that the pattern is found in, and give the number of the line after it."""
        until = time.monotonic() + within_s
        with self._news:
            while True:
                for number, line in enumerate(self.lines[after:], start=after + 1):
                    if re.search(pattern, line):
                        return number
                assert time.monotonic() < until, f"{pattern!r} was not said in time:\n{self.said}"
                assert self.process.poll() is None, f"ended before {pattern!r} was said:\n{self.said}"
                self._news.wait(0.1)

    def interrupt(self) -> None:
        """Ctrl-C: the whole group of the terminal gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, *, within_s: float = PATIENCE_S) -> int:
        """Wait for the end, and give the exit code."""
        code = self.process.wait(within_s)
        for thread in self._threads:
            thread.join(within_s)
        return code

    def _read(self, stream: Iterator[str]) -> None:
        for line in stream:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self.times.append(time.monotonic())
                self._news.notify_all()


@contextmanager
def running(command: Command, *words: str) -> Iterator[Running]:
    """Start a command in a terminal of its own; killed at the end when it still runs."""
    process = command.process(*words, start_new_session=True)
    try:
        yield Running(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
