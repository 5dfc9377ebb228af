"""`perdure demo`: the story of a pipeline over real source code, and of all that happens to it."""

import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.extras import needing
from perdure.surfaces.cli.options import CONNECTION
from perdure.surfaces.cli.output import write

if TYPE_CHECKING:
    from perdure.runtime.settings import Settings

FOLDER = "demo"


def demo(
    *,
    input: Path | None = None,
    keep: Annotated[bool, Parameter(negative="")] = False,
    stay: Annotated[bool, Parameter(negative="")] = False,
    redis: Annotated[bool, Parameter(negative="")] = False,
    data_dir: Annotated[Path | None, Parameter(group=CONNECTION)] = None,
    verbose: Annotated[tuple[bool, ...], Parameter(name=["--verbose", "-v"], negative="")] = (),
) -> Exit:
    """Run a pipeline over a folder of Python source, break things meanwhile, and check that nothing was lost.

    Without a database in the settings it starts an embedded one. The report stays in the data folder.

    Parameters
    ----------
    input
        Folder of Python source; by default Python's own standard library.
    keep
        Keep the database afterwards, to look at it with the other commands.
    stay
        Serve the dashboard from the beginning, and go on after the story until Ctrl-C.
    redis
        Start an embedded Redis, too, and dispatch through it.
    data_dir
        Folder for data and report; by default the `data_dir` of the settings. A folder `demo` is made in it.
    verbose
        Twice: a traceback with an error.
    """
    import asyncio

    from perdure.demo.screen import Screen
    from perdure.demo.stage import Wanted, database, memory, perform, require_extras
    from perdure.runtime.settings import Settings

    require_extras()
    settings = Settings.load({"data_dir": data_dir})
    folder = _folder(input)
    work = settings.data_dir.expanduser().absolute() / FOLDER
    wanted = Wanted(folder=folder, work=work, keep=keep, redis=redis, dashboard=_dashboard if stay else None)
    screen = Screen()
    screen.say(f"a demonstration of Perdure over {folder}; Ctrl-C ends it")
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    with database(settings, wanted, screen) as founded, memory(founded, wanted) as found:
        well = asyncio.run(perform(found, wanted, screen))
        schema = found.schema
    write("")
    write(f"report: {work / 'report.md'}, {work / 'report.json'}")
    if not (keep or stay):
        write("look around in the browser: make demo STAY=1, or perdure demo --stay")
    if keep:
        write(_where(settings, work, schema))
    write("all is well: the promises hold, and every job ended as it should" if well else "NOT all is well")
    return Exit.DONE if well else Exit.FAILED


def _folder(given: Path | None) -> Path:
    """The folder to be read. Raises InvalidOption when no Python source is in it."""
    from perdure.demo.source import python_files

    folder = Path(sysconfig.get_path("stdlib")) if given is None else given.expanduser().absolute()
    if not folder.is_dir():
        raise InvalidOption("input", f"{folder} is not a folder")
    if next(python_files(folder), None) is None:
        raise InvalidOption(
            "input", f"there is no Python source in {folder}", next_step="name another folder"
        )
    return folder


@asynccontextmanager
async def _dashboard(settings: "Settings") -> AsyncIterator[str]:
    """The dashboard on the port of the settings, or on another where that one is taken."""
    with needing("web"):
        from perdure.surfaces.web.serve import is_taken, served
    port = 0 if is_taken(settings.web_host, settings.web_port) else settings.web_port
    async with served(settings.model_copy(update={"web_port": port})) as server:
        yield server.address


def _where(settings: "Settings", work: Path, schema: str) -> str:
    where = f"--schema {schema}" if settings.database_url.get_secret_value() else f"--data-dir {work}"
    return f"look at it: perdure status {where}; perdure job list {where}"
