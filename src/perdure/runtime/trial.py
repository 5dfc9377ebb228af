"""Imports an application in a process of its own and tells what jobs it has, or why it cannot be imported.

`python -m perdure.runtime.trial APP`: the jobs as JSON on stdout, the error as people read it on stderr.
"""

import asyncio
import importlib
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from types import TracebackType

import msgspec

from perdure.domain.errors import PerdureError
from perdure.runtime.loading import load_kinds

OURS = (str(Path(__file__).parents[1]), "<frozen")


class JobOfApp(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of job as somebody needs to know it who wants to enqueue one."""

    name: str
    queue: str
    parameters: list[str]


class NotImportable(PerdureError):
    """The application cannot be imported; the message is what Python says of it."""

    next_step = "mend it"


async def try_out(app: str) -> list[JobOfApp]:
    """The jobs of an application as it is on the disk now. Raises NotImportable."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "perdure.runtime.trial",
        app,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        found, told = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode:
        raise NotImportable(
            told.decode(errors="replace").strip() or f"it ended with code {process.returncode}"
        )
    return msgspec.json.decode(found, type=list[JobOfApp])


def main(app: str) -> int:
    try:
        with redirect_stdout(sys.stderr):
            kinds = load_kinds(app)
            jobs = [
                JobOfApp(
                    name=kind.name,
                    queue=kind.options.queue,
                    parameters=[parameter.name for parameter in kind.arguments.signature.parameters],
                )
                for kind in kinds.values()
            ]
    except PerdureError as error:
        sys.stderr.write(f"{error.message}\n{error.next_step}\n")
        return 1
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises is told to the user
        told = traceback.format_exception(type(error), error, _beyond_us(error.__traceback__))
        sys.stderr.write("".join(told))
        return 1
    sys.stdout.write(msgspec.json.encode(jobs).decode())
    return 0


def _beyond_us(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins in the user's code."""
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_ours(filename: str) -> bool:
    return filename.startswith(OURS) or filename == importlib.__file__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
