"""Runs commands: inside this process, where it is quick, or as a process of its own, where that is the point."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from perdure.surfaces.cli import main

PROGRAM = (sys.executable, "-c", "import sys; from perdure.surfaces.cli import main; sys.exit(main())")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Command:
    """The command line in a folder of its own, with these variables and no other of ours."""

    folder: Path
    variables: Mapping[str, str]

    def __call__(self, *words: str, stdin: str = "", encoding: str = "utf-8") -> Ended:
        """Run it in this process."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n") for _ in range(2))
        with (
            patch.dict(os.environ, self.variables),
            patch("sys.stdin", io.StringIO(stdin)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = main(words)
        return Ended(int(code), _text(out), _text(err))

    def process(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start it as a process of its own."""
        return subprocess.Popen(
            [*PROGRAM, *words],
            cwd=self.folder,
            env={**os.environ, **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def with_database(self, url: str) -> "Command":
        return self.with_variables(PERDURE_DATABASE_URL=url)

    def with_variables(self, **variables: str) -> "Command":
        return Command(self.folder, {**self.variables, **variables})


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(stream.encoding)
