"""`perdure dev`: everything for one's own code with one command."""

import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from perdure.domain.errors import InvalidSettings
from perdure.surfaces.cli.extras import needing
from perdure.surfaces.cli.options import AS_SET, Connection
from perdure.surfaces.cli.output import tell
from perdure.surfaces.cli.session import application_of, settings_of
from perdure.surfaces.cli.text import visible

if TYPE_CHECKING:
    from perdure.runtime.merged_log import Entry
    from perdure.runtime.settings import Settings
    from perdure.runtime.trial import JobOfApp

COLOURS = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta")
LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red"}
SOURCE_WIDTH = 10
EXAMPLES = 3


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Servers:
    """What is started beside the worker."""

    fresh: Annotated[bool, Parameter(negative="")] = False
    "Begin with an empty database; only for embedded servers."
    redis: Annotated[bool, Parameter(negative="")] = False
    "Start an embedded Redis, too, and dispatch through it."
    memory: Annotated[bool, Parameter(negative="")] = False
    "Run Qdrant's engine, too, and remember executions (extra `memory`)."
    web: bool = True
    "Serve the dashboard, too."


AS_NEEDED = Servers()


def dev(
    application: str | None = None,
    /,
    *,
    servers: Servers = AS_NEEDED,
    queues: str | None = None,
    connection: Connection = AS_SET,
    verbose: Annotated[tuple[bool, ...], Parameter(name=["--verbose", "-v"], negative="")] = (),
) -> int:
    """Start servers, the dashboard and a worker for an application's jobs, and start it anew when its files change.

    Ctrl-C lets what runs finish, a second one ends it at once. Other commands in the same folder find the servers.

    Parameters
    ----------
    application
        Where the jobs are: `module`, `module:attribute`, `file.py` or `file.py:attribute`; else the setting `app`.
    queues
        Queues that it serves, separated by commas, besides those that the application's jobs name.
    verbose
        Log more; twice: a traceback with an error.
    """
    import asyncio

    settings = settings_of(connection, queues=queues, log_level="debug" if verbose else None)
    app = application_of(application, settings)
    for caution in settings.cautions:
        tell(f"warning: {caution}")
    tell("perdure dev: Ctrl-C drains and ends, twice ends at once")
    with _database(settings, app, fresh=servers.fresh, redis=servers.redis) as found:
        named = "" if found is not settings else app  # the note lies beside embedded servers only
        with _vectors(found, wanted=servers.memory):
            return asyncio.run(_develop(found, app, Screen(named), web=servers.web))


@contextmanager
def _database(settings: "Settings", application: str, *, fresh: bool, redis: bool) -> Iterator["Settings"]:
    from perdure.domain.errors import InvalidOption
    from perdure.runtime.current_application import noted
    from perdure.runtime.embedded import EmbeddedServers
    from perdure.runtime.locating import served_by

    if settings.database_url.get_secret_value():
        if fresh:
            raise InvalidOption(
                "fresh", "only the data of embedded servers can be emptied, and a database is named"
            )
        yield settings
        return
    tell(f"starting embedded servers; their data is in {settings.data_dir}")
    with EmbeddedServers(settings.data_dir, redis=redis or None, fresh=fresh) as urls:
        tell("programs and commands in this folder find them; for other programs, such as psql:")
        tell(f"  {urls.database_url}")
        if urls.redis_url:
            tell(f"  {urls.redis_url}")
        with noted(settings.data_dir, application) as other:
            if other is not None:
                tell(f"another perdure dev runs here (pid {other}); this adds a worker")
            yield served_by(urls, settings)


@contextmanager
def _vectors(settings: "Settings", *, wanted: bool) -> Iterator[None]:
    """Qdrant's engine for the data folder, unless the settings name a Qdrant; workers and commands find it."""
    if not wanted or settings.qdrant_url.get_secret_value():
        yield
        return
    from perdure.runtime.vectors.serving import serving

    with serving(settings.data_dir.expanduser().absolute()) as found:
        tell(f'  memory of executions: {found.url}; perdure search "what went wrong"')
        yield


async def _develop(settings: "Settings", application: str, screen: "Screen", *, web: bool) -> int:
    import asyncio

    from perdure.runtime.dev import Development
    from perdure.runtime.exported import export
    from perdure.stores.postgres.migrations import migrate

    made = await migrate(settings.database_url.get_secret_value(), schema=settings.schema)
    if made:
        tell(f"migrated: {made[0]}" + (f" to {made[-1]}" if len(made) > 1 else ""))
    export(settings)
    development = Development(settings, application, screen.show, screen.jobs)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, development.stop)
    async with _dashboard(settings, wanted=web):
        return await development.run()


@asynccontextmanager
async def _dashboard(settings: "Settings", *, wanted: bool) -> AsyncIterator[None]:
    """The dashboard beside the worker, where its extra is installed; on another port when the usual one is taken."""
    if not wanted:
        yield
        return
    try:
        with needing("web"):
            from perdure.surfaces.web.serve import check_reach, is_taken, served
    except InvalidSettings as error:
        tell(f"  no dashboard: {error.next_step}")
        yield
        return
    check_reach(settings, anywhere=False)
    if is_taken(settings.web_host, settings.web_port):
        settings = settings.model_copy(update={"web_port": 0})
    async with served(settings) as server:
        tell(f"  dashboard: {server.address}")
        yield


class Screen:
    """The merged log on stderr: a colour for each process on a terminal, plain lines elsewhere.

    `application` is named where the commands that it shows would not find it by themselves.
    """

    def __init__(self, application: str = "") -> None:
        from rich.console import Console

        self._application = application
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._colours: dict[str, str] = {}

    def show(self, entry: "Entry") -> None:
        """Print one entry; what it tells in several lines stands indented below."""
        from rich.text import Text

        colour = self._colours.setdefault(entry.source, COLOURS[len(self._colours) % len(COLOURS)])
        at = (entry.at or datetime.now(UTC)).astimezone()
        line = Text.assemble(
            (f"{at:%H:%M:%S} ", "dim"),
            (f"{entry.source:<{SOURCE_WIDTH}} ", colour),
            (visible(entry.text), LEVELS.get(entry.level, "")),
        )
        self._console.print(line, soft_wrap=True)
        for more in entry.more.splitlines():
            self._console.print(Text(f"    {visible(more)}"), soft_wrap=True)

    def jobs(self, jobs: Sequence["JobOfApp"]) -> None:
        """How to enqueue the jobs that there are now."""
        tell("to enqueue, from another terminal in this folder:")
        for job in jobs[:EXAMPLES]:
            tell(f"  {example(job, application=self._application)}")
        if len(jobs) > EXAMPLES:
            tell(f"  and {len(jobs) - EXAMPLES} more: {', '.join(job.name for job in jobs[EXAMPLES:])}")


def example(job: "JobOfApp", *, application: str = "") -> str:
    """A command that enqueues such a job, but for the values of its arguments; it finds `application` where it is named."""
    words = ["perdure", "job", "enqueue", job.name]
    if application:
        words += ["--app", application]
    if job.parameters:
        words += ["--args", "{" + ", ".join(f'"{name}": …' for name in job.parameters) + "}"]
    return shlex.join(words)
