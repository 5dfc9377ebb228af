"""From options to open services: settings, the database they name or the embedded one, and the schema checked."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.domain.errors import InvalidOption, InvalidSettings
from perdure.surfaces.cli.options import Connection

if TYPE_CHECKING:
    from perdure.runtime.settings import Settings
    from perdure.runtime.wiring import Stores

NO_DATABASE = "no database is named, and {folder} holds no embedded server"
NAME_ONE = "set PERDURE_DATABASE_URL or pass --database-url; `perdure demo` and `perdure dev` start an embedded server"
NO_APPLICATION = "no application is given, and the settings name none"
GIVE_ONE = "name the file or module that has your jobs, such as app.py; `perdure init` writes a first one"


def settings_of(connection: Connection, **flags: object) -> "Settings":
    """The settings with the options of this command on top. Raises InvalidSettings."""
    from perdure.runtime.settings import Settings

    return Settings.load({**connection.flags, **flags}, connection.config)


def application_of(given: str | None, settings: "Settings") -> str:
    """The application that a command runs: the one it is given, else that of the settings; its file or module is there.

    Raises InvalidOption.
    """
    from perdure.runtime.loading import require_application

    application = given or settings.app
    if not application:
        raise InvalidOption("app", NO_APPLICATION, next_step=GIVE_ONE)
    require_application(application)
    return application


@contextmanager
def located(settings: "Settings") -> Iterator["Settings"]:
    """The settings with a database: the one they name, else the embedded one of their data folder, started if need be."""
    from perdure.runtime.embedded import EmbeddedServers
    from perdure.runtime.locating import served_by

    if settings.database_url:
        yield settings
        return
    if not has_embedded_server(settings.data_dir):
        raise InvalidSettings(
            "database_url", NO_DATABASE.format(folder=settings.data_dir), next_step=NAME_ONE
        )
    with EmbeddedServers(settings.data_dir, redis=None) as urls:
        yield served_by(urls, settings)


def has_embedded_server(data_dir: Path) -> bool:
    """Whether an embedded PostgreSQL has been made in this folder; whether it runs does not matter."""
    from perdure.runtime.embedded.layout import Layout

    return (Layout(data_dir.expanduser()).postgres / "PG_VERSION").is_file()


@asynccontextmanager
async def opened(connection: Connection) -> AsyncIterator["Stores"]:
    """The services on the database that the options lead to. Raises Unavailable and InvalidSettings."""
    from perdure.runtime.wiring import connected

    with located(settings_of(connection)) as settings:
        async with connected(settings, redis=False) as stores:
            yield stores
