"""The process that owns the servers of one data folder: it starts them, counts clients, and stops them.

It has one thread on purpose: the kernel ties a server's life to the thread that started it.
"""

import logging
import selectors
import signal
import socket
import time
from functools import partial

from perdure.runtime.embedded.errors import EmbeddedServerError
from perdure.runtime.embedded.layout import Layout
from perdure.runtime.embedded.options import ServerOptions
from perdure.runtime.embedded.protocol import (
    LONGEST_LINE,
    Idle,
    Join,
    Reply,
    ServerUrls,
    StopIfIdle,
    decode_request,
    encode_reply,
)
from perdure.runtime.embedded.run_directory import CONTROL_SOCKET, create_run_directory, point_to, remove
from perdure.runtime.embedded.servers import Servers

TICK_S = 0.25
WAITING_CLIENTS = 128

log = logging.getLogger(__name__)


class Owner:
    """Serves clients until the last one has been gone for the grace time; with `stays`, until it is told to end."""

    def __init__(self, layout: Layout, options: ServerOptions, *, lock: int, stays: bool) -> None:
        self._layout = layout
        self._grace_s = options.grace_s
        self._stays = stays
        self._run_directory = create_run_directory()
        self._servers = Servers(layout, options, run_directory=self._run_directory, lock=lock)
        self._selector = selectors.DefaultSelector()
        self._connected: set[socket.socket] = set()
        self._joined: set[socket.socket] = set()
        self._idle_since = time.monotonic()
        self._ending = False

    def heed_signals(self) -> None:
        """End in order at SIGTERM and Ctrl-C; a closed terminal does not matter."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end("a signal"))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def start(self, *, redis: bool) -> ServerUrls:
        """Start the servers without waiting for a client."""
        return self._servers.ready(redis=redis)

    def serve(self, first: socket.socket | None = None) -> None:
        """Answer clients, `first` among them, then stop the servers and leave nothing but data behind."""
        listener = self._listen()
        if first:
            self._greet(first)
        try:
            while not self._done():
                for key, _ in self._selector.select(self._patience_s()):
                    key.data()
        finally:
            listener.close()
            (self._run_directory / CONTROL_SOCKET).unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Stop the servers and remove their sockets, even when the data folder is gone already."""
        self._servers.stop()
        remove(self._run_directory)
        self._layout.run_link.unlink(missing_ok=True)
        log.info("all stopped")

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._run_directory / CONTROL_SOCKET))
        listener.listen(WAITING_CLIENTS)
        point_to(self._run_directory, self._layout.run_link)
        self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
        return listener

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        self._greet(connection)

    def _greet(self, connection: socket.socket) -> None:
        self._connected.add(connection)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._hear, connection))

    def _hear(self, connection: socket.socket) -> None:
        """One request is one short line, which a Unix socket delivers whole; the end of file is a farewell."""
        try:
            line = connection.recv(LONGEST_LINE)
        except OSError:
            line = b""
        request = decode_request(line)
        if request is None:
            self._dismiss(connection)
            return
        reply = self._answer(connection, request)
        try:
            connection.sendall(encode_reply(reply))
        except OSError:
            self._dismiss(connection)

    def _answer(self, connection: socket.socket, request: Join | StopIfIdle) -> Reply:
        match request:
            case Join(redis=redis):
                try:
                    urls = self._servers.ready(redis=redis)
                except EmbeddedServerError as error:
                    log.warning("%s", error)
                    if not self._joined:
                        self._end("the servers did not start")
                    return error
                self._joined.add(connection)
                log.info("a client joined, now %s", len(self._joined))
                return urls
            case StopIfIdle():
                if not self._joined and not self._stays:
                    self._end("a request")
                return Idle(clients=len(self._joined) + self._stays)

    def _dismiss(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()
        self._connected.discard(connection)
        self._idle_since = time.monotonic()
        if connection in self._joined:
            self._joined.remove(connection)
            log.info("a client left, now %s", len(self._joined))

    def _done(self) -> bool:
        if self._servers.lost_postgres:
            self._end("the loss of PostgreSQL")
        elif self._unused and self._grace_left_s() <= 0:
            self._end("having no client")
        return self._ending

    @property
    def _unused(self) -> bool:
        return not self._connected and not self._stays

    def _grace_left_s(self) -> float:
        return self._idle_since + self._grace_s - time.monotonic()

    def _patience_s(self) -> float:
        return min(TICK_S, max(0.0, self._grace_left_s())) if self._unused else TICK_S

    def _end(self, why: str) -> None:
        if not self._ending:
            log.info("ending because of %s", why)
        self._ending = True


def tell(connection: socket.socket, error: EmbeddedServerError) -> None:
    """Let a client know why there will be no servers."""
    connection.sendall(encode_reply(error))
