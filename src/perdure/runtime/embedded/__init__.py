"""PostgreSQL and Redis servers that Perdure starts by itself, for development, demos, tests and single machines.

with EmbeddedServers(Path("~/.local/share/perdure")) as urls:
    app = Perdure(database_url=urls.database_url, redis_url=urls.redis_url)
"""

from perdure.runtime.embedded.client import EmbeddedServers, wait_until_stopped
from perdure.runtime.embedded.describe import Description, describe
from perdure.runtime.embedded.errors import (
    DataFolderInUse,
    DataVersionMismatch,
    EmbeddedServerError,
    NotADataFolder,
    NoUnprivilegedUser,
    OwnerDidNotAnswer,
    ServerBinariesMissing,
    ServerDidNotStart,
    SocketPathTooLong,
)
from perdure.runtime.embedded.options import ServerOptions
from perdure.runtime.embedded.protocol import ServerUrls

__all__ = [
    "DataFolderInUse",
    "DataVersionMismatch",
    "Description",
    "EmbeddedServerError",
    "EmbeddedServers",
    "NoUnprivilegedUser",
    "NotADataFolder",
    "OwnerDidNotAnswer",
    "ServerBinariesMissing",
    "ServerDidNotStart",
    "ServerOptions",
    "ServerUrls",
    "SocketPathTooLong",
    "describe",
    "wait_until_stopped",
]
