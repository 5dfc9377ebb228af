"""`perdure init`: a first application, its settings and its test."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from perdure.domain.errors import Conflict, InvalidOption
from perdure.surfaces.cli.output import tell, write

APPLICATION = """\
from perdure import Perdure, job

app = Perdure()


@job(retries=5)
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@job
async def three_steps() -> None:
    first = await app.enqueue(greet, "you")
    second = await app.using(depends_on=first).enqueue(greet, "world")
    await app.using(depends_on=second).enqueue(greet, "again")
"""

TEST = """\
import asyncio

import pytest
from app import app, greet

from perdure.domain.errors import InvalidArguments


def test_a_job_is_a_function():
    assert asyncio.run(greet("you")) == "Hello, you!"


def test_arguments_are_checked_before_anything_is_stored():
    assert app.prepare(greet, "you").job.args == '{"name":"you"}'
    with pytest.raises(InvalidArguments):
        app.prepare(greet, 1)
"""

SETTINGS = """\
# The settings of Perdure; `perdure config show` lists all of them, and where each value comes from.
# Environment variables (PERDURE_PROCESSES) and options go before this file.

# database_url = "postgresql://user@host/name"   # without one, `perdure dev` starts a server of its own
data_dir = ".perdure"
app = "app.py"   # `perdure job enqueue` asks it for kinds, arguments and options
queues = "default"
processes = 1
"""

FILES = {"perdure.toml": SETTINGS, "app.py": APPLICATION, "test_app.py": TEST}


def init(directory: Path = Path(), *, force: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Write a first application, its settings and its test, and print the names of the files.

    Parameters
    ----------
    directory
        Where to write them; made when it does not exist.
    force
        Overwrite files that exist.
    """
    if directory.exists() and not directory.is_dir():
        raise InvalidOption("directory", f"{directory} is a file")
    there = [name for name in FILES if (directory / name).exists()]
    if there and not force:
        raise Conflict(
            f"{directory.absolute()} has {', '.join(there)} already; nothing was written",
            next_step="name another folder, or overwrite with --force",
        )
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (directory / name).write_text(text, "utf-8")
        write(str(directory / name))
    where = "" if directory == Path() else f"cd {directory} && "
    tell(f"next: {where}perdure dev app.py")
    tell("then, from another terminal in that folder: perdure job enqueue app.three_steps")
