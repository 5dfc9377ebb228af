"""Qdrant's engine for tests, as `perdure memory serve` runs it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.runtime.vectors.finding import Found, served
from tests.support.waiting import LOOK_S

WITHIN_S = 30.0


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Found, "subprocess.Popen[bytes]"]]:
    """A server on the vectors of a folder, and its process."""
    command = [sys.executable, "-m", "perdure.runtime.vectors", str(folder), "--parent", str(os.getpid())]
    with subprocess.Popen(command) as process:
        try:
            yield answer_of(folder, process), process
        finally:
            process.terminate()
            process.wait(10)


def answer_of(folder: Path, process: "subprocess.Popen[bytes]") -> Found:
    """Where the server answers, once it does."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        if (found := served(folder)) is not None:
            return found
        time.sleep(LOOK_S)
    raise AssertionError(f"no server came up: {process.returncode}")
