"""Imports an application in a process of its own and tells what jobs it has, or why it cannot be imported.

`python -m perdure.runtime.trial APP PARENT`: as JSON on stdout the jobs, or why there are none; it ends with its parent, and
waits for nothing that the application has started.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from tempfile import TemporaryFile
from typing import NoReturn

import msgspec

from perdure.domain.errors import BrokenApplication, InvalidInput
from perdure.runtime.broken_application import broken
from perdure.runtime.loading import load_kinds
from perdure.runtime.orphans import die_with_parent


class JobOfApp(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of job as somebody needs to know it who wants to enqueue one."""

    name: str
    queue: str
    parameters: list[str]


class _Told(msgspec.Struct, kw_only=True):
    """What the process found: jobs, or the words of an error."""

    jobs: list[JobOfApp] = []
    why: str = ""
    next_step: str = ""
    trace: str = ""


async def try_out(app: str, environment: Mapping[str, str] | None = None) -> list[JobOfApp]:
    """The jobs of an application as it is on the disk now, imported with these variables, else with ours. Raises BrokenApplication."""
    with (
        TemporaryFile() as told,
        TemporaryFile() as said,
    ):  # no pipes: what the application starts may keep them open
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "perdure.runtime.trial",
            app,
            str(os.getpid()),
            stdout=told,
            stderr=said,
            start_new_session=True,
            env=environment,
        )
        try:
            await process.wait()
        except asyncio.CancelledError:
            process.kill()
            raise
        told.seek(0)
        said.seek(0)
        answer, trace = told.read(), said.read().decode(errors="replace").strip()
    try:
        found = msgspec.json.decode(answer, type=_Told)
    except msgspec.DecodeError:
        why = f"{app} cannot be imported: its process ended with code {process.returncode}"
        raise BrokenApplication(why, trace=trace) from None
    if found.why:
        raise BrokenApplication(found.why, next_step=found.next_step, trace=found.trace)
    return found.jobs


def tried(app: str) -> _Told:
    """What an application has, imported in this process."""
    try:
        with redirect_stdout(sys.stderr):
            kinds = load_kinds(app)
            return _Told(
                jobs=[
                    JobOfApp(
                        name=kind.name,
                        queue=kind.options.queue,
                        parameters=[parameter.name for parameter in kind.arguments.signature.parameters],
                    )
                    for kind in kinds.values()
                ]
            )
    except BrokenApplication as error:
        return _Told(why=error.why, next_step=error.next_step, trace=error.trace)
    except InvalidInput as error:
        return _Told(why=error.why, next_step=error.next_step)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code raises is told to the user
        mended = broken(app, error)
        return _Told(why=mended.why, next_step=mended.next_step, trace=mended.trace)


def main(app: str, parent: int) -> NoReturn:
    """Try the application out, and tell; what it writes, in whatever way, goes where errors go."""
    die_with_parent(parent)
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        answer.write(msgspec.json.encode(tried(app)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # without waiting for threads of the application


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
