"""Where the database of a program is: the one that its settings name, else the embedded one that runs for its folder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from perdure.domain.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from perdure.runtime.embedded.protocol import ServerUrls
    from perdure.runtime.settings import Settings


@asynccontextmanager
async def running_database(settings: "Settings") -> AsyncIterator["Settings"]:
    """The settings with a database; embedded servers that run are kept from ending meanwhile, and none is started.

    Raises DatabaseUnavailable when no database is named and none runs.
    """
    if settings.database_url.get_secret_value():
        yield settings
        return
    from perdure.runtime.embedded.client import EmbeddedServers

    servers = EmbeddedServers(settings.data_dir, redis=None)
    try:
        urls = await asyncio.to_thread(servers.join)
        if urls is None:
            raise DatabaseUnavailable(
                "no database is set (PERDURE_DATABASE_URL is empty, and neither a file nor the program names one), "
                f"and no embedded server runs for {settings.data_dir.absolute()}",
                next_step=f"run `perdure dev app.py` in {settings.data_dir.absolute().parent} and leave it running, "
                "or set PERDURE_DATABASE_URL",
            )
        yield served_by(urls, settings)
    finally:
        servers.stop()


def served_by(urls: "ServerUrls", settings: "Settings") -> "Settings":
    """The settings with the addresses of embedded servers; a Redis that they name themselves stays."""
    from pydantic import SecretStr

    found = {"database_url": SecretStr(urls.database_url)}
    if urls.redis_url and not settings.redis_url:
        found["redis_url"] = SecretStr(urls.redis_url)
    return settings.model_copy(update=found)
