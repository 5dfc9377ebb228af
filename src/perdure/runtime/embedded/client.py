"""The user's side: join the servers of a data folder, starting their owner when there is none."""

import os
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType

from perdure.runtime.embedded.errors import DataFolderInUse, EmbeddedServerError, OwnerDidNotAnswer
from perdure.runtime.embedded.layout import Layout
from perdure.runtime.embedded.options import ServerOptions
from perdure.runtime.embedded.ownership import try_to_own
from perdure.runtime.embedded.protocol import (
    LONGEST_LINE,
    Idle,
    Join,
    Reply,
    Request,
    ServerUrls,
    StopIfIdle,
    decode_reply,
    encode_request,
)
from perdure.runtime.embedded.run_directory import control_socket
from perdure.runtime.embedded.server_process import last_lines

START_WITHIN_S = 150.0
STOP_WITHIN_S = 30.0
POLL_S = 0.02


class EmbeddedServers:
    """A claim on the servers of one data folder, held from `start` to `stop` or to the end of this process.

    All processes that claim the same folder share one set of servers, which ends a grace time after the last claim.
    `fresh` empties the folder first, and is refused while others use it. `redis` None: only if it runs already.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        redis: bool | None = True,
        fresh: bool = False,
        options: ServerOptions | None = None,
    ) -> None:
        self._layout = Layout(Path(data_dir).expanduser().resolve())
        self._redis = redis
        self._fresh = fresh
        self._options = options or ServerOptions()
        self._claim: socket.socket | None = None

    def __enter__(self) -> ServerUrls:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> ServerUrls:
        """Join the servers, or start them; returns when they take connections. Raises EmbeddedServerError."""
        _refuse_windows()
        self.stop()
        self._layout.prepare()
        until = time.monotonic() + START_WITHIN_S
        while time.monotonic() < until:
            urls = self._own_or_join()
            if urls:
                return urls
            time.sleep(POLL_S)
        raise self._no_answer()

    def join(self) -> ServerUrls | None:
        """As `start`, but only if they run or are being started: None when they are not. Raises EmbeddedServerError."""
        self.stop()
        until = time.monotonic() + START_WITHIN_S
        while time.monotonic() < until:
            urls = self._join()
            if urls or wait_until_stopped(self._layout.root, within_s=0):
                return urls
            time.sleep(POLL_S)
        raise self._no_answer()

    def stop(self) -> None:
        """Give the claim back; the servers stay for the grace time, and as long as others claim them."""
        if self._claim:
            with suppress(OSError):
                self._claim.shutdown(socket.SHUT_RDWR)  # a forked child may hold a copy, which must not count
            self._claim.close()
            self._claim = None

    def _own_or_join(self) -> ServerUrls | None:
        lock = try_to_own(self._layout.lock)
        if lock is not None:
            return self._start_owner(lock)
        if self._fresh:
            self._ask_to_stop()
            return None
        return self._join()

    def _start_owner(self, lock: int) -> ServerUrls:
        """Start the process that owns the servers, hand it the lock, and be its first client."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                if self._fresh:
                    self._layout.erase()
                _run_owner(self._layout, self._options, lock, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(lock)
        reply = self._claim_through(ours)
        if reply is None:
            raise self._silent_owner()
        return reply

    def _join(self) -> ServerUrls | None:
        """Join the present owner; None when it is just coming or going."""
        connection = _connect(self._layout)
        return self._claim_through(connection) if connection else None

    def _claim_through(self, connection: socket.socket) -> ServerUrls | None:
        try:
            reply = _ask(connection, Join(redis=self._redis))
        except BaseException:
            connection.close()
            raise
        if isinstance(reply, ServerUrls):
            self._claim = connection
            return reply
        connection.close()
        if isinstance(reply, EmbeddedServerError):
            raise reply
        return None

    def _ask_to_stop(self) -> None:
        connection = _connect(self._layout)
        if connection is None:
            return
        with closing(connection):
            reply = _ask(connection, StopIfIdle())
        if isinstance(reply, Idle) and reply.clients:
            raise DataFolderInUse(
                f"the data in {self._layout.root} cannot be emptied: {reply.clients} other program(s) use it now",
                next_step="end those programs first, or start without `fresh`",
            )

    def _no_answer(self) -> OwnerDidNotAnswer:
        return OwnerDidNotAnswer(
            f"the servers of {self._layout.root} belong to a process that did not answer for {START_WITHIN_S:g} s",
            next_step=f"read {self._layout.owner_log}, end the old postgres and valkey-server processes, try again",
        )

    def _silent_owner(self) -> OwnerDidNotAnswer:
        return OwnerDidNotAnswer(
            f"the process that should start the servers ended; its log ends with:\n"
            f"{last_lines(self._layout.owner_log)}",
            next_step=f"read {self._layout.owner_log}",
        )


def wait_until_stopped(data_dir: Path, *, within_s: float = STOP_WITHIN_S) -> bool:
    """Whether owner and servers of the data folder were all gone in time. Starts nothing and stops nothing."""
    lock = Layout(data_dir.expanduser().resolve()).lock
    if not lock.exists():
        return True
    until = time.monotonic() + within_s
    while True:
        held = try_to_own(lock)
        if held is not None:
            os.close(held)
            return True
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)


def _run_owner(layout: Layout, options: ServerOptions, lock: int, client: socket.socket) -> None:
    files = (lock, client.fileno())
    handed = ["--lock-fd", str(files[0]), "--client-fd", str(files[1])]
    command = [sys.executable, "-P", "-m", "perdure.runtime.embedded", str(layout.root), *handed]
    with layout.owner_log.open("wb") as log:
        subprocess.run(
            [*command, *options.as_flags()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=files,
            start_new_session=True,  # Ctrl-C ends the clients, which then drain before the servers stop
            check=False,
        )


def _connect(layout: Layout) -> socket.socket | None:
    address = control_socket(layout.run_link)
    if address is None:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(address))
    except OSError:
        connection.close()
        return None
    return connection


def _ask(connection: socket.socket, request: Request) -> Reply | None:
    """The owner's reply, or None when it went away instead."""
    connection.settimeout(START_WITHIN_S)
    try:
        connection.sendall(encode_request(request))
        line = connection.recv(LONGEST_LINE)
    except TimeoutError:
        return OwnerDidNotAnswer(
            f"the owner of the servers did not answer within {START_WITHIN_S:g} s",
            next_step="end the old postgres and valkey-server processes, and try again",
        )
    except OSError:
        return None
    return decode_reply(line) if line else None


def _refuse_windows() -> None:
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "there are no embedded servers for Windows",
            next_step="use WSL, or set PERDURE_DATABASE_URL to a PostgreSQL that you run",
        )
