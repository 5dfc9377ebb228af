"""Serves the collections of a data folder: `python -m perdure.runtime.vectors FOLDER [--parent PID]`.

Where it answers, and the key that it asks for, is written to a file in the folder that only its user can read; the file goes with
the server.
"""

import argparse
import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import uvicorn

from perdure.runtime.orphans import die_with_parent
from perdure.runtime.vectors.answering import answering
from perdure.runtime.vectors.finding import Found, address_file
from perdure.runtime.vectors.shards import Shards

HELD = 3
LOOKS = 10
BETWEEN_LOOKS_S = 0.05


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m perdure.runtime.vectors")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, help="end when this process has ended")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    if given.parent is not None:
        die_with_parent(given.parent)
    given.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((given.folder / "qdrant.lock").open("w"))
        if not _taken(lock):
            sys.stderr.write(f"perdure: another process serves the vectors of {given.folder} already\n")
            return HELD
        shards = Shards(given.folder / "qdrant")
        stack.callback(shards.close)
        listening = stack.enter_context(socket.create_server(("127.0.0.1", given.port)))
        # Connections inherit it; without, an answer in two parts waits 40 ms for the acknowledgement of the first.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = secrets.token_urlsafe(24)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        stack.enter_context(_announced(given.folder, Found(url=url, api_key=key, pid=os.getpid())))
        asyncio.run(_serve(shards, key, listening))
    return 0


def _taken(lock: IO[str]) -> bool:
    """Take the folder's lock; who only looks whether it is served holds it for a moment."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(BETWEEN_LOOKS_S)
        else:
            return True
    return False


async def _serve(shards: Shards, key: str, listening: socket.socket) -> None:
    config = uvicorn.Config(
        answering(shards, key), log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=60
    )
    await uvicorn.Server(config).serve(sockets=[listening])


@contextlib.contextmanager
def _announced(folder: Path, found: Found) -> Iterator[None]:
    """Where it answers stands in the file as long as it does."""
    file = address_file(folder)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
        written.write(found.as_text())
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
