"""Runs the server of a data folder's vectors as a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from perdure.domain.errors import ExtraMissing, MemoryUnavailable
from perdure.runtime.vectors.finding import served

ENGINE = ("qdrant_edge", "uvicorn")
WITHIN_S = 30.0
LOOK_S = 0.05
END_WITHIN_S = 10.0


class Serving:
    """A server that answers; `wait` returns when it has ended."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self._process = process

    def wait(self) -> int:
        """Wait for its end, and give its exit code; Ctrl-C ends it, which is a good end."""
        with suppress(KeyboardInterrupt):
            return self._process.wait()
        return 0


@contextmanager
def serving(folder: Path, *, port: int = 0) -> Iterator[Serving]:
    """Start the server and end it afterwards. Raises ExtraMissing, and MemoryUnavailable when it does not come up."""
    for name in ENGINE:
        if find_spec(name) is None:
            raise ExtraMissing(name, extra="memory")
    command = [sys.executable, "-m", "perdure.runtime.vectors", str(folder), "--port", str(port)]
    with subprocess.Popen([*command, "--parent", str(os.getpid())], start_new_session=True) as process:
        try:
            yield Serving(_address(folder, process), process)
        finally:
            process.terminate()
            try:
                process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(folder: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        found = served(folder)
        if found is not None and found.pid == process.pid:
            return found.url
        time.sleep(LOOK_S)
    raise MemoryUnavailable(
        f"the server of the vectors of {folder} did not come up",
        next_step="see what it said above; another `perdure dev` or `perdure memory serve` may run for this folder",
    )
