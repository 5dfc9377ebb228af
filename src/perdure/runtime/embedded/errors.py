"""What can go wrong with embedded servers.

EmbeddedServerError         a kind of Unavailable
├── ServerBinariesMissing       no usable PostgreSQL or Redis programs on this machine
├── DataVersionMismatch         the data folder belongs to another major version of PostgreSQL
├── NotADataFolder              the folder holds something that is not ours
├── DataFolderInUse             other programs use these servers just now
├── SocketPathTooLong           the operating system's limit on the length of socket paths
├── NoUnprivilegedUser          root, and no way to run PostgreSQL as somebody else
├── ServerDidNotStart           a server ended, or was not ready in time
└── OwnerDidNotAnswer           the process that owns the servers died or hangs
"""

from perdure.domain.errors import Unavailable


class EmbeddedServerError(Unavailable):
    """The embedded servers cannot be used."""


class ServerBinariesMissing(EmbeddedServerError):
    """No usable server programs were found; the message lists the places searched."""


class DataVersionMismatch(EmbeddedServerError):
    """The data folder was written by another major version of PostgreSQL."""


class NotADataFolder(EmbeddedServerError):
    """The folder is not empty and holds no PostgreSQL cluster."""


class DataFolderInUse(EmbeddedServerError):
    """Other programs use the servers of this data folder."""


class SocketPathTooLong(EmbeddedServerError):
    """No temporary folder is short enough for a socket."""


class NoUnprivilegedUser(EmbeddedServerError):
    """PostgreSQL refuses to run as root, and this machine allows no other way."""


class ServerDidNotStart(EmbeddedServerError):
    """A server ended or was not ready in time; the message ends with the last lines of its log."""


class OwnerDidNotAnswer(EmbeddedServerError):
    """The process that owns the servers of a data folder died or hangs."""
