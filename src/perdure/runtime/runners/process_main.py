"""A process that runs CPU-bound handlers, one at a time, for the worker process that started it."""

import os
import signal
import socket
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any

import msgspec

from perdure.domain.lease import Lease
from perdure.domain.payload import PAYLOAD_BYTES_MAX
from perdure.domain.sealing import Keyring
from perdure.domain.settlement import Cancelled, Completed, Ending, Failed, Snoozed
from perdure.runtime.lines import Pace
from perdure.runtime.loading import load_kinds
from perdure.runtime.orphans import die_with_parent
from perdure.runtime.runners import frames
from perdure.runtime.runners.endings import Kinds, after_error, after_value, call_of
from perdure.runtime.sealing import OpenedLease, encoding
from perdure.runtime.traced_attempts import continuing, flush
from perdure.stores.postgres.callers import Encode, complete_sync

ENDINGS: dict[str, type[Ending]] = {kind.__name__: kind for kind in (Completed, Failed, Snoozed, Cancelled)}


def ending_from(message: dict[str, Any]) -> Ending:
    """The ending that a process reported."""
    ending: Ending = msgspec.convert(message["ending"], ENDINGS[message["type"]])
    return ending


class Hello(msgspec.Struct, frozen=True):
    """What a process is told first: whose child it is, and what it needs to run the jobs of its worker."""

    app: str
    schema: str
    max_payload: int = PAYLOAD_BYTES_MAX
    keys: Mapping[str, bytes] = {}
    tracing: str = "off"
    parent: int = 0


class PipeLine:
    """How a context reaches the worker from a process of its own; it can only tell, not ask."""

    def __init__(self, connection: socket.socket, lease: Lease, schema: str, encode: Encode) -> None:
        self._connection = connection
        self._lease = lease
        self._schema = schema
        self._encode = encode
        self._pace = Pace()
        self._started = monotonic()

    def is_cancelled(self) -> bool:
        """Always false: a cancelled process is killed."""
        return False

    async def progress(self, fraction: float, note: str) -> None:
        self.progress_sync(fraction, note)

    def progress_sync(self, fraction: float, note: str) -> None:
        if self._pace.admits(fraction):
            self._connection.sendall(frames.pack({"progress": fraction, "note": note}))

    async def complete(self, conn: object, result: object) -> None:
        raise TypeError("a handler of mode process is not async; use complete_sync")

    def complete_sync(self, conn: object, result: object) -> None:
        complete_sync(
            conn, self._lease, result, started=self._started, schema=self._schema, encode=self._encode
        )
        self._connection.sendall(frames.pack({"completed": True}))


def main(descriptor: int) -> None:
    """Serve until the worker process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    told = frames.read_blocking(connection)
    if told is None:
        return
    hello = msgspec.convert(told, Hello)
    die_with_parent(hello.parent)
    kinds = load_kinds(hello.app)
    keyring = Keyring(hello.keys)
    while (message := frames.read_blocking(connection)) is not None:
        lease = msgspec.convert(message["job"], OpenedLease if message["opened"] else Lease)
        connection.sendall(frames.pack({"took": True}))
        encode = encoding(lease, keyring, hello.max_payload)
        line = PipeLine(connection, lease, hello.schema, encode)
        with continuing(lease, hello.tracing):
            ending = _run(kinds, lease, line, hello.max_payload)
        report = {"type": type(ending).__name__, "ending": msgspec.to_builtins(ending)}
        connection.sendall(frames.pack(report))
    flush()


def _run(kinds: Kinds, lease: Lease, line: PipeLine, max_bytes: int) -> Ending:
    kind = kinds[lease.kind]
    try:
        args, kwargs = call_of(kind, lease, line, max_bytes=max_bytes)
        return after_value(kind, lease, kind.function(*args, **kwargs), max_bytes=max_bytes)
    except BaseException as error:  # noqa: BLE001 - a handler that raises SystemExit fails, and ends no worker
        return after_error(kind, lease, error)


if __name__ == "__main__":
    main(int(sys.argv[1]))
    os._exit(0)
