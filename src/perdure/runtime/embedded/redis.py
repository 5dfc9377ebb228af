"""One Redis or Valkey server process on a private Unix socket."""

import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perdure.runtime.embedded.binaries import RedisBinary
from perdure.runtime.embedded.errors import ServerDidNotStart
from perdure.runtime.embedded.run_as import RunAs
from perdure.runtime.embedded.server_process import ServerProcess, Start

DEVELOPMENT_SETTINGS: Mapping[str, str] = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
}
CLEAN_STOP = ((signal.SIGTERM, 5.0),)
PING_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSetup:
    """What one server is made of; `settings` are names of its configuration file."""

    binary: RedisBinary
    data: Path
    socket: Path
    log: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    inherited: Sequence[int] = ()


class RedisServer:
    """Serves one data folder, and stops with everything written down."""

    def __init__(self, setup: RedisSetup) -> None:
        self._setup = setup
        self._process: ServerProcess | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def url(self, database: int = 0, sockets: Path | None = None) -> str:
        """The address; `sockets` is another name of the folder of its socket."""
        place = self._setup.socket
        return f"unix://{(sockets or place.parent) / place.name}?db={database}"

    def launch(self) -> None:
        """Start the process without waiting; `wait_ready` does."""
        self._setup.data.mkdir(mode=0o700, exist_ok=True)
        self._process = ServerProcess(self._start_line())

    def wait_ready(self) -> None:
        """Returns when the server answers. Raises ServerDidNotStart."""
        if self._process is None:
            raise ServerDidNotStart("Redis was never launched", next_step="call launch() first")
        try:
            self._process.wait_until(lambda: answers(self._setup.socket))
        except ServerDidNotStart:
            self.stop(immediate=True)
            raise

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def ask_to_stop(self) -> None:
        """Begin a clean stop without waiting for its end; `stop` waits."""
        if self._process:
            self._process.send(signal.SIGTERM)

    def stop(self, *, immediate: bool = False) -> None:
        """End the server: `immediate` is a kill, after which at most the last second of writes is lost."""
        if self._process:
            self._process.stop(() if immediate else CLEAN_STOP)
            self._process = None

    def _start_line(self) -> Start:
        setup = self._setup
        places = {"unixsocket": str(setup.socket), "dir": str(setup.data)}
        settings = {**DEVELOPMENT_SETTINGS, **places, **setup.settings}
        switches = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return Start(
            name=setup.binary.product,
            command=[str(setup.binary.path), *switches],
            log=setup.log,
            run_as=RunAs.SAME,
            death_signal=signal.SIGTERM,
            inherited=setup.inherited,
        )


def answers(address: Path) -> bool:
    """Whether a server on this socket says PONG; one that still loads its data does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PING_WITHIN_S)
        try:
            connection.connect(str(address))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
