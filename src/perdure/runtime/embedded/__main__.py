"""Runs the owner of a data folder's servers: `python -m perdure.runtime.embedded DATA_DIR`.

By hand it stays in the foreground until Ctrl-C, whether anybody uses the servers or not. Clients start it with
open files of theirs (a lock, a connection); then it goes to the background and ends after its last client.
"""

import argparse
import logging
import os
import socket
import sys
from pathlib import Path

from perdure.runtime.embedded.errors import DataFolderInUse, EmbeddedServerError
from perdure.runtime.embedded.layout import Layout
from perdure.runtime.embedded.options import ServerOptions, add_flags
from perdure.runtime.embedded.owner import Owner, tell
from perdure.runtime.embedded.ownership import try_to_own

FAILED = 6
"""The exit code for a server that is away or not ready."""


def main() -> int:
    given = _parser().parse_args()
    layout = Layout(given.data_dir.resolve())
    options = ServerOptions.from_flags(given)
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s")
    if given.client_fd is None:
        return _serve_in_foreground(layout, options, redis=not given.no_redis)
    if os.fork():
        os._exit(0)  # the client waits for this process only, so the owner is no child of it
    os.chdir("/")
    return _serve_client(layout, options, given.lock_fd, socket.socket(fileno=given.client_fd))


def _serve_client(layout: Layout, options: ServerOptions, lock: int, client: socket.socket) -> int:
    try:
        owner = Owner(layout, options, lock=lock, stays=False)
    except EmbeddedServerError as error:
        tell(client, error)
        return FAILED
    owner.heed_signals()
    owner.serve(client)
    return 0


def _serve_in_foreground(layout: Layout, options: ServerOptions, *, redis: bool) -> int:
    try:
        layout.prepare()
        lock = try_to_own(layout.lock)
        if lock is None:
            raise DataFolderInUse(
                f"the servers of {layout.root} run already, owned by another process",
                next_step="use those, or choose another data folder",
            )
        owner = Owner(layout, options, lock=lock, stays=True)
        owner.heed_signals()
        try:
            urls = owner.start(redis=redis)
        except EmbeddedServerError:
            owner.close()
            raise
    except EmbeddedServerError as error:
        sys.stderr.write(f"{error.message}\n{error.next_step}\n")
        return FAILED
    sys.stdout.write(f"{urls.database_url}\n" + (f"{urls.redis_url}\n" if urls.redis_url else ""))
    sys.stdout.flush()
    owner.serve()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perdure.runtime.embedded", description=__doc__)
    parser.add_argument("data_dir", type=Path, help="where the data and the logs lie")
    parser.add_argument("--no-redis", action="store_true", help="PostgreSQL only (in the foreground)")
    parser.add_argument("--lock-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--client-fd", type=int, help=argparse.SUPPRESS)
    add_flags(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
